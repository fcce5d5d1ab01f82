//! `pressline try`: what would come out of events, without Kafka and without a registry. The event takes the way that the
//! relay takes it, so nothing that is printed can hold its address.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::avro::schema::{self, SchemaText};
use crate::command::generate::events::{Events, Unreadable};
use crate::command::places::{PlacesError, relay_of};
use crate::command::trial::{Input, Inputs, Misfit, Outcome, Trial, Written};
use crate::config::format::Format;
use crate::config::{PipelineConfig, sink};
use crate::pipeline::press::enrich::LookupOutcome;
use crate::runtime::stdio;
use crate::runtime::terminal::counted;

/// `pressline try`.
#[derive(Args)]
pub struct TryArgs {
    /// A file with events as JSON, one a line or printed over several; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// The pipeline: its name (of a file in pipelines/), or its file [default: the only one]
    #[arg(short, long, value_name = "NAME|FILE")]
    pipeline: Option<String>,
    /// Settings shared by all pipelines [default: pressline.toml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// One JSON object for each event
    #[arg(long)]
    json: bool,
}

/// Why events cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    /// The pipeline, its GeoIP databases, or standard output.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// The file of events.
    #[error(transparent)]
    Events(#[from] Unreadable),
    /// An event is not of its schema.
    #[error("event {number}: {misfit}")]
    Misfit {
        /// Of the event, from 1 on.
        number: usize,
        /// What does not fit.
        misfit: Misfit,
    },
    /// What was written cannot be read again.
    #[error(
        "event {number}: the output cannot be read back: {reason}; this is a defect of pressline, please report it"
    )]
    Output {
        /// Of the event, from 1 on.
        number: usize,
        /// Why.
        reason: String,
    },
}

/// Prints what becomes of each event; false where one would be a dead letter. Errors: see [`TryError`].
pub fn run(args: &TryArgs) -> Result<bool, TryError> {
    let config = relay_of(args.pipeline.as_deref(), &args.config, &args.sets)?;
    let inputs = inputs(&config)?;
    let mut trial = Trial::new(config, None)?;
    let mut events = Events::open(&args.file)?;
    let (mut number, mut dead, mut filtered) = (0, 0, 0);
    while let Some(event) = events.next_event()? {
        if stdio::is_closed() {
            // Nobody reads the answers.
            break;
        }
        number += 1;
        let event = match inputs {
            Inputs::Json => event,
            Inputs::Avro(_) => inputs
                .bytes(&Input::Text(String::from_utf8_lossy(&event).into_owned()))
                .map_err(|misfit| TryError::Misfit { number, misfit })?,
        };
        let outcome = trial.relay(Some(&event), None, Timestamp::now().as_microsecond());
        let outcome = outcome.map_err(|reason| TryError::Output { number, reason })?;
        dead += usize::from(matches!(outcome, Outcome::Dead(_)));
        filtered += usize::from(matches!(outcome, Outcome::Filtered));
        let config = trial.config();
        stdio::print(if args.json { as_json(config, number, &outcome) } else { as_text(config, number, &outcome) });
    }
    if !args.json {
        let written = number - dead - filtered;
        let filtered =
            if trial.config().transforms.is_empty() { String::new() } else { format!(" + {filtered} filtered") };
        stdio::print(format_args!(
            "{} = {written} written{filtered} + {}\n",
            counted(number, "event"),
            counted(dead, "dead letter")
        ));
    }
    Ok(dead == 0)
}

/// How the events of the file become records: events in Avro are written by hand as JSON.
fn inputs(config: &PipelineConfig) -> Result<Inputs, PlacesError> {
    let Some(path) = sink::path(&config.source.schema).filter(|_| config.source.format == Some(Format::Avro)) else {
        return Ok(Inputs::Json);
    };
    let file = schema::load(&path).map_err(PlacesError::Findings)?;
    Inputs::avro(&SchemaText::from(file.compact.as_str())).map_err(PlacesError::Which)
}

fn as_text(config: &PipelineConfig, number: usize, outcome: &Outcome) -> String {
    let mut text = format!("event {number}: ");
    // Writing to a string cannot fail.
    match outcome {
        Outcome::Dead(reject) => {
            let _ = writeln!(text, "dead letter to {}: {}\n  {reject}", config.dead_topic(), reject.reason.code());
        }
        Outcome::Filtered => text.push_str("filtered\n"),
        Outcome::Written(Written { topic, key, fields, lookups, unknown_fields, .. }) => {
            let key =
                key.as_deref().map_or_else(|| "no key".into(), |key| format!("key {}", String::from_utf8_lossy(key)));
            let places: String = lookups.iter().map(|lookup| format!("; {}", in_words(*lookup))).collect();
            let _ = writeln!(text, "to {topic}, {key}{places}");
            for (name, value) in fields {
                let _ = writeln!(text, "  {name:<17} {value}");
            }
            if *unknown_fields > 0 {
                let _ = writeln!(text, "  not kept: {}", counted(*unknown_fields, "unknown field"));
            }
        }
    }
    text
}

fn as_json(config: &PipelineConfig, number: usize, outcome: &Outcome) -> String {
    let object = match outcome {
        Outcome::Dead(reject) => json!({
            "event": number, "outcome": "dead_letter", "topic": config.dead_topic(), "reason": reject.reason.code(),
            "field": reject.field, "message": reject.to_string()
        }),
        Outcome::Filtered => json!({"event": number, "outcome": "filtered"}),
        Outcome::Written(Written { topic, key, fields, lookups, unknown_fields, .. }) => {
            let places: Vec<&str> = lookups.iter().copied().map(in_words).collect();
            json!({
                "event": number, "outcome": "written", "topic": topic,
                "key": key.as_deref().map(String::from_utf8_lossy),
                "place": places.first(), "places": places, "unknown_fields": unknown_fields,
                "value": fields.iter().cloned().collect::<serde_json::Map<String, Value>>()
            })
        }
    };
    format!("{object}\n")
}

fn in_words(lookup: LookupOutcome) -> &'static str {
    match lookup {
        LookupOutcome::Hit | LookupOutcome::Miss => "place found",
        LookupOutcome::Private => "no place: a private or reserved address",
        LookupOutcome::NotFound => "no place: no GeoIP database knows the address",
        LookupOutcome::NoAddress => "no place: the event has no address",
        LookupOutcome::Failed => "no place: the GeoIP database's record cannot be read",
    }
}
