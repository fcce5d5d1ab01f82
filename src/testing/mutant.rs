//! Guarantees broken on purpose, to prove that the fault harness would see it (`make mutants`). Each is one `if` at the
//! place it breaks; builds without the feature `mutants` (all releases) hold none of it.
//!
//! - `auto_commit`: offsets are committed by librdkafka's timer instead of in the transaction.
//! - `rewind_from_memory`: after a doubtful transaction, go back to the remembered positions, not to the committed ones.
//! - `keep_producer`: go on with a producer whose EndTxn timed out.
//! - `log_as_shown`: hear of broken connections only what `log.level = "error"` would show.
//! - `poll_inside`: poll the consumer while a transaction is open, and take the group metadata after that.
//! - `position_left`: commit the consumer's position although a polled record was left for the next batch.
//! - `floor_ignored`: begin at a group offset that lies before what this process has committed.
//! - `absence_believed`: believe at once that a group has no offset.
//! - `http_gives_up`: serve no page any more once a connection could not be accepted.
//! - `leak`: addresses get out, in the forms and at the places that the file named by `PRESSLINE_LEAK` lists (see
//!   `relay/leak.rs`); the leak test must find each. `web_leak`: the web app's visitors' addresses do (see `web/leak.rs`).
//! - `no_compare_and_set`, `compare_without_raise`: PostgreSQL's position is moved whatever it was, or nobody looks whether it
//!   was moved.
//! - `positions_before_rows`, `offsets_before_rows`: the position moves before the rows are written, in PostgreSQL and in the
//!   group for ClickHouse.
//! - `started_rows_kept`: rows whose COPY to PostgreSQL was under way are written although their partition has gone.
//! - `recovery_without_reading`: what of a pending range is in ClickHouse's table is not asked.
//! - `first_change_wins`, `deletes_ignored`: of the changes of a key in a batch the first is applied; no row is deleted in PostgreSQL.
//! - `versions_tie`: changes of a key in ClickHouse share versions; `tests/cdc` must see it.
//! - `letter_mark_apart`: a dead letter's mark is no part of the transaction that writes its record again; `letter_mark_ignored`: in
//!   PostgreSQL a mark that is there already keeps no row from being written. `tests/replay` must see both.
//! - `old_epoch_accepted`: offsets of partitions that have moved meanwhile are committed.
//! - `random_transactional_id`: another transactional id at every start.

/// Whether `name` is the mutant to be (`PRESSLINE_MUTANT`).
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}

/// Whether `name` is the mutant to be (`PRESSLINE_MUTANT`).
#[cfg(feature = "mutants")]
pub fn is(name: &str) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("PRESSLINE_MUTANT").ok().filter(|name| !name.is_empty());
        if let Some(name) = &chosen {
            tracing::warn!(mutant = %name, "a guarantee is broken on purpose");
        }
        chosen
    });
    chosen.as_deref() == Some(name)
}
