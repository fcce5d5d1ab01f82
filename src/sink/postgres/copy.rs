//! Rows into tables: one transaction a batch, binary COPY, and the search for bad rows.

use std::ops::Range;

use super::catalogue::Table;
use super::connection::Connection;
use super::error::{ErrorClass, PgError};
use super::plan::CopyPlan;
use super::stream::CopyStream;
pub use super::stream::Refused;
use crate::sink::{Refusal, Row, RowBatch, Why};
use crate::testing::fail_point;

/// A connection that writes.
pub struct Writer {
    connection: Connection,
    /// A transaction was dropped without an end.
    in_doubt: bool,
    /// What of the next transaction is under way, see [`Writer::start`].
    started: Option<Result<CopyStream, PgError>>,
}

/// A database transaction for one batch. Rolled back when dropped: at the latest when the next one begins.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction<'w> {
    writer: &'w mut Writer,
    finished: bool,
    /// COPY statements that were run.
    pub(super) copies: usize,
    /// Rows that the server took and did not write.
    pub(super) dropped: u64,
    /// One is under way.
    pub(super) copying: bool,
    /// See [`Transaction::search`].
    pub(super) search: Search,
    /// Statement that empties the table before all rows.
    pub(super) empty: Option<String>,
    /// A COPY was too large for a time-out or a limit of the server's, and the most rows of one that was taken since.
    pub(super) too_large: Option<(PgError, usize)>,
}

/// How a batch that the server refuses is searched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// For rows that are refused alone, whatever the answer is: it has not passed for long enough.
    pub is_due: bool,
    /// Rows were written into the table as it is now: one that is refused with an unknown code is bad by itself, also
    /// where it came without others.
    pub is_proven: bool,
    /// The most rows of a COPY.
    pub at_most: Option<usize>,
}

/// So many rows, refused one after another with none written, tell that it is not the rows.
pub(super) const PROBES: usize = 16;

/// What a search has found so far.
#[derive(Default)]
pub(super) struct Found {
    /// Some row was written.
    pub(super) accepted: bool,
    /// Rows that were refused with an answer that need not be about them.
    pub(super) doubtful: Vec<(usize, PgError)>,
}

impl Writer {
    /// Writes over a connection.
    pub fn new(connection: Connection) -> Self {
        Self { connection, in_doubt: false, started: None }
    }

    /// The connection, between transactions.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a transaction. Errors: the server's.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, PgError> {
        if self.started.is_none() {
            self.begin_statement().await?;
        }
        Ok(Transaction {
            writer: self,
            finished: false,
            copies: 0,
            dropped: 0,
            copying: false,
            search: Search::default(),
            empty: None,
            too_large: None,
        })
    }

    async fn begin_statement(&mut self) -> Result<(), PgError> {
        if self.in_doubt {
            self.connection.control("ROLLBACK").await?;
        }
        self.in_doubt = true;
        self.connection.begin().await
    }

    /// Begins the transaction of a batch that still grows, and copies the rows that it has: the server works on them while more
    /// are read. Can be called again when there are more. Ends before the first row that fills other columns. What goes wrong is
    /// told by [`Transaction::copy`].
    pub async fn start<'p>(&mut self, batch: &RowBatch, plan_of: impl Fn(u32) -> Option<&'p CopyPlan>) {
        let Some(plan) = batch.rows().first().and_then(|row| plan_of(row.schema_id)) else { return };
        if matches!(self.started, Some(Err(_))) {
            return;
        }
        let started = match self.started.take() {
            Some(stream) => stream,
            None => self.open(plan).await,
        };
        self.started = Some(match started {
            Ok(stream) if stream.is_start_of(batch) && stream.takes(plan) => self.push(stream, batch, &plan_of).await,
            other => other,
        });
    }

    async fn open(&mut self, plan: &CopyPlan) -> Result<CopyStream, PgError> {
        self.begin_statement().await?;
        CopyStream::open(&self.connection, plan, 0).await
    }

    async fn push<'p>(
        &self,
        mut stream: CopyStream,
        batch: &RowBatch,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
    ) -> Result<CopyStream, PgError> {
        let end = of_same_columns(batch, plan_of).next().map_or(0, <[Row]>::len);
        stream.push(&self.connection, plan_of, batch, end).await.map(|()| stream)
    }

    /// Whether nothing was started, or what was started are this batch's first rows. Otherwise the connection cannot go on.
    pub fn suits(&self, batch: &RowBatch) -> bool {
        match &self.started {
            None => true,
            Some(Ok(stream)) => stream.is_start_of(batch),
            // Told by the first statement, if there is one.
            Some(Err(_)) => !batch.rows().is_empty(),
        }
    }

    /// Whether a transaction is under way for a batch that still grows.
    pub fn has_started(&self) -> bool {
        self.started.is_some()
    }
}

