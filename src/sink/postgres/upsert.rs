//! Changes into tables: of each key the last change of a batch goes by COPY into a temporary table, and from there by one statement
//! into the table. What the server refuses is searched as in [`super::copy`], by keys instead of rows.
//!
//! A row that violates a unique constraint may be sound: two rows that swap a value do so one by one, not together. So such rows
//! are put aside until all others are written, and then written together, each deleted before the first is inserted.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;

use super::change_plan::{ChangePlan, Op};
use super::copy::{Found, PROBES, RELEASE, Transaction};
use super::error::{ErrorClass, PgError};
use super::stream::{self, CHUNK, HEADER, Refused, SLACK, TRAILER};
use crate::avro::format::{Reason, Reject};
use crate::sink::{Refusal, RowBatch, Why};
use crate::testing::{fail_point, mutant};

/// No row.
const NONE: u32 = u32::MAX;

/// Rows whose upserts have one plan, with the deletes between them.
struct Run<'p> {
    rows: Range<usize>,
    plan: &'p ChangePlan,
}

/// What a batch does to one key.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// The first change.
    first: u32,
    /// The last change that is not refused; [`NONE`] where all are.
    last: u32,
    /// The key's bytes.
    key: (u32, u32),
}

/// The changes of a run, by key.
struct Items {
    /// First row of the run.
    start: usize,
    /// Of each row of the run the one before it that has the same key.
    before: Vec<u32>,
    keys: Vec<u8>,
    items: Vec<Item>,
}

/// How changes are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Row by row.
    Merge,
    /// All rows go before the first comes.
    Replace,
    /// All rows go, and none comes yet.
    DeleteAll,
}

type PlanOf<'p> = dyn Fn(u32) -> Option<&'p ChangePlan> + 'p;

/// Runs of a batch: deletes go with upserts before or behind them, whose key has the same columns.
fn runs<'p>(batch: &RowBatch, plan_of: &PlanOf<'p>, at_most: Option<usize>, refused: &mut Refused) -> Vec<Run<'p>> {
    let at_most = at_most.unwrap_or(usize::MAX).max(1);
    let mut runs: Vec<Run<'p>> = Vec::new();
    for (index, row) in batch.rows().iter().enumerate() {
        let Some(plan) = plan_of(row.schema_id) else {
            refused.insert(index, Refusal::row(Why::UnknownSchema));
            continue;
        };
        let joins = |run: &&mut Run<'p>| run.rows.len() < at_most && run.plan.goes_with(plan);
        match runs.last_mut().filter(joins) {
            Some(run) => {
                run.rows.end = index + 1;
                if run.plan.is_delete {
                    run.plan = plan;
                }
            }
            None => runs.push(Run { rows: index..index + 1, plan }),
        }
    }
    runs
}

impl Items {
    /// Of a run, by what the key's bytes are. Rows without a key are refused.
    fn of<'p>(batch: &RowBatch, run: &Run<'p>, plan_of: &PlanOf<'p>, refused: &mut Refused) -> Self {
        let (start, rows) = (run.rows.start, batch.rows().get(run.rows.clone()).unwrap_or_default());
        let mut keys = Vec::with_capacity(rows.len() * 16);
        let mut spans = Vec::with_capacity(rows.len());
        for (index, row) in (start..).zip(rows) {
            let from = keys.len() as u32;
            let key = match plan_of(row.schema_id) {
                _ if refused.contains_key(&index) => None,
                None => None,
                Some(plan) => match plan.write_key(batch.datum(row), &mut keys) {
                    Ok(()) => Some((from, keys.len() as u32)),
                    Err(refusal) => {
                        refused.insert(index, refusal);
                        None
                    }
                },
            };
            spans.push(key);
        }
        let mut before = vec![NONE; rows.len()];
        let mut items: Vec<Item> = Vec::new();
        let mut known: HashMap<&[u8], usize> = HashMap::with_capacity(rows.len());
        for (place, span) in spans.iter().enumerate() {
            let Some((from, to)) = *span else { continue };
            let key = keys.get(from as usize..to as usize).unwrap_or_default();
            let at = *known.entry(key).or_insert(items.len());
            match items.get_mut(at) {
                Some(_) if mutant::is("first_change_wins") => {}
                Some(item) => {
                    before[place] = item.last;
                    item.last = place as u32;
                }
                None => items.push(Item { first: place as u32, last: place as u32, key: (from, to) }),
            }
        }
        // Equal keys with other bytes keep their order.
        items.sort_by_key(|item| item.last);
        Self { start, before, keys, items }
    }

    fn key(&self, item: &Item) -> &[u8] {
        self.keys.get(item.key.0 as usize..item.key.1 as usize).unwrap_or_default()
    }

    /// The change before the item's last one takes its place. Whether there is one.
    fn refuse_last(&mut self, at: usize) -> bool {
        let Some(item) = self.items.get_mut(at) else { return false };
        item.last = self.before.get(item.last as usize).copied().unwrap_or(NONE);
        item.last != NONE
    }

    fn last(&self, at: usize) -> Option<usize> {
        let last = self.items.get(at)?.last;
        (last != NONE).then(|| self.start + last as usize)
    }
}

