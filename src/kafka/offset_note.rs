//! What is noted beside an offset in its group: a range that a sink has begun, what a replay has done so far, what the circuit
//! breaker has seen. So all of it moves when the offset moves.

/// Partition number.
pub type Partition = i32;

/// Offset of the next record to relay.
pub type NextOffset = i64;

/// Where a group's offset came from and what was noted with it (the metadata of an offset commit).
///
/// Written as `pressline/1 topic_id=… partitions=… resets=… pending=END:ATTEMPT seen=RECORDS:DEAD:LIMIT`, in bounded runs also `run=` (an [`Account`]),
/// `then=` (a [`Tally`]) and `asked=…`, and as `pressline/2` with `begun=END`; readers ignore words they do not know, and refuse a newer
/// version ([`OffsetNote::newer_version`]): what stands there must not be passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetNote {
    /// Id of the topic the offset belongs to.
    pub topic_id: Option<String>,
    /// Partitions the topic had when the group first started: higher ones were added later.
    pub partitions: Option<i32>,
    /// How often the position was set by hand. It is part of a sink's deduplication tokens: a server must not take a range
    /// that is loaded again on purpose for a repeated one.
    pub resets: u32,
    /// What a sink is about to write from the committed offset on.
    pub pending: Option<Pending>,
    /// Up to here, an insert that the server has refused since may have left rows in a sink's table.
    pub begun: Option<NextOffset>,
    /// Of a bounded run: its account up to the committed offset.
    pub account: Option<Account>,
    /// Of a bounded run: what `pending` adds to the account once it is written.
    pub then: Option<Tally>,
    /// Of a bounded run: what it was begun with, one word.
    pub asked: Option<String>,
    /// What the circuit breaker has seen of the partition.
    pub seen: Option<Seen>,
}

/// A range that was begun and of which nobody knows whether it was written: from the committed offset up to, but not
/// including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// After its last offset.
    pub end: NextOffset,
    /// Counts the attempts to write from this offset on, so that each has a deduplication token of its own.
    pub attempt: u32,
}

impl OffsetNote {
    /// Newest version of the notes that is read, and written where the one before cannot say it.
    pub const VERSION: u32 = 2;

    /// The version of a note by a newer pressline, which this one cannot read.
    pub fn newer_version(text: &str) -> Option<u32> {
        let version = text.split(' ').next()?.strip_prefix("pressline/")?.parse().ok()?;
        (version > Self::VERSION).then_some(version)
    }

    /// The metadata text.
    pub fn to_text(&self) -> String {
        let mut text = format!("pressline/{}", if self.begun.is_some() { Self::VERSION } else { 1 });
        if let Some(id) = &self.topic_id {
            text.push_str(" topic_id=");
            text.push_str(id);
        }
        if let Some(partitions) = self.partitions {
            text.push_str(&format!(" partitions={partitions}"));
        }
        if self.resets > 0 {
            text.push_str(&format!(" resets={}", self.resets));
        }
        if let Some(Pending { end, attempt }) = self.pending {
            text.push_str(&format!(" pending={end}:{attempt}"));
        }
        if let Some(begun) = self.begun {
            text.push_str(&format!(" begun={begun}"));
        }
        if let Some(account) = self.account {
            text.push_str(&format!(" run={}", account.to_text()));
        }
        if let Some(then) = self.then {
            text.push_str(&format!(" then={}", then.to_text()));
        }
        if let Some(asked) = &self.asked {
            text.push_str(&format!(" asked={asked}"));
        }
        if let Some(seen) = self.seen {
            text.push_str(&format!(" seen={}", seen.to_text()));
        }
        text
    }

    /// Reads metadata; whatever is not ours gives an empty note.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut note = Self::default();
        if !matches!(words.next(), Some("pressline/1" | "pressline/2")) {
            return note;
        }
        for word in words {
            match word.split_once('=') {
                Some(("topic_id", id)) if !id.is_empty() => note.topic_id = Some(id.to_string()),
                Some(("partitions", count)) => note.partitions = count.parse().ok(),
                Some(("resets", count)) => note.resets = count.parse().unwrap_or_default(),
                Some(("pending", pending)) => note.pending = Pending::parse(pending),
                Some(("begun", end)) => note.begun = end.parse().ok(),
                Some(("run", account)) => note.account = Account::parse(account),
                Some(("then", tally)) => note.then = Tally::parse(tally),
                Some(("asked", asked)) => note.asked = Some(asked.to_string()),
                Some(("seen", seen)) => note.seen = Seen::parse(seen),
                _ => {}
            }
        }
        note
    }
}