/// Keeps what was written since the savepoint.
pub(super) const RELEASE: &str = "RELEASE pressline; SAVEPOINT pressline";

/// Rows of a batch that fill the same columns one after another; those without a plan by themselves.
fn of_same_columns<'b, 'p>(
    batch: &'b RowBatch,
    plan_of: &'b impl Fn(u32) -> Option<&'p CopyPlan>,
) -> impl Iterator<Item = &'b [Row]> {
    let copy = |id: u32| plan_of(id).map(CopyPlan::copy_statement);
    batch.rows().chunk_by(move |a, b| a.schema_id == b.schema_id || copy(a.schema_id) == copy(b.schema_id))
}

/// The same as ranges, no more than `at_most` rows together.
fn runs<'p>(
    batch: &RowBatch,
    plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
    at_most: Option<usize>,
) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for same in of_same_columns(batch, plan_of) {
        for chunk in same.chunks(at_most.unwrap_or(usize::MAX).max(1)) {
            let start = runs.last().map_or(0, |run| run.end);
            runs.push(start..start + chunk.len());
        }
    }
    runs
}

impl<'w> Transaction<'w> {
    /// Writes the batch's rows in their order, each by the plan of its schema. Rows that fill the same columns one after another
    /// go by one COPY: see [`RowBatch::group_by`]. Rows that cannot be encoded, and those that
    /// the server refuses for their data, are returned; all others are written. To find the latter, the batch is halved
    /// under savepoints until they stand alone, at most 2 log2(n) + 2 statements for each of n rows' bad ones; `turn` is called
    /// before each. Which errors start a search is decided by [`crate::sink::error_policy`].
    ///
    /// Errors: the server's. [`ErrorClass::Schema`] where the table is not what the plans were compiled for (read it again and
    /// compile again), or more than `most_refused` rows are refused. The transaction cannot go on after an error; after one
    /// with `connection_lost`, neither can the connection.
    pub async fn copy<'p>(
        &mut self,
        batch: &RowBatch,
        plan_of: impl Fn(u32) -> Option<&'p CopyPlan>,
        most_refused: usize,
        turn: &mut dyn FnMut(),
    ) -> Result<Refused, PgError> {
        let mut refused = Refused::new();
        let mut first = None;
        // A COPY that was started early may have more rows already.
        let at_most = self.search.at_most.filter(|_| self.writer.started.is_none());
        for run in runs(batch, &plan_of, at_most) {
            let rows = run.len();
            match self.attempt(batch, run, &plan_of, &mut refused).await {
                Ok(()) => {}
                Err(error) if self.is_searched(&error, rows) => {
                    first = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first {
            self.writer.connection.control("ROLLBACK").await?;
            self.writer.connection.begin().await?;
            self.dropped = 0;
            self.lock_and_check_tables(batch, &plan_of).await?;
            self.writer.connection.control("SAVEPOINT pressline").await?;
            tracing::debug!(rows = batch.rows().len(), %error, "searching a batch for bad rows");
            let mut found = Found::default();
            for run in runs(batch, &plan_of, at_most) {
                self.halve(batch, run, &plan_of, most_refused, &mut refused, &mut found, turn).await?;
            }
            self.try_doubtful_again(batch, &plan_of, &mut refused, found).await?;
            tracing::debug!(refused = refused.len(), "searched");
        }
        self.within_limit(&refused, most_refused, None)?;
        fail_point::hit("pg_after_copy");
        Ok(refused)
    }

    /// The next [`Self::apply`] empties this table before it writes.
    pub fn empty(&mut self, table: &str) {
        self.empty = Some(format!("DELETE FROM {table}"));
    }

    /// How the next [`Self::copy`] searches.
    pub fn search(&mut self, search: Search) {
        self.search = search;
    }

    /// The most rows that the server took in one COPY after another one was too large for a time-out or a limit of its; `None`:
    /// none was.
    pub fn took(&self) -> Option<(&PgError, usize)> {
        self.too_large.as_ref().map(|(error, rows)| (error, *rows)).filter(|(_, rows)| *rows > 0)
    }

    /// Whether rows that the server refuses so are looked for: it is the answer to a COPY of this many rows.
    pub(super) fn is_searched(&mut self, error: &PgError, rows: usize) -> bool {
        let Some(policy) = error.policy() else { return false };
        let is_too_large = policy.too_large && rows > 1;
        if is_too_large {
            self.too_large.get_or_insert_with(|| (error.clone(), 0));
        }
        is_too_large || policy.class.is_searched_at_once() || self.search.is_due
    }

    /// COPY statements that were run so far.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Rows that a trigger dropped: the server took them and wrote fewer.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Ends the transaction without writing.
    pub async fn rollback(mut self) -> Result<(), PgError> {
        self.writer.connection.control("ROLLBACK").await?;
        self.finish();
        Ok(())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.writer.connection
    }

    /// The server has ended the transaction.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.writer.in_doubt = false;
    }

    /// What looks like bad data may be a table that was altered: then the rows are sound. It is locked first, as a COPY does,
    /// but outside of any savepoint: else it could be altered between two statements of the search, which would take every
    /// sound row for a bad one.
    pub(super) async fn lock_and_check_tables<'p>(
        &mut self,
        batch: &RowBatch,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
    ) -> Result<(), PgError> {
        let mut seen: Option<Option<Table>> = None;
        for schema_id in batch.schema_ids() {
            let Some(plan) = plan_of(schema_id) else { continue };
            if seen.is_none() {
                // By a COPY of nothing: LOCK TABLE asks for a grant on the whole table, where one on columns is enough.
                self.copy_range(plan, batch, 0..0, plan_of, &mut Refused::new()).await?;
                let mut table = Table::read(&self.writer.connection, &plan.table().name).await?;
                if let Some(table) = &mut table {
                    // What the plan was not compiled for makes no row bad.
                    table.defaults.clone_from(&plan.table().defaults);
                    table.beside.clone_from(&plan.table().beside);
                }
                seen = Some(table);
            }
            if seen.as_ref().and_then(Option::as_ref) != Some(&**plan.table()) {
                let what = format!("table {} was altered", plan.table().title());
                return Err(self.writer.connection.error(ErrorClass::Schema, what));
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    async fn halve<'p>(
        &mut self,
        batch: &RowBatch,
        run: Range<usize>,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
        most_refused: usize,
        refused: &mut Refused,
        found: &mut Found,
        turn: &mut dyn FnMut(),
    ) -> Result<(), PgError> {
        let mut open = vec![run];
        while let Some(range) = open.pop() {
            turn();
            let before = refused.len();
            let after = match self.attempt(batch, range.clone(), plan_of, refused).await {
                Ok(()) => {
                    found.accepted |= refused.len() - before < range.len();
                    if let Some((_, most)) = &mut self.too_large {
                        *most = (*most).max(range.len());
                    }
                    RELEASE
                }
                Err(error) if self.is_searched(&error, range.len()) => {
                    if range.len() == 1 {
                        refused.insert(range.start, error.refusal());
                        self.within_limit(refused, most_refused, Some(&error))?;
                        if error.class != ErrorClass::Data {
                            found.doubtful.push((range.start, error));
                            self.tells_apart(found, PROBES)?;
                        }
                    } else {
                        // The left half is popped first: rows keep their order.
                        let middle = range.start + range.len() / 2;
                        open.push(middle..range.end);
                        open.push(range.start..middle);
                    }
                    "ROLLBACK TO pressline"
                }
                Err(error) => return Err(error),
            };
            self.writer.connection.control(after).await?;
        }
        Ok(())
    }

    /// An answer that need not be about the row is believed to be so only where other rows are written: errors with that answer
    /// where none is and more than `most` are refused.
    pub(super) fn tells_apart(&self, found: &Found, most: usize) -> Result<(), PgError> {
        let Some((_, error)) = found.doubtful.last().filter(|_| !found.accepted) else { return Ok(()) };
        let alone_is_enough =
            self.search.is_proven && found.doubtful.iter().all(|(_, e)| e.class == ErrorClass::Unknown);
        let most = if alone_is_enough { PROBES } else { most };
        if found.doubtful.len() <= most {
            return Ok(());
        }
        let what = format!("{}, and so it does for each of {} rows alone", error.what, found.doubtful.len());
        Err(PgError { what, ..error.clone() })
    }

    /// The cause may have passed while the others were written.
    async fn try_doubtful_again<'p>(
        &mut self,
        batch: &RowBatch,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
        refused: &mut Refused,
        found: Found,
    ) -> Result<(), PgError> {
        self.tells_apart(&found, 0)?;
        for (index, _) in found.doubtful {
            refused.remove(&index);
            let after = match self.attempt(batch, index..index + 1, plan_of, refused).await {
                Ok(()) => RELEASE,
                Err(error) if error.policy().is_some() => {
                    refused.insert(index, error.refusal());
                    "ROLLBACK TO pressline"
                }
                Err(error) => return Err(error),
            };
            self.writer.connection.control(after).await?;
        }
        Ok(())
    }

    pub(super) fn within_limit(&self, refused: &Refused, most: usize, last: Option<&PgError>) -> Result<(), PgError> {
        if refused.len() <= most {
            return Ok(());
        }
        let reason = match (last, refused.values().next_back()) {
            (Some(error), _) => error.to_string(),
            (None, Some(refusal)) => refusal.to_string(),
            (None, None) => String::new(),
        };
        let what = format!(
            "circuit breaker: more than {most} rows of one batch are refused, which is above \
             sink.postgres.consumer.max_dead_share; the last because: {reason}. Fix the table or the pipeline's settings, or raise \
             sink.postgres.consumer.max_dead_share"
        );
        Err(self.writer.connection.error(ErrorClass::Schema, what))
    }

    /// One COPY of rows that fill the same columns.
    async fn attempt<'p>(
        &mut self,
        batch: &RowBatch,
        range: Range<usize>,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
        refused: &mut Refused,
    ) -> Result<(), PgError> {
        let Some(plan) = batch.rows().get(range.start).and_then(|row| plan_of(row.schema_id)) else {
            refused.extend(range.map(|index| (index, Refusal::row(Why::UnknownSchema))));
            return Ok(());
        };
        self.copy_range(plan, batch, range, plan_of, refused).await
    }

    async fn copy_range<'p>(
        &mut self,
        plan: &CopyPlan,
        batch: &RowBatch,
        range: Range<usize>,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
        refused: &mut Refused,
    ) -> Result<(), PgError> {
        self.copies += 1;
        let started = if range.start == 0 { self.writer.started.take() } else { None };
        let started = started.transpose()?;
        self.copying = true;
        let mut stream = match started {
            Some(stream) if stream.is_start_of(batch) && stream.takes(plan) => stream,
            Some(_) => {
                self.writer.connection.give_up();
                let error = self.writer.connection.error(ErrorClass::Transient, "a COPY of other rows was under way");
                return Err(PgError { connection_lost: true, ..error });
            }
            None => CopyStream::open(&self.writer.connection, plan, range.start).await?,
        };
        let connection = &self.writer.connection;
        let written = match stream.push(connection, plan_of, batch, range.end).await {
            Ok(()) => stream.finish(connection).await,
            Err(error) => Err(error),
        };
        self.copying = false;
        let (not_encoded, dropped) = written?;
        refused.extend(not_encoded);
        self.dropped += dropped;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A rollback needs the server's answer, which cannot be awaited here: the next `begin` asks for it.
        if !self.finished {
            self.writer.in_doubt = true;
        }
        // Aborted in the middle of a COPY: what the server still answers could be taken for the next one's.
        if self.copying {
            self.writer.connection.give_up();
        }
    }
}
