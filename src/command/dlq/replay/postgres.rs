//! Letters of the PostgreSQL sink.

use super::account::Account;
use super::{Next, Task};
use crate::command::dlq::choose::choose;
use crate::command::dlq::{DlqError, refused};
use crate::kafka::letter_marks::MarkWriter;
use crate::kafka::letters::{Letter, LetterId, Mark};
use crate::kafka::producer::TransactionError;
use crate::sink::LoadError;
use crate::sink::letters::{LetterEnd, LetterSink};

/// So many marks are told to the dead letter topic together.
const MARKS: usize = 500;

/// Replays the letters that the arguments name. Errors: settings, or a database that cannot go on; what was replayed is marked.
pub fn replay(task: &Task<'_>) -> Result<Account, DlqError> {
    let load = task.pipeline.load.as_ref().ok_or_else(|| task.pipeline.lacks(task.part.part))?;
    let runtime = crate::daemon::runtime().map_err(refused)?;
    let mut sink = LetterSink::postgres(load, task.topic_id.as_deref(), runtime.handle())
        .map_err(|error| refused(error.to_string()))?;
    let marked = sink.marked().map_err(failed)?;
    let letters = task.read()?;
    let choice = choose(&letters, task.part, &task.args.selection)?;
    let mut account = Account::new(&choice);
    let mut told = Told::new(task)?;
    let mut open = Vec::new();
    for letter in choice.letters {
        if marked.contains(&(letter.id.partition, letter.id.offset)) {
            // A process that was killed has not told of it.
            account.already += 1;
            told.add(&letter.id)?;
        } else {
            open.push(letter);
        }
    }
    task.begin(open.len());
    let mut again = |letter: &Letter, record: rdkafka::message::BorrowedMessage<'_>, account: &mut Account| {
        match sink.write(record, task.args.dry_run).map_err(failed)? {
            LetterEnd::Written => account.replayed += 1,
            LetterEnd::LeftOut => {
                account.replayed += 1;
                account.kept_back += 1;
            }
            LetterEnd::Marked => account.already += 1,
            LetterEnd::Dead(refusal) => {
                account.dead(letter, refusal.why.code(), refusal.field(), refusal.to_string());
                return Ok(Next::Letter);
            }
        }
        told.add(&letter.id)?;
        Ok(Next::Letter)
    };
    let walked = task.walk(&open, &mut account, &mut again);
    told.flush()?;
    walked.map(|_| account)
}

fn failed(error: LoadError) -> DlqError {
    refused(format!("{error}\nwhat was replayed until then is marked: run the same command again to go on"))
}

/// Letters that are marked in the database, and not yet in the dead letter topic, where `ls` looks.
struct Told {
    writer: Option<MarkWriter>,
    letters: Vec<LetterId>,
}

impl Told {
    fn new(task: &Task<'_>) -> Result<Self, DlqError> {
        let writer = (!task.args.dry_run).then(|| MarkWriter::new(&task.part.kafka, &task.part.dead_topic));
        Ok(Self { writer: writer.transpose().map_err(not_told)?, letters: Vec::new() })
    }

    fn add(&mut self, letter: &LetterId) -> Result<(), DlqError> {
        self.letters.push(letter.clone());
        if self.letters.len() < MARKS { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), DlqError> {
        let letters = std::mem::take(&mut self.letters);
        match &mut self.writer {
            Some(writer) => writer.write(&letters, &Mark::Replayed).map_err(not_told),
            None => Ok(()),
        }
    }
}

fn not_told(error: TransactionError) -> DlqError {
    refused(format!(
        "{error}\nthe rows are written and marked in the database, but the dead letter topic does not tell it yet: run the same command \
         again"
    ))
}
