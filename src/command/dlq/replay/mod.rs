//! `pressline dlq replay`: the records of letters by the pipeline as it is now, each exactly once.
//!
//! | Part | Where the mark is that a letter was replayed |
//! | --- | --- |
//! | relay | in the dead letter topic, in the Kafka transaction of the output |
//! | PostgreSQL | in the positions' table, in the transaction of the row; told in the dead letter topic afterwards |
//! | ClickHouse | in the table: the row itself, by the coordinates of its record; told in the dead letter topic afterwards |

mod account;
mod relay;
mod sink;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::message::{BorrowedMessage, Message};

use super::choose::{self, Reach};
use super::part::Part;
use super::{DlqError, ReplayArgs, refused};
use crate::command::offsets::{Pipeline, PipelinePart, Positions, say};
use crate::kafka::letters::Letter;
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::records::{At, RecordsAt};
use crate::runtime::terminal::{Bar, counted};
use account::Account;

/// What a replay has at hand, whatever the part.
struct Task<'t> {
    args: &'t ReplayArgs,
    pipeline: &'t Pipeline,
    part: &'t Part,
    /// How far the part itself has come.
    passed: BTreeMap<Partition, NextOffset>,
    /// The topic's id, where the brokers have such.
    topic_id: Option<String>,
    stop: Arc<AtomicBool>,
}

/// Runs the command; gives whether every letter that was asked for is replayed.
pub fn run(args: &ReplayArgs) -> Result<bool, DlqError> {
    let pipeline = args.selection.chosen.which.load()?;
    crate::runtime::log::init(&pipeline.log).map_err(refused)?;
    let part = Part::chosen(&pipeline, &args.selection.chosen)?;
    let stop = crate::command::generate::send::stop_on_signal().map_err(|error| refused(error.to_string()))?;
    let (passed, topic_id) = passed(&pipeline, part.part)?;
    let task = Task { args, pipeline: &pipeline, part: &part, passed, topic_id, stop };
    let account = match part.part {
        PipelinePart::Relay => relay::replay(&task)?,
        _ => sink::replay(&task)?,
    };
    say(account.text(&part, args.dry_run));
    Ok(account.is_all_replayed())
}

/// How far the part has come in each partition, and the topic's id. Errors: its positions belong to another topic of that name.
fn passed(
    pipeline: &Pipeline,
    part: PipelinePart,
) -> Result<(BTreeMap<Partition, NextOffset>, Option<String>), DlqError> {
    let positions = Positions::open(pipeline, part)?;
    let id = positions.group.topic_id.as_ref().map(|id| id.as_str().to_string());
    let mut passed = BTreeMap::new();
    for (partition, stand) in positions.read()? {
        if stand.topic_id.is_some() && stand.topic_id != id {
            return Err(refused(format!(
                "topic {} was made again since partition {partition} was read, so letters of before are about other records: {} \
                 shows more",
                positions.group.topic,
                positions.advice.show()
            )));
        }
        passed.extend(stand.position.map(|position| (partition, position)));
    }
    Ok((passed, id))
}

impl Task<'_> {
    /// The letters of the dead letter topic, as far as this must know.
    fn read(&self) -> Result<crate::kafka::letters::Letters, DlqError> {
        let reach = if self.args.dry_run { Reach::Committed } else { Reach::Decided };
        choose::read(self.part, reach)
    }

    /// Whether the part has come past the letter's record.
    fn is_passed(&self, letter: &Letter) -> bool {
        self.passed.get(&letter.id.partition).is_some_and(|position| letter.id.offset < *position)
    }

    fn begin(&self, letters: usize) {
        let Part { pipeline, part, dead_topic, .. } = self.part;
        let trial = if self.args.dry_run { "trial, nothing is written: " } else { "" };
        say(format!(
            "{trial}{} of {pipeline}, {}, in topic {dead_topic}",
            counted(letters as u64, "open letter"),
            part.name()
        ));
    }

    /// Gives each letter's record, as far as it is there, to `again`, which says what becomes of it. Ends early when the command is told
    /// to stop, or `again` says so.
    fn walk(
        &self,
        letters: &[&Letter],
        account: &mut Account,
        again: &mut dyn FnMut(&Letter, BorrowedMessage<'_>, &mut Account) -> Result<Next, DlqError>,
    ) -> Result<Next, DlqError> {
        let mut records = RecordsAt::open(&self.part.kafka, &self.part.source_topic)?;
        let bar = Bar::new(Some(letters.len() as u64), "letters");
        for (done, letter) in (0..).zip(letters) {
            bar.iter().for_each(|bar| bar.at(done));
            if self.stop.load(Ordering::Relaxed) {
                account.stopped(letters.len() - done as usize);
                break;
            }
            let (partition, offset) = (letter.id.partition, letter.id.offset);
            if !self.is_passed(letter) {
                account.ahead(letter);
                continue;
            }
            match records.at(partition, offset)? {
                At::Record(record) if !letter.is_about(record.timestamp()) => account.another(letter),
                At::Record(record) => {
                    if again(letter, record, account)? == Next::Restart {
                        return Ok(Next::Restart);
                    }
                }
                At::Removed(first) => account.removed(letter, first),
                At::Nothing => account.nothing(letter),
            }
        }
        Ok(Next::Letter)
    }
}

/// How a replay goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// With the next letter.
    Letter,
    /// From the marks on: what was done is read again.
    Restart,
}