impl<'w> Transaction<'w> {
    /// Applies the batch's changes, of each key the last one that can be applied. Rows that cannot be, and would have been the last,
    /// are returned. Errors: as those of [`Transaction::copy`].
    pub async fn apply<'p>(
        &mut self,
        batch: &RowBatch,
        plan_of: impl Fn(u32) -> Option<&'p ChangePlan> + 'p,
        most_refused: usize,
        turn: &mut dyn FnMut(),
    ) -> Result<Refused, PgError> {
        let plan_of: &PlanOf<'p> = &plan_of;
        let mut refused = Refused::new();
        let mut first = None;
        self.empty_table().await?;
        for run in runs(batch, plan_of, self.search.at_most, &mut refused) {
            turn();
            let mut items = Items::of(batch, &run, plan_of, &mut refused);
            let all: Vec<usize> = (0..items.items.len()).collect();
            let applied = self.write_items(batch, &run, plan_of, &mut items, &all, How::Merge, &mut refused).await;
            match applied {
                Ok(()) => {}
                Err(error) if self.is_searched(&error, run.rows.len()) => {
                    first = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first {
            self.connection().control("ROLLBACK").await?;
            self.connection().begin().await?;
            self.dropped = 0;
            refused.clear();
            let upserts = |id: u32| plan_of(id).filter(|plan| !plan.is_delete).map(ChangePlan::plan);
            self.lock_and_check_tables(batch, &upserts).await?;
            self.empty_table().await?;
            self.connection().control("SAVEPOINT pressline").await?;
            tracing::debug!(rows = batch.rows().len(), %error, "searching a batch for changes that cannot be applied");
            let mut found = Found::default();
            for run in runs(batch, plan_of, self.search.at_most, &mut refused) {
                let mut search =
                    Search { batch, plan_of, most_refused, refused: &mut refused, found: &mut found, turn: &mut *turn };
                self.search_run(&run, &mut search).await?;
            }
            tracing::debug!(refused = refused.len(), "searched");
        }
        self.within_limit(&refused, most_refused, None)?;
        fail_point::hit("pg_after_copy");
        Ok(refused)
    }

    async fn empty_table(&mut self) -> Result<(), PgError> {
        if let Some(statement) = self.empty.clone() {
            self.connection().control(&statement).await?;
        }
        Ok(())
    }

    async fn search_run<'p>(&mut self, run: &Run<'p>, search: &mut Search<'_, 'p>) -> Result<(), PgError> {
        let mut items = Items::of(search.batch, run, search.plan_of, search.refused);
        let all: Vec<usize> = (0..items.items.len()).collect();
        let is_replaceable = !run.plan.facts.is_referenced && run.plan.facts.is_exact;
        // What only violates a unique constraint is mostly a swap.
        if is_replaceable && self.try_items(run, search, &mut items, &all, How::Merge).await?.is_none() {
            search.found.accepted = true;
            return Ok(());
        }
        if is_replaceable && self.try_items(run, search, &mut items, &all, How::Replace).await?.is_none() {
            search.found.accepted = true;
            return Ok(());
        }
        let (mut open, mut aside) = (vec![all], Vec::new());
        while let Some(part) = open.pop() {
            (search.turn)();
            let Some(error) = self.try_items(run, search, &mut items, &part, How::Merge).await? else {
                search.found.accepted |= part.iter().any(|at| items.last(*at).is_some());
                if let Some((_, most)) = &mut self.too_large {
                    *most = (*most).max(part.len());
                }
                continue;
            };
            match part[..] {
                // One by one, such a change could not be written where its row has gone.
                [at] if is_replaceable && run.plan.kept.is_none() && is_unique(&error) => aside.push(at),
                [at] => {
                    if self.refuse_last(search, &mut items, at, &error)? {
                        open.push(vec![at]);
                    }
                }
                _ => {
                    // The left half is popped first.
                    let (left, right) = part.split_at(part.len() / 2);
                    open.extend([right.to_vec(), left.to_vec()]);
                }
            }
        }
        self.write_together(run, search, &mut items, aside).await?;
        self.try_doubtful_changes(run, search, &mut items).await
    }

    /// Whether there is an earlier change of the key, to be tried next.
    fn refuse_last(
        &mut self,
        search: &mut Search<'_, '_>,
        items: &mut Items,
        at: usize,
        error: &PgError,
    ) -> Result<bool, PgError> {
        let Some(row) = items.last(at) else { return Ok(false) };
        search.refused.insert(row, error.refusal());
        self.within_limit(search.refused, search.most_refused, Some(error))?;
        if error.class != ErrorClass::Data {
            search.found.doubtful.push((row, error.clone()));
            self.tells_apart(search.found, PROBES)?;
        }
        Ok(items.refuse_last(at))
    }

    /// Changes that violated a unique constraint one by one. Those that still do so are refused, which may let others do so.
    async fn write_together<'p>(
        &mut self,
        run: &Run<'p>,
        search: &mut Search<'_, 'p>,
        items: &mut Items,
        mut aside: Vec<usize>,
    ) -> Result<(), PgError> {
        while !aside.is_empty() {
            (search.turn)();
            let Some(error) = self.try_items(run, search, items, &aside, How::Replace).await? else {
                search.found.accepted = true;
                return Ok(());
            };
            if !is_unique(&error) {
                return Err(error);
            }
            let mut passed_over = self.passed_over(run, search, items, &aside).await?;
            if passed_over.is_empty() {
                passed_over.extend(aside.last());
            }
            for at in passed_over {
                if !self.refuse_last(search, items, at, &error)? {
                    aside.retain(|other| *other != at);
                }
            }
        }
        Ok(())
    }

    /// Which of these violate a unique constraint when all their rows have gone and they come one by one. Nothing of it stays.
    async fn passed_over<'p>(
        &mut self,
        run: &Run<'p>,
        search: &mut Search<'_, 'p>,
        items: &mut Items,
        aside: &[usize],
    ) -> Result<Vec<usize>, PgError> {
        let mut found = Vec::new();
        let staged =
            self.write_items(search.batch, run, search.plan_of, items, aside, How::DeleteAll, search.refused).await;
        match staged {
            Ok(()) => {}
            // The caller refuses one of them then.
            Err(error) if error.policy().is_some() => {
                self.connection().control("ROLLBACK TO pressline").await?;
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
        for &at in aside {
            let Some(row) = items.last(at) else { continue };
            (search.turn)();
            let one = format!("SAVEPOINT pressline_one; {}{row}", run.plan.sql.write_one);
            match self.connection().control(&one).await {
                Ok(_) => {}
                Err(error) if error.policy().is_some() => {
                    self.connection().control("ROLLBACK TO pressline_one").await?;
                    found.push(at);
                }
                Err(error) => return Err(error),
            }
        }
        self.connection().control("ROLLBACK TO pressline").await?;
        Ok(found)
    }

    /// The cause may have passed while the others were written.
    async fn try_doubtful_changes<'p>(
        &mut self,
        run: &Run<'p>,
        search: &mut Search<'_, 'p>,
        items: &mut Items,
    ) -> Result<(), PgError> {
        self.tells_apart(search.found, 0)?;
        for (row, _) in std::mem::take(&mut search.found.doubtful) {
            // Only where no earlier change of the key has been written in its place.
            let Some(place) = row.checked_sub(items.start).and_then(|place| u32::try_from(place).ok()) else {
                continue;
            };
            let first = items.chain(place).last();
            let at = items.items.iter().position(|item| item.last == NONE && Some(item.first) == first);
            let Some(at) = at else { continue };
            if let Some(item) = items.items.get_mut(at) {
                item.last = place;
            }
            if let Some(error) = self.try_items(run, search, items, &[at], How::Merge).await? {
                search.refused.insert(row, error.refusal());
            } else {
                search.refused.remove(&row);
            }
        }
        Ok(())
    }

    /// Applies these under a savepoint; the answer of the server's where they cannot be.
    async fn try_items<'p>(
        &mut self,
        run: &Run<'p>,
        search: &mut Search<'_, 'p>,
        items: &mut Items,
        which: &[usize],
        how: How,
    ) -> Result<Option<PgError>, PgError> {
        let written = self.write_items(search.batch, run, search.plan_of, items, which, how, search.refused).await;
        let (after, error) = match written {
            Ok(()) => (RELEASE, None),
            Err(error) if self.is_searched(&error, which.len()) => ("ROLLBACK TO pressline", Some(error)),
            Err(error) => return Err(error),
        };
        self.connection().control(after).await?;
        Ok(error)
    }

    /// One COPY into the temporary table, and the statements that apply it. Changes that cannot be encoded, or find no row that they
    /// need, are refused, and the ones before them of the same key take their places.
    #[allow(clippy::too_many_arguments)]
    async fn write_items<'p>(
        &mut self,
        batch: &RowBatch,
        run: &Run<'p>,
        plan_of: &PlanOf<'p>,
        items: &mut Items,
        which: &[usize],
        how: How,
        refused: &mut Refused,
    ) -> Result<(), PgError> {
        let mut counted = self.stage_items(batch, run, plan_of, items, which, refused).await?;
        while counted.upserts > 0 && self.refuse_absent(run, items, which, refused).await? {
            counted = self.stage_items(batch, run, plan_of, items, which, refused).await?;
        }
        self.apply_changes(run, &counted, how).await
    }

    /// Refuses changes that keep values of a row which is not there. Whether there were any.
    async fn refuse_absent(
        &mut self,
        run: &Run<'_>,
        items: &mut Items,
        which: &[usize],
        refused: &mut Refused,
    ) -> Result<bool, PgError> {
        let (Some(absent), Some(column)) = (&run.plan.sql.absent, &run.plan.kept) else { return Ok(false) };
        let rows = self.connection().control(absent).await?;
        let absent: HashSet<usize> = rows.iter().filter_map(|row| row.get(0)?.parse().ok()).collect();
        for &at in which {
            if let Some(row) = items.last(at).filter(|row| absent.contains(row)) {
                refused.insert(row, no_row(column));
                items.refuse_last(at);
            }
        }
        Ok(!absent.is_empty())
    }

    async fn stage_items<'p>(
        &mut self,
        batch: &RowBatch,
        run: &Run<'p>,
        plan_of: &PlanOf<'p>,
        items: &mut Items,
        which: &[usize],
        refused: &mut Refused,
    ) -> Result<Counted, PgError> {
        self.copies += 1;
        let sql = &run.plan.sql;
        self.connection().control(&sql.make).await?;
        self.copying = true;
        let (statement, mut sink) = stream::open(self.connection(), &sql.copy).await?;
        let mut chunk = Vec::with_capacity(CHUNK + SLACK);
        chunk.extend_from_slice(HEADER);
        let mut counted = Counted::default();
        let sending = async {
            for &at in which {
                if let Some(op) = items.encode(batch, run, plan_of, at, &mut chunk, refused) {
                    counted.add(op);
                }
                if chunk.len() >= CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK + SLACK));
                    sink.send(Bytes::from(full)).await?;
                }
            }
            chunk.extend_from_slice(TRAILER);
            sink.send(Bytes::from(chunk)).await?;
            sink.as_mut().finish().await
        };
        let sent = self.connection().within(sending).await;
        self.copying = false;
        sent?;
        drop(statement);
        Ok(counted)
    }

    async fn apply_changes(&mut self, run: &Run<'_>, counted: &Counted, how: How) -> Result<(), PgError> {
        let sql = &run.plan.sql;
        let mut statements: Vec<&str> = Vec::new();
        let delete = (counted.deletes > 0 && !mutant::is("deletes_ignored")).then_some(sql.delete.as_str());
        match how {
            How::Merge => {
                statements.extend(delete);
                if counted.upserts > 0 {
                    statements.extend(sql.write.iter().map(String::as_str));
                }
            }
            How::Replace => statements.extend(sql.replace.iter().map(String::as_str)),
            How::DeleteAll => statements.push(&sql.delete_all),
        }
        if statements.is_empty() {
            return Ok(());
        }
        let counts = self.connection().counts(&statements.join("; ")).await?;
        // Equal keys with other bytes are one row, and what has no column to update updates none.
        if how == How::Merge && counted.upserts > 0 && run.plan.facts.is_exact && run.plan.has_values() {
            let written: u64 = counts.iter().rev().take(sql.write.len()).sum();
            self.dropped += counted.upserts.saturating_sub(written);
        }
        Ok(())
    }
}

