//! `pressline dlq ls`: letters counted by reason, field and time, or one by one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::choose::{self, Reach, printable, time};
use super::part::Part;
use super::{DlqError, LsArgs, Span};
use crate::command::offsets::{aligned, say};
use crate::kafka::letters::{Letter, Letters, Mark, Marked};
use crate::runtime::terminal::counted;

/// Letters of one kind, counted together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    part: &'static str,
    reason: String,
    field: String,
    since: String,
}

/// How many there are of a kind.
#[derive(Default)]
struct Count {
    open: u64,
    replayed: u64,
    discarded: u64,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
}

/// Runs the command.
pub fn run(args: &LsArgs) -> Result<(), DlqError> {
    let pipeline = args.which.load()?;
    let parts = match args.sink {
        Some(part) => vec![Part::of(&pipeline, part)?],
        None => pipeline.parts().into_iter().map(|part| Part::of(&pipeline, part)).collect::<Result<_, _>>()?,
    };
    let mut read: BTreeMap<&str, Letters> = BTreeMap::new();
    for part in &parts {
        if !read.contains_key(part.dead_topic.as_str()) {
            read.insert(&part.dead_topic, choose::read(part, Reach::Committed)?);
        }
    }
    let mut found = Vec::new();
    for part in &parts {
        let letters = read.get(part.dead_topic.as_str()).into_iter().flat_map(Letters::all);
        found.extend(letters.filter_map(|(letter, mark)| {
            let wrote = part.wrote(letter);
            (wrote != Some(false) && args.filter.takes(letter)).then_some(Found { part, letter, mark })
        }));
    }
    let unnamed = found.iter().filter(|found| found.mark.is_none() && found.letter.id.pipeline.is_empty()).count();
    if args.each {
        each(&found, args.json)
    } else {
        counts(&found, args)
    }
    if !args.json && unnamed > 0 {
        say(format!(
            "{} not name the pipeline, since an earlier release wrote them: replay and discard take such with --unnamed only",
            if unnamed == 1 { "1 letter does".into() } else { format!("{unnamed} letters do") }
        ));
    }
    Ok(())
}

/// A letter of a part.
struct Found<'l> {
    part: &'l Part,
    letter: &'l Letter,
    mark: Option<&'l Marked>,
}

impl Found<'_> {
    fn state(&self) -> &'static str {
        match self.mark {
            None => "open",
            Some((Mark::Replayed, _)) => Mark::REPLAYED,
            Some((Mark::Discarded(_), _)) => Mark::DISCARDED,
        }
    }
}

fn each(found: &[Found<'_>], json: bool) {
    let mut lines =
        vec![["PART", "LETTER", "TOPIC", "RECORD", "REASON", "FIELD", "TIME", "STATE"].map(String::from).to_vec()];
    for one in found {
        let Letter { at, id, reason, field, timestamp_ms, message, .. } = one.letter;
        let part = one.part.part.name();
        if json {
            say(json!({
                "part": part, "dead_letter_topic": one.part.dead_topic, "partition": at.0, "offset": at.1, "topic": *id.topic,
                "record_partition": id.partition, "record_offset": id.offset, "reason": **reason, "field": **field,
                "message": **message, "timestamp": timestamp_ms, "state": one.state(),
            }));
            continue;
        }
        lines.push(vec![
            part.into(),
            format!("{}:{}", at.0, at.1),
            printable(&id.topic),
            format!("{}:{}", id.partition, id.offset),
            printable(reason),
            printable(field),
            time(*timestamp_ms),
            one.state().into(),
        ]);
    }
    if !json && found.is_empty() {
        say("no letters");
    } else if !json {
        say(aligned(&lines).trim_end());
    }
}

fn counts(found: &[Found<'_>], args: &LsArgs) {
    let mut counts: BTreeMap<Kind, Count> = BTreeMap::new();
    for one in found {
        let kind = Kind {
            part: one.part.part.name(),
            reason: one.letter.reason.to_string(),
            field: one.letter.field.to_string(),
            since: args.by.map(|span| start(one.letter.timestamp_ms, span)).unwrap_or_default(),
        };
        counts.entry(kind).or_default().add(one);
    }
    if args.json {
        for (kind, count) in &counts {
            let mut object = json!({
                "part": kind.part, "reason": kind.reason, "field": kind.field, "open": count.open, "replayed": count.replayed,
                "discarded": count.discarded, "first": count.first_ms, "last": count.last_ms,
            });
            if args.by.is_some() {
                object["since"] = json!(kind.since);
            }
            say(object);
        }
        return;
    }
    if counts.is_empty() {
        return say("no letters");
    }
    say(table(&counts, args.by.is_some()).trim_end());
    let open: u64 = counts.values().map(|count| count.open).sum();
    let marked: u64 = counts.values().map(|count| count.replayed + count.discarded).sum();
    say(format!("{}: {open} open, {marked} replayed or discarded", counted(open + marked, "letter")));
}

fn table(counts: &BTreeMap<Kind, Count>, by_time: bool) -> String {
    let mut heads = vec!["PART", "REASON", "FIELD", "OPEN", "REPLAYED", "DISCARDED", "FIRST RECORD", "LAST RECORD"];
    if by_time {
        heads.insert(3, "SINCE");
    }
    let mut lines: Vec<Vec<String>> = vec![heads.into_iter().map(String::from).collect()];
    for (kind, count) in counts {
        let mut line = vec![kind.part.to_string(), printable(&kind.reason), printable(&kind.field)];
        line.extend(by_time.then(|| kind.since.clone()));
        line.extend([count.open, count.replayed, count.discarded].map(|count| count.to_string()));
        line.extend([time(count.first_ms), time(count.last_ms)]);
        lines.push(line);
    }
    aligned(&lines)
}

impl Count {
    fn add(&mut self, one: &Found<'_>) {
        match one.mark {
            None => self.open += 1,
            Some((Mark::Replayed, _)) => self.replayed += 1,
            Some((Mark::Discarded(_), _)) => self.discarded += 1,
        }
        let ms = one.letter.timestamp_ms;
        self.first_ms = self.first_ms.into_iter().chain(ms).min();
        self.last_ms = self.last_ms.max(ms);
    }
}

/// The hour or day that a time lies in: `2026-11-21T20:00Z`, `2026-11-21`.
fn start(ms: Option<i64>, span: Span) -> String {
    let Some(at) = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()) else { return "-".into() };
    let at = jiff::tz::Offset::UTC.to_datetime(at);
    match span {
        Span::Hour => format!("{}T{:02}:00Z", at.date(), at.hour()),
        Span::Day => at.date().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_begin_in_utc() {
        assert_eq!(start(Some(0), Span::Day), "1970-01-01");
        assert_eq!(start(Some(3_599_999), Span::Hour), "1970-01-01T00:00Z");
        assert_eq!(start(Some(3_600_000), Span::Hour), "1970-01-01T01:00Z");
        assert_eq!(start(None, Span::Day), "-");
    }
}
