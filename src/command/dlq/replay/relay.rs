//! Letters of the relay.

use std::sync::Arc;

use tokio::sync::watch;

use super::account::Account;
use super::task::{Next, Task};
use crate::command::dlq::choose::choose;
use crate::command::dlq::{DlqError, refused};
use crate::kafka::letters::{Letter, LetterId};
use crate::pipeline::relay::RelayShared;
use crate::pipeline::relay::letters::{LetterRelay, Made, Output};
use crate::runtime::supervise::WorkerError;

/// Letters, and bytes of their outputs, of one transaction at most.
const LETTERS: usize = 500;
const BYTES: usize = 4 << 20;
/// How often it begins again from the marks, after transactions of which it is not known whether they were committed.
const ROUNDS: u32 = 5;

/// Outputs and letters of one transaction.
#[derive(Default)]
struct Batch {
    outputs: Vec<Output>,
    letters: Vec<LetterId>,
    bytes: usize,
}

/// Replays the letters that the arguments name. Errors: settings; another process replays letters of the pipeline; what was replayed is
/// marked.
pub fn replay(task: &Task<'_>) -> Result<Account, DlqError> {
    let config = task.pipeline.relay.clone().ok_or_else(|| task.pipeline.lacks(task.part.part))?;
    let runtime = crate::daemon::runtime().map_err(refused)?;
    let (_stop, stopped) = watch::channel(false);
    let shared = runtime.block_on(crate::pipeline::start::shared(config, stopped)).map_err(refused)?;
    let shared: Arc<RelayShared> = shared.ok_or_else(|| refused("stopped before it began"))?;
    let mut relay = LetterRelay::new(shared).map_err(|error| failed(&error))?;
    let mut before = None;
    for round in 1.. {
        match replay_round(task, &mut relay, &mut before) {
            Ok((account, Next::Letter)) => {
                relay.close(false);
                return Ok(account);
            }
            Ok((_, Next::Restart)) => {}
            Err(Failure::Other(error)) => {
                relay.close(false);
                return Err(error);
            }
            Err(Failure::Worker(WorkerError::Transient(message))) if round < ROUNDS => {
                tracing::warn!("{message}; what is marked is read again");
            }
            Err(Failure::Worker(error)) => {
                let is_fenced = matches!(error, WorkerError::Fenced(_));
                relay.close(is_fenced);
                return Err(failed(&error));
            }
        }
    }
    Err(refused("stopped"))
}

/// Why a round ends before its letters do.
enum Failure {
    Worker(WorkerError),
    Other(DlqError),
}

impl From<DlqError> for Failure {
    fn from(error: DlqError) -> Self {
        Self::Other(error)
    }
}

/// From the marks to the end of the letters. `before`: how many were replayed before the first round.
fn replay_round(
    task: &Task<'_>,
    relay: &mut LetterRelay,
    before: &mut Option<u64>,
) -> Result<(Account, Next), Failure> {
    let is_trial = task.args.dry_run;
    if !is_trial {
        relay.fence().map_err(Failure::Worker)?;
    }
    let letters = task.read()?;
    let choice = choose(&letters, task.part, &task.args.selection)?;
    let mut account = Account::new(&choice);
    if before.is_none() {
        task.begin(choice.letters.len());
    }
    let first = *before.get_or_insert(account.already);
    account.replayed = account.already.saturating_sub(first);
    account.already -= account.replayed;
    let (mut batch, mut failure) = (Batch::default(), None);
    let mut again = |letter: &Letter, record: rdkafka::message::BorrowedMessage<'_>, account: &mut Account| {
        let made = relay.make(record).and_then(|made| {
            batch.take(letter, made, account);
            if batch.is_full() { batch.commit(relay, is_trial) } else { Ok(Next::Letter) }
        });
        Ok(made.unwrap_or_else(|error| {
            failure = Some(error);
            Next::Restart
        }))
    };
    let mut next = task.walk(&choice.letters, &mut account, &mut again)?;
    if let Some(error) = failure {
        return Err(Failure::Worker(error));
    }
    if next == Next::Letter {
        // The last one: whether the producer can be used again does not matter.
        batch.commit(relay, is_trial).map_err(Failure::Worker)?;
        next = Next::Letter;
    }
    Ok((account, next))
}

impl Batch {
    fn take(&mut self, letter: &Letter, made: Made, account: &mut Account) {
        match made {
            Made::Output(output) => {
                self.bytes += output.bytes();
                self.outputs.push(output);
            }
            Made::Filtered => account.kept_back += 1,
            Made::Dead(reject) => {
                return account.dead(letter, reject.reason.code(), reject.field, reject.to_string());
            }
        }
        account.replayed += 1;
        self.letters.push(letter.id.clone());
    }

    fn is_full(&self) -> bool {
        self.letters.len() >= LETTERS || self.bytes >= BYTES
    }

    /// Writes it; from the marks on where the producer must be made again, since another process may have come between.
    fn commit(&mut self, relay: &mut LetterRelay, is_trial: bool) -> Result<Next, WorkerError> {
        let Self { outputs, letters, .. } = std::mem::take(self);
        if letters.is_empty() || is_trial {
            return Ok(Next::Letter);
        }
        let committed = relay.commit(outputs, &letters)?;
        Ok(if committed.reopen { Next::Restart } else { Next::Letter })
    }
}

fn failed(error: &WorkerError) -> DlqError {
    match error {
        WorkerError::Fenced(message) => refused(format!(
            "another pressline dlq replay of this pipeline has begun, and this one ends: {message}. What this one has replayed is \
             marked, and the other one knows it"
        )),
        other => {
            refused(format!("{other}\nwhat was replayed until then is marked: run the same command again to go on"))
        }
    }
}
