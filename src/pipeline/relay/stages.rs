//! Decode, look up, encode: what happens to the records of a batch between their reading and their writing.
//!
//! A run of records goes through each stage before the next one begins. So each stage's code stays in the processor's
//! cache, and the searches for places, which wait for memory, do so side by side; and the addresses are let go before the
//! first record is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

#[cfg(feature = "mutants")]
use super::leak;
use crate::avro::timestamp;
use crate::config::{PipelineConfig, SourceConfig};
use crate::kafka::dead_letter;
use crate::kafka::dead_letter::{Reject, header};
use crate::kafka::offset_note::Partition;
use crate::kafka::offset_note::Tally;
use crate::kafka::producer::{Limits, OutputRecord, TransactionError};
use crate::pipeline::press::decode::Decoder;
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::{BUILD_HEADER, Enricher};
use crate::pipeline::press::event::{ClientIp, Press, PressBody};
use crate::pipeline::relay::metrics::BatchCounts;
use crate::place::Lookup;

/// Records that go through a stage together: few enough that what is known of them stays in the processor's inner cache.
const RUN: usize = 64;

/// The stages, with the buffers they reuse, and what they count.
pub struct Stages {
    decoder: Decoder,
    pub enricher: Enricher,
    /// Whether output records tell when the database of their place was built.
    pub tagged: bool,
    encoder: Arc<Encoder>,
    /// How long it took since the last batch to take up replaced GeoIP databases.
    pub refreshed: Duration,
    pub counts: BatchCounts,
    /// Outcomes of the batch for the circuit breaker: dead or not.
    pub outcomes: Vec<bool>,
    /// The same by partition.
    pub tallies: BTreeMap<Partition, Tally>,
    /// Those of the partition at hand: records of one come in long runs.
    tally: (Partition, Tally),
    /// What the records of a run say, or why they are dead letters.
    presses: Vec<Result<Sought, Reject>>,
    /// Their addresses, until they are looked up.
    addresses: Vec<Option<ClientIp>>,
    /// One encoded value.
    value: Vec<u8>,
}

/// A press, and what the databases have for its address, if it had one.
struct Sought {
    body: PressBody,
    place: Option<Lookup>,
}

impl Stages {
    /// Stages of a worker.
    pub fn new(decoder: Decoder, enricher: Enricher, encoder: Arc<Encoder>) -> Self {
        Self {
            decoder,
            enricher,
            tagged: false,
            encoder,
            refreshed: Duration::ZERO,
            counts: BatchCounts::default(),
            outcomes: Vec::new(),
            tallies: BTreeMap::new(),
            tally: Default::default(),
            presses: Vec::with_capacity(RUN),
            addresses: Vec::with_capacity(RUN),
            value: Vec::with_capacity(512),
        }
    }

