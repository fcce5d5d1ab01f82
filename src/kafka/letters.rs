//! Dead letters as they lie in their topic, and the marks that tell what became of them later.
//!
//! A mark is a record of the same topic with the letter's key: it lies in the letter's partition, behind it, and retention takes it
//! no earlier.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders, Timestamp};

use super::consumer::SourceError;
use super::dead_letter::{self, header};
use super::offset_note::Partition;
use super::records::Records;

/// What a letter is told by: the pipeline, the record that it is about, and the sink that refused it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    /// Topic of the record.
    pub topic: Arc<str>,
    /// Partition of the record.
    pub partition: Partition,
    /// Offset of the record.
    pub offset: i64,
    /// The sink, or the replay through one; empty: the relay.
    pub sink: Arc<str>,
    /// The pipeline; empty in letters of releases that did not name it.
    pub pipeline: Arc<str>,
}

/// One dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Partition and offset of the dead letter topic.
    pub at: (Partition, i64),
    /// Its record and who wrote it.
    pub id: LetterId,
    /// Code of the reason.
    pub reason: Arc<str>,
    /// Field or column; may be empty.
    pub field: Arc<str>,
    /// The reason in words.
    pub message: Arc<str>,
    /// Milliseconds since 1970: the record's, where that was plausible and the topic takes it, else when the letter was written.
    pub timestamp_ms: Option<i64>,
    /// Whether the topic keeps the timestamps that it is given.
    pub has_given_time: bool,
}

impl Letter {
    /// Whether a record of this time is the letter's, as far as times tell: a topic that was made again has others at its offsets. A
    /// record whose time was replaced in the letter, since no record should have it, does not pass either.
    pub fn is_about(&self, record: Timestamp) -> bool {
        let own = self.timestamp_ms.filter(|_| self.has_given_time);
        own.is_none() || record.to_millis().is_none() || own == record.to_millis()
    }
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Its record was written after all, or kept back by a filter.
    Replayed,
    /// Somebody decided that it is not to be replayed, for this reason.
    Discarded(String),
}

impl Mark {
    /// [`Mark::Replayed`] in [`header::MARK`].
    pub const REPLAYED: &str = "replayed";
    /// [`Mark::Discarded`] in [`header::MARK`].
    pub const DISCARDED: &str = "discarded";

    /// The headers of the letter's mark.
    pub fn headers(&self, id: &LetterId) -> OwnedHeaders {
        let (partition, offset) = (id.partition.to_string(), id.offset.to_string());
        let (mark, note) = match self {
            Self::Replayed => (Self::REPLAYED, ""),
            Self::Discarded(why) => (Self::DISCARDED, why.as_str()),
        };
        dead_letter::headers(header::OF_MARK, [mark, note, &id.topic, &partition, &offset, &id.sink, &id.pipeline])
    }

    fn of(record: &BorrowedMessage<'_>) -> Option<Self> {
        match header_text(record, header::MARK)? {
            Self::DISCARDED => Some(Self::Discarded(header_text(record, header::NOTE).unwrap_or_default().to_string())),
            _ => Some(Self::Replayed),
        }
    }
}

impl LetterId {
    /// The key of the letter and of its marks.
    pub fn key(&self) -> String {
        let Self { topic, partition, offset, sink, .. } = self;
        if sink.is_empty() {
            format!("{topic}/{partition}/{offset}")
        } else {
            format!("{topic}/{partition}/{offset}/{sink}")
        }
    }
}

/// A mark, and when it was set (milliseconds since 1970).
pub type Marked = (Mark, Option<i64>);

/// All letters of a topic, each once, with their marks.
#[derive(Default)]
pub struct Letters {
    letters: BTreeMap<LetterId, Letter>,
    marks: BTreeMap<LetterId, Marked>,
    /// Records that are no letters: notices, and what somebody else has written there.
    pub others: u64,
    /// The same few words come in every letter.
    words: HashSet<Arc<str>>,
}

impl Letters {
    /// Reads partitions from their first offsets to those given. A letter with the reason `notice` is none: it stands beside rows
    /// that are written. Errors: the topic cannot be read.
    pub fn read(
        records: &mut Records,
        ranges: &BTreeMap<Partition, (i64, i64)>,
        notice: &str,
        turn: &mut dyn FnMut(u64),
    ) -> Result<Self, SourceError> {
        let (mut letters, mut read) = (Self::default(), 0);
        for (&partition, &(low, high)) in ranges.iter().filter(|(_, (low, high))| low < high) {
            records.seek(partition, low)?;
            while let Some(record) = records.next()? {
                if record.offset() < high {
                    letters.take(&record, notice);
                    read += 1;
                    turn(read);
                }
                if record.offset() + 1 >= high {
                    break;
                }
            }
        }
        Ok(letters)
    }

    fn take(&mut self, record: &BorrowedMessage<'_>, notice: &str) {
        let Some(id) = self.id(record) else {
            self.others += 1;
            return;
        };
        if let Some(mark) = Mark::of(record) {
            self.marks.insert(id, (mark, record.timestamp().to_millis()));
            return;
        }
        let reason = header_text(record, header::REASON).unwrap_or_default();
        if reason.is_empty() || reason == notice {
            self.others += 1;
            return;
        }
        let mut word = |name: &str| self.word(header_text(record, name).unwrap_or_default());
        let (reason, field, message) = (word(header::REASON), word(header::FIELD), word(header::MESSAGE));
        let has_given_time = matches!(record.timestamp(), Timestamp::CreateTime(_));
        let timestamp_ms = record.timestamp().to_millis();
        let at = (record.partition(), record.offset());
        // Written twice, the later one tells more.
        self.letters.insert(id.clone(), Letter { at, id, reason, field, message, timestamp_ms, has_given_time });
    }

    fn id(&mut self, record: &BorrowedMessage<'_>) -> Option<LetterId> {
        let (partition, offset) = (number(record, header::PARTITION)?, number(record, header::OFFSET)?);
        Some(LetterId {
            topic: self.word(header_text(record, header::TOPIC)?),
            partition: Partition::try_from(partition).ok()?,
            offset,
            sink: self.word(header_text(record, header::SINK).unwrap_or_default()),
            pipeline: self.word(header_text(record, header::PIPELINE).unwrap_or_default()),
        })
    }

    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.words.get(text) {
            return Arc::clone(known);
        }
        let word: Arc<str> = Arc::from(text);
        self.words.insert(Arc::clone(&word));
        word
    }

    /// The letters with their marks, in the order of their records.
    pub fn all(&self) -> impl Iterator<Item = (&Letter, Option<&Marked>)> {
        self.letters.values().map(|letter| (letter, self.marks.get(&letter.id)))
    }
}

/// A header's text; `None` where there is none, or where it is no text.
pub fn header_text<'l>(record: &'l BorrowedMessage<'_>, name: &str) -> Option<&'l str> {
    let header = record.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()
}

fn number(record: &BorrowedMessage<'_>, name: &str) -> Option<i64> {
    header_text(record, name)?.parse().ok()
}
