//! `pressline dlq show`: one letter, and the record that it is about.

use serde_json::{Value, json};

use super::choose::{self, Reach, printable, time};
use super::part::Part;
use super::withhold::{self, STYLE, Shown};
use super::{DlqError, ShowArgs, refused};
use crate::avro::registry::Registry;
use crate::command::consume::ConsumeError;
use crate::command::consume::decode::{Decoder, FromRegistry, Schemas};
use crate::command::offsets::{Pipeline, say};
use crate::kafka::letters::{Letter, Mark, Marked};
use crate::kafka::records::{At, RecordsAt};

/// The record of a letter, or why it is not there.
type Source = Result<Shown, String>;

/// Runs the command. Errors: there is no such letter.
pub fn run(args: &ShowArgs) -> Result<(), DlqError> {
    let pipeline = args.chosen.which.load()?;
    let part = Part::chosen(&pipeline, &args.chosen)?;
    let letters = choose::read(&part, Reach::Committed)?;
    let at = (args.letter.0, args.letter.1);
    let mut found = letters.all().filter(|(letter, _)| letter.at == at && part.wrote(letter) != Some(false));
    let Some((letter, mark)) = found.next() else {
        return Err(refused(format!(
            "topic {} has no letter of pipeline {}, {}, at {}:{}. pressline dlq ls --each shows where they lie; of two letters about \
             one record only the later counts",
            part.dead_topic,
            part.pipeline,
            part.part.name(),
            at.0,
            at.1
        )));
    };
    let source = if args.source { Some(source(&pipeline, &part, letter)?) } else { None };
    if args.json {
        say(object(&part, letter, mark, source.as_ref()))
    } else {
        say(page(&part, letter, mark, source.as_ref()))
    }
    Ok(())
}

fn source(pipeline: &Pipeline, part: &Part, letter: &Letter) -> Result<Source, DlqError> {
    let registry = pipeline.relay.as_ref().map(|relay| &relay.registry);
    let registry = registry.or(pipeline.load.as_ref().map(|load| &load.registry));
    let schemas = registry.map(|config| {
        let registry = Registry::new(config).map_err(|error| ConsumeError::Registry(Box::new(error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok::<_, ConsumeError>(Box::new(FromRegistry { registry, runtime }) as Box<dyn Schemas>)
    });
    let mut decoder = Decoder::new(schemas.transpose()?, STYLE);
    let addresses = pipeline.relay.as_ref().map(withhold::address_fields).unwrap_or_default();
    let mut records = RecordsAt::open(&part.kafka, &part.source_topic, &part.group)?;
    Ok(match records.at(letter.id.partition, letter.id.offset)? {
        At::Record(record) => Ok(withhold::shown(&record, &mut decoder, &addresses)?),
        At::Removed(first) => Err(format!("retention has taken it: the partition begins at offset {first} now")),
        At::Nothing => Err("there is no record at that offset any more".into()),
    })
}

fn state(mark: Option<&Marked>) -> String {
    match mark {
        None => "open".into(),
        Some((Mark::Replayed, at)) => format!("replayed at {}", time(*at)),
        Some((Mark::Discarded(why), at)) => format!("discarded at {}: {}", time(*at), printable(why)),
    }
}

fn page(part: &Part, letter: &Letter, mark: Option<&Marked>, source: Option<&Source>) -> String {
    let Letter { at, id, reason, field, message, timestamp_ms, .. } = letter;
    let pipeline = if id.pipeline.is_empty() { "not named".into() } else { printable(&id.pipeline) };
    let mut lines = vec![
        ("letter", format!("{} {}:{}", part.dead_topic, at.0, at.1)),
        (
            "record",
            format!(
                "{} partition {} offset {}, {}",
                printable(&id.topic),
                id.partition,
                id.offset,
                time(*timestamp_ms)
            ),
        ),
        ("pipeline", format!("{pipeline}, {}", part.part.name())),
        ("reason", printable(reason)),
        ("field", printable(field)),
        ("message", printable(message)),
        ("state", state(mark)),
    ];
    match source {
        None => {}
        Some(Err(why)) => lines.push(("source", why.clone())),
        Some(Ok(shown)) => {
            lines.push(("time", shown.time.clone()));
            lines.extend(shown.headers.iter().map(|(name, value)| ("header", format!("{}={value}", printable(name)))));
            lines.extend(shown.parts.iter().map(|(name, text)| (*name, text.clone())));
            lines.extend(shown.problem.iter().map(|problem| ("problem", printable(problem))));
        }
    }
    let lines: Vec<String> =
        lines.iter().map(|(name, text)| format!("{name:<9} {text}").trim_end().to_string()).collect();
    lines.join("\n")
}

fn object(part: &Part, letter: &Letter, mark: Option<&Marked>, source: Option<&Source>) -> Value {
    let Letter { at, id, reason, field, message, timestamp_ms, .. } = letter;
    let mut object = json!({
        "part": part.part.name(), "pipeline": *id.pipeline, "dead_letter_topic": part.dead_topic, "partition": at.0, "offset": at.1,
        "topic": *id.topic, "record_partition": id.partition, "record_offset": id.offset, "reason": **reason, "field": **field,
        "message": **message, "timestamp": timestamp_ms, "state": state(mark),
    });
    match source {
        None => {}
        Some(Ok(shown)) => object["source"] = shown.object(),
        Some(Err(why)) => object["source_missing"] = json!(why),
    }
    object
}
