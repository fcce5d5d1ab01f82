//! `pressline try`: what would come out of events, without Kafka and without a registry. The event takes the way that the
//! relay takes it, so nothing that is printed can hold its address.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::avro::schema;
use crate::avro::{Cursor, Field, Shape, write_json};
use crate::command::generate::events::{Events, Unreadable};
use crate::command::places::{PlacesError, relay_of};
use crate::config::PipelineConfig;
use crate::kafka::dead_letter::Reject;
use crate::pipeline::press::decode::{Decoder, Limits};
use crate::pipeline::press::encode::{Encoder, HEADER_BYTES};
use crate::pipeline::press::enrich::{Enricher, LookupOutcome};
use crate::pipeline::press::event::{Actions, Press};
use crate::place::{Chain, Coarsening, FragmentCache, Gazetteer, GazetteerFiles, Places};
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

/// What becomes of one event.
enum Outcome {
    /// Written: the key, the fields, how the place was found, and how many fields are not kept.
    Written { key: String, value: Vec<(String, Value)>, place: &'static str, dropped: u32 },
    /// A dead letter.
    Dead(Reject),
}

/// The relay's stages, with the fields of its output.
struct Trial {
    config: PipelineConfig,
    decoder: Decoder,
    enricher: Enricher,
    encoder: Arc<Encoder>,
    fields: Vec<Field>,
}

/// Prints what becomes of each event; false where one would be a dead letter. Errors: see [`TryError`].
pub fn run(args: &TryArgs) -> Result<bool, TryError> {
    let config = relay_of(args.pipeline.as_deref(), &args.config, &args.sets)?;
    let trial = Trial::new(config)?;
    let mut events = Events::open(&args.file)?;
    let (mut number, mut dead) = (0, 0);
    while let Some(event) = events.next_event()? {
        if stdio::is_closed() {
            // Nobody reads the answers.
            break;
        }
        number += 1;
        let outcome = trial.outcome(number, &event)?;
        dead += usize::from(matches!(outcome, Outcome::Dead(_)));
        stdio::print(if args.json { trial.as_json(number, &outcome) } else { trial.as_text(number, &outcome) });
    }
    if !args.json {
        let written = number - dead;
        stdio::print(format_args!(
            "{} = {written} written + {}\n",
            counted(number, "event"),
            counted(dead, "dead letter")
        ));
    }
    Ok(dead == 0)
}

impl Trial {
    fn new(config: PipelineConfig) -> Result<Self, PlacesError> {
        if !config.is_press() {
            let what = "the pipeline has transforms or a format of its own, and only button presses can be tried";
            return Err(PlacesError::Which(format!("{}: {what}; see `pressline check --explain`", config.name)));
        }
        let schema = schema::load(&config.schema_file().unwrap_or_default()).map_err(PlacesError::Findings)?;
        let actions = Actions::new(config.source.actions.clone());
        let actions = Arc::new(actions.map_err(|error| PlacesError::Which(format!("source.actions: {error}")))?);
        let place_of_schema = schema.path.display().to_string();
        // The registry's id of the schema is not part of what is shown.
        let encoder = Encoder::compile(&schema.schema, 0, &actions, &place_of_schema);
        let encoder = Arc::new(encoder.map_err(PlacesError::Findings)?);
        let shape =
            Shape::parse(&schema.compact).map_err(|what| PlacesError::Which(format!("output.schema: {what}")))?;
        let Shape::Record(fields) = shape else {
            return Err(PlacesError::Which("output.schema: expected a record".into()));
        };
        let coarsening = Coarsening::from(&config.place);
        let paths = config.place.paths();
        let places = if coarsening.min_addresses > 0 { Places::open_counted(&paths)? } else { Places::open(&paths)? };
        let gazetteer = GazetteerFiles::named(&config.place.gazetteer).map(|files| Gazetteer::open(&files));
        let gazetteer = gazetteer.transpose().map_err(|error| PlacesError::Gazetteer(error.to_string()))?;
        let chain = Chain::uncounted(gazetteer.map(Arc::new), None);
        let cache = Arc::new(FragmentCache::new(1_000));
        let enricher = Enricher::new(Arc::new(places), cache, encoder.clone())
            .with_coarsening(coarsening)
            .with_chain(Arc::new(chain));
        let limits = Limits { max_record_bytes: config.source.max_record_bytes, max_depth: config.source.max_depth };
        Ok(Self {
            decoder: Decoder::new(limits, actions).with_bad_ip(config.source.bad_ip),
            enricher,
            encoder,
            fields,
            config,
        })
    }

    fn outcome(&self, number: usize, event: &[u8]) -> Result<Outcome, TryError> {
        let press = match self.decoder.decode(Some(event), Timestamp::now().as_microsecond()) {
            Ok(press) => press,
            Err(reject) => return Ok(Outcome::Dead(reject)),
        };
        let dropped = press.unknown_fields;
        let (address, body) = Press::split(press);
        let (fragment, lookup) = self.enricher.fragment(address.as_ref());
        let mut bytes = Vec::new();
        self.encoder.encode(&body, &fragment, &mut bytes);
        let value = self.read(&bytes).map_err(|reason| TryError::Output { number, reason })?;
        Ok(Outcome::Written { key: body.session_id.as_str().to_owned(), value, place: in_words(lookup), dropped })
    }

    /// The fields of a value in Confluent's wire format, in the schema's order.
    fn read(&self, bytes: &[u8]) -> Result<Vec<(String, Value)>, String> {
        let mut cursor = Cursor::new(bytes.get(HEADER_BYTES..).unwrap_or_default());
        let mut value = Vec::with_capacity(self.fields.len());
        for Field { name, shape, .. } in &self.fields {
            let mut text = Vec::new();
            write_json(shape, &mut cursor, &mut text).map_err(|error| format!("{name}: {error}"))?;
            let read = serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))?;
            value.push((name.clone(), read));
        }
        Ok(value)
    }

    fn as_text(&self, number: usize, outcome: &Outcome) -> String {
        let mut text = format!("event {number}: ");
        // Writing to a string cannot fail.
        match outcome {
            Outcome::Dead(reject) => {
                let _ =
                    writeln!(text, "dead letter to {}: {}\n  {reject}", self.config.dead_topic(), reject.reason.code());
            }
            Outcome::Written { key, value, place, dropped } => {
                let _ = writeln!(text, "to {}, key {key}; {place}", self.config.output.topic);
                for (name, value) in value {
                    let _ = writeln!(text, "  {name:<17} {value}");
                }
                if *dropped > 0 {
                    let _ = writeln!(text, "  not kept: {}", counted(*dropped, "unknown field"));
                }
            }
        }
        text
    }

    fn as_json(&self, number: usize, outcome: &Outcome) -> String {
        let object = match outcome {
            Outcome::Dead(reject) => json!({
                "event": number, "outcome": "dead_letter", "topic": self.config.dead_topic(), "reason": reject.reason.code(),
                "field": reject.field, "message": reject.to_string()
            }),
            Outcome::Written { key, value, place, dropped } => json!({
                "event": number, "outcome": "written", "topic": self.config.output.topic, "key": key, "place": place,
                "unknown_fields": dropped, "value": value.iter().cloned().collect::<serde_json::Map<_, _>>()
            }),
        };
        format!("{object}\n")
    }
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