    /// Relays the records of a batch: what each becomes is given to `send`, outputs and dead letters, in the records' order.
    /// The last reason for a dead letter.
    ///
    /// # Errors
    /// Those of `send`; the rest of the batch is left then.
    pub fn relay(
        &mut self,
        records: &[BorrowedMessage<'_>],
        now_us: i64,
        config: &PipelineConfig,
        limits: &Limits,
        mut send: impl FnMut(OutputRecord<'_>) -> Result<(), TransactionError>,
    ) -> Result<Option<Reject>, TransactionError> {
        let dead_topic = config.dead_topic();
        let now_ms = now_us / 1000;
        let mut last_reject = None;
        for run in records.chunks(RUN) {
            self.decode(run, now_us, config);
            self.look_up();
            let mut presses = std::mem::take(&mut self.presses);
            for (record, press) in run.iter().zip(presses.drain(..)) {
                let timestamp_ms = timestamp_ms(record, now_us);
                self.counts.timestamps_ms.extend(timestamp_ms);
                let taken = |topic: &str| limits.timestamp(topic, timestamp_ms, now_ms);
                let reject = match press {
                    Ok(press) => {
                        let timestamp_ms = taken(&config.output.topic);
                        let output = self.output(&press, record, timestamp_ms, config);
                        if limits.fits(&output) {
                            let bytes = output.value.map_or(0, <[u8]>::len) as u64;
                            send(output)?;
                            self.written(bytes, record, timestamp_ms);
                            continue;
                        }
                        Reject::TOO_LARGE_FOR_OUTPUT
                    }
                    Err(reject) => reject,
                };
                let timestamp_ms = taken(&dead_topic);
                send(self.dead_letter(&dead_topic, &reject, record, timestamp_ms))?;
                self.dead(&reject, record, timestamp_ms);
                last_reject = Some(reject);
            }
            self.presses = presses;
        }
        self.turn_to(-1);
        Ok(last_reject)
    }

    fn written(&mut self, bytes: u64, record: &BorrowedMessage<'_>, timestamp_ms: Option<i64>) {
        self.counts.written += 1;
        self.counts.bytes_out += bytes;
        self.settle(false, record, timestamp_ms);
    }

    fn dead(&mut self, reject: &Reject, record: &BorrowedMessage<'_>, timestamp_ms: Option<i64>) {
        self.counts.add_dead(reject.reason);
        self.settle(true, record, timestamp_ms);
    }

    fn settle(&mut self, is_dead: bool, record: &BorrowedMessage<'_>, timestamp_ms: Option<i64>) {
        self.outcomes.push(is_dead);
        if record.partition() != self.tally.0 {
            self.turn_to(record.partition());
        }
        self.tally.1.add(is_dead);
        self.counts.timestamps_replaced +=
            u64::from(timestamp_ms.is_none() && record.timestamp().to_millis().is_some());
    }

    /// Adds up what was counted, and counts another partition's records.
    fn turn_to(&mut self, partition: Partition) {
        let (before, tally) = std::mem::replace(&mut self.tally, (partition, Tally::default()));
        if tally.read > 0 {
            let sum = self.tallies.entry(before).or_default();
            *sum = sum.plus(tally);
        }
    }

    /// Forgets the batch before.
    pub fn clear(&mut self) {
        self.tally = Default::default();
        self.counts.clear();
        self.outcomes.clear();
        self.tallies.clear();
    }

    /// Decodes the records of a run and parts them from their addresses.
    fn decode(&mut self, run: &[BorrowedMessage<'_>], now_us: i64, #[allow(unused)] config: &PipelineConfig) {
        self.presses.clear();
        self.addresses.clear();
        for record in run {
            crate::testing::fail_point::quote("panic_in_record", record.payload());
            #[cfg(feature = "mutants")]
            leak::beside(record, config);
            let decoded = self.decoder.decode(record.payload(), now_us);
            self.counts.unknown_fields += decoded.as_ref().map_or(0, |press| u64::from(press.unknown_fields));
            let (address, press) = match decoded.map(Press::split) {
                Ok((address, body)) => (address, Ok(Sought { body, place: None })),
                Err(reject) => (None, Err(reject)),
            };
            self.addresses.push(address);
            self.presses.push(press);
        }
    }

    /// Searches the databases for the addresses of the run, and lets them go.
    fn look_up(&mut self) {
        for (press, address) in self.presses.iter_mut().zip(self.addresses.drain(..)) {
            if let Ok(press) = press {
                press.place = address.map(|address| self.enricher.search(&address));
            }
        }
    }

    /// The output of a press.
    fn output<'s>(
        &'s mut self,
        press: &'s Sought,
        record: &BorrowedMessage<'_>,
        timestamp_ms: Option<i64>,
        config: &'s PipelineConfig,
    ) -> OutputRecord<'s> {
        let (fragment, outcome, build) = self.enricher.fragment_of(press.place);
        #[cfg(feature = "mutants")]
        let fragment = leak::into_place(record, &self.encoder).unwrap_or(fragment);
        self.value.clear();
        self.encoder.encode(&press.body, &fragment, &mut self.value);
        self.counts.add_lookup(outcome);
        let output = OutputRecord {
            topic: &config.output.topic,
            // From the validated value, not the record's own key, which could be anything.
            key: Some(press.body.session_id.as_bytes()),
            value: Some(&self.value),
            timestamp_ms,
            headers: with_build(allowed_headers(record, &config.source), build.filter(|_| self.tagged)),
        };
        #[cfg(feature = "mutants")]
        let output = leak::into_output(record, output);
        output
    }

    /// The dead letter of a record: why and where, never what.
    fn dead_letter<'s>(
        &'s mut self,
        topic: &'s str,
        reject: &Reject,
        record: &BorrowedMessage<'_>,
        timestamp_ms: Option<i64>,
    ) -> OutputRecord<'s> {
        let (partition, offset) = (record.partition().to_string(), record.offset().to_string());
        self.value.clear();
        self.value.extend_from_slice(format!("{}/{partition}/{offset}", record.topic()).as_bytes());
        let headers = dead_letter::headers(
            header::OF_RELAY,
            [reject.reason.code(), reject.field, &reject.to_string(), record.topic(), &partition, &offset],
        );
        let letter = OutputRecord { topic, key: Some(&self.value), value: None, timestamp_ms, headers: Some(headers) };
        #[cfg(feature = "mutants")]
        let letter = leak::into_letter(record, letter);
        letter
    }
}

/// The record's own time, where it can be one: a sender may have put any number there, an address as well.
pub fn timestamp_ms(record: &BorrowedMessage<'_>, now_us: i64) -> Option<i64> {
    let ms = record.timestamp().to_millis()?;
    timestamp::plausible(ms.checked_mul(1000)?, now_us).ok().map(|_| ms)
}

/// Headers on the allow list, in their order; one with an address anywhere in its value stays behind all the same. So does what
/// would make them larger than a value may be: a record that the output topic refuses would come again for ever.
fn allowed_headers(record: &BorrowedMessage<'_>, source: &SourceConfig) -> Option<OwnedHeaders> {
    if source.headers.is_empty() {
        return None;
    }
    let mut room = source.max_record_bytes;
    let mut kept: Option<OwnedHeaders> = None;
    for header in record.headers()?.iter().filter(|h| source.headers.iter().any(|a| a == h.key)) {
        let size = header.key.len() + header.value.map_or(0, <[u8]>::len);
        let Some(left) = room.checked_sub(size) else { continue };
        let carries_address = header.value.is_some_and(|v| ClientIp::stands_in(&String::from_utf8_lossy(v)));
        if !carries_address {
            room = left;
            kept = Some(kept.unwrap_or_default().insert(header));
        }
    }
    kept
}

/// The headers with the build time of the database that the place came from.
fn with_build(headers: Option<OwnedHeaders>, build: Option<u64>) -> Option<OwnedHeaders> {
    let Some(build) = build else { return headers };
    let epoch = build.to_string();
    Some(headers.unwrap_or_default().insert(Header { key: BUILD_HEADER, value: Some(&epoch) }))
}
