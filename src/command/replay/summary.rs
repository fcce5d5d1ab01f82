//! What became of every offset, from the replay's own notes.

use std::collections::BTreeMap;

use crate::command::offsets::aligned;
use crate::kafka::offset_note::{Partition, Tally};
use crate::kafka::replay_range::RangeProgress;
use crate::runtime::terminal::counted;

/// The outcome of a replay, so far.
pub struct Summary {
    /// A line for each partition, and their sum.
    pub text: String,
    /// Every partition is at its end, and every record has one outcome.
    pub accounted: bool,
}

/// Of what is noted.
pub fn summary(progress: &BTreeMap<Partition, RangeProgress>) -> Summary {
    let heads = ["PARTITION", "FROM", "TO", "AT", "READ", "WRITTEN", "DEAD", "NO RECORD", "REMOVED"];
    let mut lines = vec![heads.map(String::from).to_vec()];
    let (mut sum, mut offsets, mut gaps, mut removed) = (Tally::default(), 0, 0, 0);
    for (partition, RangeProgress { position, account }) in progress {
        let (at, without) = ((*position).min(account.end), account.without_record((*position).min(account.end)));
        let Tally { read, written, dead, .. } = account.tally;
        let numbers = [account.from, account.end, at].map(|number| number.to_string());
        let counts = [read.to_string(), written.to_string(), dead.to_string(), without.to_string()];
        lines.push([&[partition.to_string()], &numbers[..], &counts[..], &[account.removed.to_string()]].concat());
        sum = sum.plus(account.tally);
        offsets += at - account.from;
        gaps += without;
        removed += account.removed;
    }
    let Tally { read, written, dead, filtered } = sum;
    let accounted =
        progress.values().all(|partition_progress| partition_progress.account.is_settled(partition_progress.position));
    let verdict = if accounted { "all accounted for" } else { "NOT ALL ACCOUNTED FOR" };
    let records = counted(read, "record");
    let kept_back = if filtered == 0 { String::new() } else { format!(" + {filtered} filtered") };
    let text = format!(
        "{}{} = {records} + {gaps} without a record + {removed} removed by retention\n{records} = {written} \
         written + {}{kept_back}: {verdict}",
        aligned(&lines),
        counted(offsets, "offset"),
        counted(dead, "dead letter")
    );
    Summary { text, accounted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::offset_note::Account;

    fn partition_progress(position: i64, removed: u64, tally: Tally) -> RangeProgress {
        RangeProgress { position, account: Account { from: 10, end: 110, removed, tally } }
    }

    #[test]
    fn the_sums_are_those_of_the_partitions() {
        let whole = partition_progress(110, 0, Tally::of(95, 2));
        let gap = partition_progress(200, 40, Tally::of(60, 0));
        let found = summary(&BTreeMap::from([(0, whole), (1, gap)]));
        assert!(found.accounted, "{}", found.text);
        assert!(found.text.contains("200 offsets = 155 records + 5 without a record + 40 removed by retention"));
        assert!(found.text.contains("155 records = 153 written + 2 dead letters: all accounted for"), "{}", found.text);
    }

    #[test]
    fn what_a_filter_kept_back_is_accounted_for() {
        let tally = Tally { read: 100, written: 60, dead: 1, filtered: 39 };
        let found = summary(&BTreeMap::from([(0, partition_progress(110, 0, tally))]));
        assert!(found.accounted, "{}", found.text);
        assert!(
            found.text.contains("100 records = 60 written + 1 dead letter + 39 filtered: all accounted for"),
            "{}",
            found.text
        );
    }

    #[test]
    fn what_is_not_at_its_end_is_not_accounted_for() {
        let found = summary(&BTreeMap::from([(0, partition_progress(60, 0, Tally::of(50, 0)))]));
        assert!(!found.accounted);
        assert!(found.text.contains("NOT ALL ACCOUNTED FOR"), "{}", found.text);
    }
}