impl Items {
    /// Appends the item's last change that can be encoded. What it does; `None`: there is no such change.
    fn encode<'p>(
        &mut self,
        batch: &RowBatch,
        run: &Run<'p>,
        plan_of: &PlanOf<'p>,
        at: usize,
        out: &mut Vec<u8>,
        refused: &mut Refused,
    ) -> Option<Op> {
        loop {
            let index = self.last(at)?;
            let row = batch.rows().get(index)?;
            let plan = plan_of(row.schema_id)?;
            if plan.is_delete {
                let key = self.items.get(at).map(|item| self.key(item)).unwrap_or_default();
                run.plan.write_delete(index, key, out);
                return Some(Op::Delete);
            }
            let op = if self.was_deleted(batch, plan_of, at) { Op::Replace } else { Op::Upsert };
            match plan.write_change(op, index, batch.datum(row), out) {
                Ok(()) => return Some(op),
                Err(refusal) => drop(refused.insert(index, refusal)),
            }
            self.refuse_last(at);
        }
    }

    /// Whether the batch deletes the row before its last change.
    fn was_deleted(&self, batch: &RowBatch, plan_of: &PlanOf<'_>, at: usize) -> bool {
        let is_delete = |place: u32| {
            let row = batch.rows().get(self.start + place as usize);
            row.and_then(|row| plan_of(row.schema_id)).is_some_and(|plan| plan.is_delete)
        };
        self.items.get(at).is_some_and(|item| self.chain(item.last).any(is_delete))
    }

    /// The changes of a key from this one back.
    fn chain(&self, last: u32) -> impl Iterator<Item = u32> {
        let before = |place: &u32| self.before.get(*place as usize).copied().filter(|before| *before != NONE);
        std::iter::successors((last != NONE).then_some(last), before)
    }
}

/// The changes of one statement.
#[derive(Default)]
struct Counted {
    upserts: u64,
    deletes: u64,
}

impl Counted {
    fn add(&mut self, op: Op) {
        self.upserts += u64::from(op != Op::Delete);
        self.deletes += u64::from(op != Op::Upsert);
    }
}

/// What a search needs and finds.
struct Search<'s, 'p> {
    batch: &'s RowBatch,
    plan_of: &'s PlanOf<'p>,
    most_refused: usize,
    refused: &'s mut Refused,
    found: &'s mut Found,
    turn: &'s mut dyn FnMut(),
}

/// Of a change that keeps a column of a row which is not there.
fn no_row(column: &Arc<str>) -> Refusal {
    let detail = "the table has no row of this key yet that would have it: ALTER TABLE ... REPLICA IDENTITY FULL at the source, and then \
                  update the row there";
    Reject { field: Arc::clone(column), detail: detail.into(), ..Reject::record(Reason::Unavailable) }.into()
}

fn is_unique(error: &PgError) -> bool {
    error.is("23505") || error.is("23P01")
}