impl Pending {
    fn parse(text: &str) -> Option<Self> {
        let (end, attempt) = text.split_once(':')?;
        Some(Self { end: end.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}

/// A group's committed offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to relay.
    pub next: NextOffset,
    /// What was noted with it.
    pub note: OffsetNote,
}

/// What became of records: each is written, dead or filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records read.
    pub read: u64,
    /// Of these, written.
    pub written: u64,
    /// Of these, dead letters.
    pub dead: u64,
    /// Of these, those that a filter kept back.
    pub filtered: u64,
}

impl Tally {
    /// Of so many records, of which some are dead and the others written.
    pub fn of(read: usize, dead: usize) -> Self {
        Self { read: read as u64, written: read.saturating_sub(dead) as u64, dead: dead as u64, filtered: 0 }
    }

    /// The same with so many more records that were kept back.
    pub fn with_filtered(self, filtered: usize) -> Self {
        Self { read: self.read + filtered as u64, filtered: self.filtered + filtered as u64, ..self }
    }

    /// Adds a record that a filter kept back.
    pub fn add_filtered(&mut self) {
        self.read += 1;
        self.filtered += 1;
    }

    /// Adds a record.
    pub fn add(&mut self, is_dead: bool) {
        self.read += 1;
        *(if is_dead { &mut self.dead } else { &mut self.written }) += 1;
    }

    /// Both together.
    pub fn plus(self, more: Self) -> Self {
        Self {
            read: self.read + more.read,
            written: self.written + more.written,
            dead: self.dead + more.dead,
            filtered: self.filtered + more.filtered,
        }
    }

    /// `READ:WRITTEN:DEAD`, and `:FILTERED` where records were filtered, as it is noted.
    pub fn to_text(self) -> String {
        let text = format!("{}:{}:{}", self.read, self.written, self.dead);
        if self.filtered == 0 { text } else { format!("{text}:{}", self.filtered) }
    }

    /// Reads [`Self::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(':').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (read, written, dead) = (next()?, next()?, next()?);
        let filtered = numbers.next().map_or(Some(0), Result::ok)?;
        Some(Self { read, written, dead, filtered })
    }
}

/// A partition's part of a bounded run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// First offset of the run.
    pub from: NextOffset,
    /// After its last.
    pub end: NextOffset,
    /// Offsets of it that retention had removed before they could be read.
    pub removed: u64,
    /// What became of the records so far.
    pub tally: Tally,
}

impl Account {
    /// `FROM:END:REMOVED:READ:WRITTEN:DEAD[:FILTERED]`, as it is noted.
    pub fn to_text(self) -> String {
        format!("{}:{}:{}:{}", self.from, self.end, self.removed, self.tally.to_text())
    }

    /// Reads [`Self::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ':');
        let (from, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { from, end, removed: words.next()?.parse().ok()?, tally: Tally::parse(words.next()?)? })
    }

    /// Offsets up to `position` that are no records: markers of transactions, and what compaction has taken.
    pub fn without_record(&self, position: NextOffset) -> i64 {
        position - self.from - signed(self.removed) - signed(self.tally.read)
    }

    /// Whether the run has come to the partition's end and every record it read has one outcome.
    pub fn is_settled(&self, position: NextOffset) -> bool {
        let Tally { read, written, dead, filtered } = self.tally;
        position >= self.end && read == written + dead + filtered && self.without_record(self.end) >= 0
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Records of a partition and the dead letters among them, as they are noted with its offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records.
    pub records: u64,
    /// Dead letters among them.
    pub dead: u64,
    /// The share that was let through, in millionths.
    pub limit_ppm: u32,
}

impl Seen {
    /// `RECORDS:DEAD:LIMIT`, as it is noted.
    pub fn to_text(self) -> String {
        format!("{}:{}:{}", self.records, self.dead, self.limit_ppm)
    }

    /// Reads [`Self::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(':');
        let seen = Self {
            records: numbers.next()?.parse().ok()?,
            dead: numbers.next()?.parse().ok()?,
            limit_ppm: numbers.next()?.parse().ok()?,
        };
        (seen.dead <= seen.records && numbers.next().is_none()).then_some(seen)
    }

    /// With these records too; older ones fade once there are more than `window`.
    pub fn plus(self, more: Tally, window: usize) -> Self {
        let (records, dead) = (self.records.saturating_add(more.read), self.dead.saturating_add(more.dead));
        let window = window as u64;
        if records <= window {
            return Self { records, dead, ..self };
        }
        // Rounded up: one dead letter is not forgotten because many records follow.
        let faded = (u128::from(dead) * u128::from(window)).div_ceil(u128::from(records));
        Self { records: window, dead: u64::try_from(faded).unwrap_or(window).min(window), ..self }
    }
}
