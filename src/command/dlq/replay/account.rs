//! What became of every letter that was asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::command::dlq::choose::{Choice, printable};
use crate::command::dlq::part::Part;
use crate::command::offsets::PipelinePart;
use crate::kafka::letters::Letter;
use crate::kafka::offset_note::Partition;
use crate::runtime::terminal::counted;

/// Counts of letters, each of which is in one of them.
#[derive(Default)]
pub struct Account {
    /// Replayed now.
    pub replayed: u64,
    /// Of these, such as a filter or `sink.records` keeps back: nothing is written of them.
    pub kept_back: u64,
    /// Replayed before.
    pub already: u64,
    /// Written by the sink itself, which was killed before it passed the record over.
    pub after_all: u64,
    discarded: u64,
    unnamed: u64,
    /// By reason and field.
    dead: BTreeMap<(String, String), Dead>,
    /// By partition: how many, first and last offset, first offset that is kept.
    removed: BTreeMap<Partition, (u64, i64, i64, i64)>,
    nothing: Group,
    another: Group,
    ahead: Group,
    stopped: u64,
}

/// Letters that are dead again: how many, where the first of them lies in the dead letter topic, and its reason in words.
struct Dead {
    count: u64,
    first: (Partition, i64),
    message: String,
}

/// How many, and where the first of them lies in the dead letter topic.
#[derive(Default)]
struct Group(u64, Option<(Partition, i64)>);

impl Group {
    fn add(&mut self, letter: &Letter) {
        self.0 += 1;
        self.1.get_or_insert(letter.at);
    }

    /// `2 letters, the first at 0:17, WHAT`; nothing for none.
    fn line(&self, what: &str) -> Option<String> {
        let (partition, offset) = self.1?;
        Some(format!("  {}, the first at {partition}:{offset}: {what}", counted(self.0, "letter")))
    }
}

impl Account {
    /// Of what was chosen, before anything is done.
    pub fn new(choice: &Choice<'_>) -> Self {
        Self { already: choice.marked.0, discarded: choice.marked.1, unnamed: choice.unnamed, ..Self::default() }
    }

    /// The record is refused again.
    pub fn dead(&mut self, letter: &Letter, reason: &str, field: &str, message: String) {
        let first = || Dead { count: 0, first: letter.at, message };
        self.dead.entry((reason.into(), field.into())).or_insert_with(first).count += 1;
    }

    /// Retention has taken the record; the partition begins at `first` now.
    pub fn removed(&mut self, letter: &Letter, first: i64) {
        let offset = letter.id.offset;
        let known = self.removed.entry(letter.id.partition).or_insert((0, offset, offset, first));
        *known = (known.0 + 1, known.1.min(offset), known.2.max(offset), known.3.max(first));
    }

    /// There is no record.
    pub fn nothing(&mut self, letter: &Letter) {
        self.nothing.add(letter);
    }

    /// There is another record.
    pub fn another(&mut self, letter: &Letter) {
        self.another.add(letter);
    }

    /// The part has yet to come to it.
    pub fn ahead(&mut self, letter: &Letter) {
        self.ahead.add(letter);
    }

    /// So many were left when the command was told to stop.
    pub fn stopped(&mut self, letters: usize) {
        self.stopped = letters as u64;
    }

    fn count_dead(&self) -> u64 {
        self.dead.values().map(|dead| dead.count).sum()
    }

    fn count_removed(&self) -> u64 {
        self.removed.values().map(|(count, ..)| count).sum()
    }

    /// Whether every letter that was asked for is replayed.
    pub fn is_all_replayed(&self) -> bool {
        let left = self.nothing.0 + self.another.0 + self.ahead.0 + self.stopped + self.unnamed;
        left + self.count_dead() + self.count_removed() == 0
    }

    /// The summary: a line with the sum, then what is not replayed, and why.
    pub fn text(&self, part: &Part, is_trial: bool) -> String {
        let (dead, removed) = (self.count_dead(), self.count_removed());
        let counts = [
            (self.replayed, if is_trial { "would be replayed" } else { "replayed" }),
            (self.already, "replayed before"),
            (self.after_all, "written by the sink itself after all"),
            (self.discarded, "discarded before"),
            (dead, "dead again"),
            (removed, "of which retention has taken the record"),
            (self.nothing.0, "of which there is no record any more"),
            (self.another.0, "at whose offset another record is"),
            (self.ahead.0, "not passed yet"),
            (self.unnamed, "not known to be of this pipeline"),
            (self.stopped, "left, since the command was stopped"),
        ];
        let all: u64 = counts.iter().map(|(count, _)| count).sum();
        let shown = counts.iter().enumerate().filter(|(index, (count, _))| *index == 0 || *count > 0);
        let shown: Vec<String> = shown.map(|(_, (count, what))| format!("{count} {what}")).collect();
        let mut text = format!("{} = {}", counted(all, "letter"), shown.join(" + "));
        if self.kept_back > 0 {
            let _ = write!(
                text,
                "\n  of the replayed, {} is kept back by the pipeline: nothing is written of it",
                self.kept_back
            );
        }
        for line in self.lines(part) {
            let _ = write!(text, "\n{line}");
        }
        text
    }

    fn lines(&self, part: &Part) -> Vec<String> {
        let mut lines = Vec::new();
        for ((reason, field), Dead { count, first: (partition, offset), message }) in &self.dead {
            let field = if field.is_empty() { String::new() } else { format!(" ({})", printable(field)) };
            let letters = counted(*count, "letter");
            lines.push(format!(
                "  {letters} dead again, the first at {partition}:{offset}: {}{field}: {}",
                printable(reason),
                printable(message)
            ));
        }
        for (partition, (count, first, last, kept)) in &self.removed {
            lines.push(format!(
                "  {}: partition {partition} of topic {} begins at offset {kept} now; their records were between {first} and {last}. \
                 They cannot be replayed any more: pressline dlq discard",
                counted(*count, "letter"),
                part.source_topic
            ));
        }
        lines.extend(self.nothing.line("compaction has taken the record, or its transaction was aborted"));
        lines.extend(self.another.line(&format!(
            "the record's time is not the letter's: topic {} was made again since, or topic {} does not take such times. Discard them, \
             or, where it is the record, send its offset through the pipeline with pressline replay",
            part.source_topic, part.dead_topic
        )));
        let who = if part.part == PipelinePart::Relay { "the relay" } else { "the sink" };
        lines.extend(self.ahead.line(&format!(
            "{who} has no position behind the record, and may yet write it itself. Let it get there first"
        )));
        if self.unnamed > 0 {
            lines.push(format!(
                "  {} written by an earlier release, which did not name the pipeline: where no other pipeline writes its dead letters to \
                 topic {}, add --unnamed",
                counted(self.unnamed, "letter"),
                part.dead_topic
            ));
        }
        if self.stopped > 0 {
            lines.push("  stopped: run the same command to go on".into());
        }
        lines
    }
}
