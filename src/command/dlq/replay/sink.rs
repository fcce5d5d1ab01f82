//! Letters of a sink.

use super::account::Account;
use super::task::{Next, Task};
use crate::command::dlq::choose::choose;
use crate::command::dlq::{DlqError, refused};
use crate::command::offsets::PipelinePart;
use crate::kafka::letter_marks::MarkWriter;
use crate::kafka::letters::{Letter, LetterId, Mark};
use crate::kafka::producer::TransactionError;
use crate::sink::letters::{LetterEnd, LetterSink, Standing};
use crate::sink::{DatabaseKind, LoadError};

/// So many marks are told to the dead letter topic together.
const MARKS: usize = 500;

/// Replays the letters that the arguments name. Errors: settings, or a database that cannot go on; what was replayed is marked.
pub fn replay(task: &Task<'_>) -> Result<Account, DlqError> {
    let load = task.pipeline.load.as_ref().ok_or_else(|| task.pipeline.lacks(task.part.part))?;
    let runtime = crate::daemon::runtime().map_err(refused)?;
    let kind = match task.part.part {
        PipelinePart::Clickhouse => DatabaseKind::ClickHouse,
        PipelinePart::Relay | PipelinePart::Postgres => DatabaseKind::Postgres,
    };
    let mut sink = LetterSink::open(load, kind, task.topic_id.as_deref(), runtime.handle())
        .map_err(|error| refused(error.to_string()))?;
    let letters = task.read()?;
    let choice = choose(&letters, task.part, &task.args.selection)?;
    let mut account = Account::new(&choice);
    let mut told = Told::new(task)?;
    let mut open = Vec::new();
    for letter in choice.letters {
        let id = &letter.id;
        match sink.standing(id.partition, id.offset, !id.pipeline.is_empty()) {
            Standing::Open => open.push(letter),
            // A process that was killed has not told of it.
            Standing::Replayed => {
                account.already += 1;
                told.add(id)?;
            }
            Standing::WrittenAfterAll if task.is_passed(letter) => {
                account.after_all += 1;
                told.add(id)?;
            }
            // The sink may yet pass it over.
            Standing::WrittenAfterAll => account.ahead(letter),
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
