//! How long the ingress topic keeps raw records, and with them addresses.
//!
//! With tiered storage `local.retention.ms` is only what stays on the brokers' own disks: records are kept for all of
//! `retention.ms`. And a segment is deleted as a whole, once its newest record is old enough, so its oldest may be there for
//! `segment.ms` longer.

use std::collections::BTreeMap;

use crate::runtime::terminal::counted;

/// A topic's or a broker's settings by name.
pub type Settings = BTreeMap<String, String>;

/// Longest time that the ingress topic may keep addresses without a warning where nothing is set: Kafka's own default, and
/// enough to fix what broke over a weekend.
pub const LONGEST_MS: i64 = 7 * DAY_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const HOUR_MS: i64 = 3_600 * 1_000;

/// How long a topic keeps its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `retention.ms`; `None`: for ever.
    pub records_ms: Option<i64>,
    /// `segment.ms`, by which a record may be kept longer.
    pub segment_ms: i64,
    /// How much of it on the brokers' own disks, where older records move to tiered storage.
    pub local_ms: Option<i64>,
}

impl Retention {
    /// From a topic's settings; `None` where the broker did not tell.
    pub fn of(settings: &Settings) -> Option<Self> {
        let number = |name: &str| settings.get(name).and_then(|text| text.parse::<i64>().ok());
        let policy = settings.get("cleanup.policy").map(String::as_str).unwrap_or_default();
        let only_compacted = policy.contains("compact") && !policy.contains("delete");
        let told = number("retention.ms")?;
        let records_ms = Some(told).filter(|ms| *ms >= 0 && !only_compacted);
        let is_tiered = settings.get("remote.storage.enable").is_some_and(|text| text == "true");
        let segment_ms = number("segment.ms").unwrap_or_default().max(0);
        // -2: as long as retention.ms says.
        let local_ms = number("local.retention.ms").filter(|_| is_tiered).map(|ms| if ms == -2 { told } else { ms });
        Some(Self { records_ms, segment_ms, local_ms })
    }

    /// The longest that a record may be kept; `None`: for ever.
    pub fn longest_ms(self) -> Option<i64> {
        self.records_ms.map(|ms| ms.saturating_add(self.segment_ms))
    }

    /// For people: `for 30 days, 1 hour of it on the brokers' own disks and all of it in tiered storage, and up to 1 day longer
    /// until their segment is deleted (segment.ms)`.
    pub fn says(self) -> String {
        let Some(records_ms) = self.records_ms else { return format!("for ever{}", self.says_where()) };
        let segment = match self.segment_ms {
            0 => String::new(),
            ms => format!(", and up to {} longer until their segment is deleted (segment.ms)", duration(ms)),
        };
        format!("for {}{}{segment}", duration(records_ms), self.says_where())
    }

    fn says_where(self) -> String {
        match self.local_ms {
            Some(ms) if ms < 0 => ", in tiered storage too".into(),
            Some(ms) => {
                format!(", {} of it on the brokers' own disks and all of it in tiered storage", duration(ms))
            }
            None => String::new(),
        }
    }
}

/// A time in the largest unit that divides it.
pub fn duration(ms: i64) -> String {
    let (count, unit) = match ms {
        ms if ms % DAY_MS == 0 && ms != 0 => (ms / DAY_MS, "day"),
        ms if ms % HOUR_MS == 0 && ms != 0 => (ms / HOUR_MS, "hour"),
        ms if ms % 60_000 == 0 && ms != 0 => (ms / 60_000, "minute"),
        ms => (ms, "millisecond"),
    };
    counted(count, unit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Option<Retention> {
        Retention::of(&settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn of_a_tiered_topic_the_whole_time_counts_not_the_local_one() {
        let tiered = [("retention.ms", "2592000000"), ("segment.ms", "3600000"), ("local.retention.ms", "3600000")];
        let on = [tiered.as_slice(), &[("remote.storage.enable", "true")]].concat();
        let found = of(&on).unwrap();
        assert_eq!(found.longest_ms(), Some(30 * DAY_MS + HOUR_MS));
        let longer = "and up to 1 hour longer until their segment is deleted (segment.ms)";
        assert_eq!(
            found.says(),
            format!("for 30 days, 1 hour of it on the brokers' own disks and all of it in tiered storage, {longer}")
        );
        let off = [tiered.as_slice(), &[("remote.storage.enable", "false")]].concat();
        assert_eq!(of(&off).unwrap().says(), format!("for 30 days, {longer}"));
        assert_eq!(of(&[("retention.ms", "3600000")]).unwrap().says(), "for 1 hour", "segment.ms is not told");
        assert_eq!(of(&[("retention.ms", "-1"), ("segment.ms", "3600000")]).unwrap().says(), "for ever");
        let unset = [("retention.ms", "86400000"), ("local.retention.ms", "-2"), ("remote.storage.enable", "true")];
        assert_eq!(of(&unset).unwrap().local_ms, Some(DAY_MS));
    }

    #[test]
    fn for_ever_is_minus_one_or_compaction_alone() {
        assert_eq!(of(&[("retention.ms", "-1")]).unwrap().longest_ms(), None);
        let compacted = |policy| of(&[("retention.ms", "1000"), ("cleanup.policy", policy)]).unwrap().longest_ms();
        assert_eq!(compacted("compact"), None);
        assert_eq!(compacted("compact,delete"), Some(1000));
        assert_eq!(of(&[("cleanup.policy", "delete")]), None, "not told");
    }

    #[test]
    fn times_are_told_in_the_largest_unit_that_divides_them() {
        for (ms, text) in
            [(DAY_MS, "1 day"), (36 * HOUR_MS, "36 hours"), (90_000, "90000 milliseconds"), (0, "0 milliseconds")]
        {
            assert_eq!(duration(ms), text);
        }
    }
}
