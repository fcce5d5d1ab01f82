//! The way from letters to their records, whatever the part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::message::{BorrowedMessage, Message};

use super::account::Account;
use crate::command::dlq::choose::{self, Reach};
use crate::command::dlq::part::Part;
use crate::command::dlq::{DlqError, ReplayArgs};
use crate::command::offsets::{Pipeline, say};
use crate::kafka::letters::{Letter, Letters};
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::records::{At, RecordsAt};
use crate::runtime::terminal::{Bar, counted};

/// What a replay has at hand, whatever the part.
pub struct Task<'t> {
    /// The arguments.
    pub args: &'t ReplayArgs,
    /// The pipeline.
    pub pipeline: &'t Pipeline,
    /// The part whose letters they are.
    pub part: &'t Part,
    /// How far the part itself has come.
    pub passed: BTreeMap<Partition, NextOffset>,
    /// The topic's id, where the brokers have such.
    pub topic_id: Option<String>,
    /// Set when the command is told to stop.
    pub stop: Arc<AtomicBool>,
}

impl Task<'_> {
    /// The letters of the dead letter topic, as far as this must know.
    pub fn read(&self) -> Result<Letters, DlqError> {
        let reach = if self.args.dry_run { Reach::Committed } else { Reach::Decided };
        choose::read(self.part, reach)
    }

    /// Whether the part has come past the letter's record.
    pub fn is_passed(&self, letter: &Letter) -> bool {
        self.passed.get(&letter.id.partition).is_some_and(|position| letter.id.offset < *position)
    }

    /// Says what is to be done.
    pub fn begin(&self, letters: usize) {
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
    pub fn walk(
        &self,
        letters: &[&Letter],
        account: &mut Account,
        again: &mut dyn FnMut(&Letter, BorrowedMessage<'_>, &mut Account) -> Result<Next, DlqError>,
    ) -> Result<Next, DlqError> {
        let mut records = RecordsAt::open(&self.part.kafka, &self.part.source_topic, &self.part.group)?;
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
pub enum Next {
    /// With the next letter.
    Letter,
    /// From the marks on: what was done is read again.
    Restart,
}
