//! The letters of a part that a command is about.

use std::collections::BTreeSet;

use super::part::Part;
use super::{DlqError, Filter, Selection, refused};
use crate::command::consume::text;
use crate::kafka::letters::{Letter, Letters};
use crate::kafka::records::Records;
use crate::runtime::terminal::Bar;
use crate::sink::VIEW;

/// How far the dead letter topic is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Up to the last committed record of now.
    Committed,
    /// Up to its very end: what is open is waited for.
    Decided,
}

/// Reads a dead letter topic. Errors: there is none; it cannot be read.
pub fn read(part: &Part, reach: Reach) -> Result<Letters, DlqError> {
    let mut records = Records::open(&part.kafka, &part.dead_topic, &part.group)?;
    let ranges = match reach {
        Reach::Committed => records.ranges()?,
        Reach::Decided => records.decided_ranges()?,
    };
    if ranges.is_empty() {
        return Err(refused(format!(
            "topic {} does not exist: no letter was written yet, or the name is another. pressline topics create makes it",
            part.dead_topic
        )));
    }
    let all = ranges.values().map(|(low, high)| u64::try_from(high - low).unwrap_or_default()).sum();
    let bar = Bar::new(Some(all), "dead letters");
    let mut turn = |read| bar.iter().for_each(|bar| bar.at(read));
    Ok(Letters::read(&mut records, &ranges, VIEW, &mut turn)?)
}

impl Filter {
    /// Whether the letter is asked for.
    pub fn takes(&self, letter: &Letter) -> bool {
        let of = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|one| one == found);
        let from = self.from.is_none_or(|from| letter.timestamp_ms.is_some_and(|ms| ms >= from.as_millisecond()));
        let to = self.to.is_none_or(|to| letter.timestamp_ms.is_some_and(|ms| ms < to.as_millisecond()));
        of(&self.reason, &letter.reason) && of(&self.field, &letter.field) && from && to
    }

    /// Errors: a reason that no letter has, which may be misspelt.
    pub fn known_reasons(&self, letters: &Letters) -> Result<(), DlqError> {
        let known: BTreeSet<&str> = letters.all().map(|(letter, _)| &*letter.reason).collect();
        match self.reason.iter().find(|reason| !known.contains(reason.as_str())) {
            Some(reason) => {
                let known: Vec<String> = known.into_iter().map(printable).collect();
                let known = if known.is_empty() { "there is no letter at all".into() } else { known.join(", ") };
                Err(refused(format!("--reason {}: no letter has it; there are: {known}", printable(reason))))
            }
            None => Ok(()),
        }
    }
}

/// What was chosen, and what was left for its origin alone.
pub struct Choice<'l> {
    /// The letters, in the order of their records.
    pub letters: Vec<&'l Letter>,
    /// Letters that would be asked for, were it known that this pipeline wrote them.
    pub unnamed: u64,
    /// Letters that were replayed before, and those that were discarded.
    pub marked: (u64, u64),
}

/// The part's open letters that a selection takes. Errors: a letter by its place that is not there, or not this part's.
pub fn choose<'l>(letters: &'l Letters, part: &Part, selection: &Selection) -> Result<Choice<'l>, DlqError> {
    use crate::kafka::letters::Mark;
    selection.filter.known_reasons(letters)?;
    let mut choice = Choice { letters: Vec::new(), unnamed: 0, marked: (0, 0) };
    let mut missing: BTreeSet<(i32, i64)> = selection.letter.iter().map(|at| (at.0, at.1)).collect();
    let named = missing.clone();
    for (letter, mark) in letters.all() {
        let is_named = named.is_empty() || named.contains(&letter.at);
        let wrote = part.wrote(letter);
        if wrote == Some(false) || !is_named || !selection.filter.takes(letter) {
            continue;
        }
        missing.remove(&letter.at);
        match (mark, wrote) {
            (Some((Mark::Replayed, _)), _) => choice.marked.0 += 1,
            (Some((Mark::Discarded(_), _)), _) => choice.marked.1 += 1,
            (None, None) if !selection.unnamed => choice.unnamed += 1,
            (None, _) => choice.letters.push(letter),
        }
    }
    match missing.first() {
        None => Ok(choice),
        Some((partition, offset)) => Err(refused(format!(
            "--letter {partition}:{offset}: topic {} has no letter of pipeline {}, {}, there. pressline dlq ls --each shows where they \
             lie; of two letters about one record only the later counts",
            part.dead_topic,
            part.pipeline,
            part.part.name()
        ))),
    }
}

/// Text from the topic, which anybody may have written, for a terminal.
pub fn printable(text: &str) -> String {
    let mut quoted = String::new();
    text::string(text, &mut quoted);
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_string()
}

/// A record's time for people.
pub fn time(ms: Option<i64>) -> String {
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".into(), |time| format!("{time:.3}"))
}
