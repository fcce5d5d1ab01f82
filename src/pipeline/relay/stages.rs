//! What happens to the records of a batch between their reading and their writing.
//!
//! One of two kernels does it, chosen once for a pipeline. The press kernel decodes, looks up and encodes: a run of records goes
//! through each stage before the next one begins. So each stage's code stays in the processor's cache, and the searches for
//! places, which wait for memory, do so side by side; and the addresses are let go before the first record is written. Any other
//! pipeline is run by its plan, one record after the other.

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
use crate::pipeline::plan::kernel::{Kernel as Planned, Verdict};
use crate::pipeline::press::decode::Decoder;
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::{BUILD_HEADER, Enricher};
use crate::pipeline::press::event::{ClientIp, Press, PressBody};
use crate::pipeline::relay::metrics::BatchCounts;
use crate::place::{CacheStats, Lookup};

/// Records that go through a stage together: few enough that what is known of them stays in the processor's inner cache.
const RUN: usize = 64;

/// The stages, with what they count.
pub struct Stages {
    kernel: Kernel,
    /// Whether output records tell when the database of their place was built.
    pub tagged: bool,
    /// How long it took since the last batch to take up replaced GeoIP databases.
    pub refreshed: Duration,
    /// What became of the batch's records.
    pub ledger: Ledger,
    /// The key of a dead letter.
    place: Vec<u8>,
}

/// What makes outputs of records.
pub enum Kernel {
    /// Button presses.
    Press(Box<PressKernel>),
    /// Whatever the pipeline file says.
    Planned(Box<Planned>),
}

/// The press kernel, with the buffers it reuses.
pub struct PressKernel {
    decoder: Decoder,
    enricher: Enricher,
    encoder: Arc<Encoder>,
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

/// Outcomes of a batch's records.
#[derive(Default)]
pub struct Ledger {
    pub counts: BatchCounts,
    /// For the circuit breaker: dead or not.
    pub outcomes: Vec<bool>,
    /// The same by partition.
    pub tallies: BTreeMap<Partition, Tally>,
    /// Those of the partition at hand: records of one come in long runs.
    tally: (Partition, Tally),
}

/// What is the same for all records of a batch.
struct Task<'t> {
    config: &'t PipelineConfig,
    limits: &'t Limits,
    dead_topic: String,
    now_us: i64,
    tagged: bool,
}

impl Stages {
    /// Stages of a worker.
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel, tagged: false, refreshed: Duration::ZERO, ledger: Ledger::default(), place: Vec::new() }
    }

    /// Takes up replaced GeoIP databases.
    pub fn refresh(&mut self) {
        if let Some(enricher) = self.kernel.enricher() {
            enricher.refresh();
        }
    }

    /// How the cache of places stands, where places are looked up.
    pub fn cache_stats(&mut self) -> Option<CacheStats> {
        self.kernel.enricher().map(|enricher| enricher.cache_stats())
    }

    /// The kernel that runs a plan, where one does.
    pub fn planned(&mut self) -> Option<&mut Planned> {
        match &mut self.kernel {
            Kernel::Press(_) => None,
            Kernel::Planned(planned) => Some(planned),
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
        let task = Task { config, limits, dead_topic: config.dead_topic(), now_us, tagged: self.tagged };
        let mut last_reject = None;
        let Self { kernel, ledger, place, .. } = self;
        let mut bury = |reject: Reject, record: &BorrowedMessage<'_>, ledger: &mut Ledger, send: &mut Send<'_>| {
            last_reject = Some(reject);
            let timestamp_ms = task.taken(&task.dead_topic, record);
            send(dead_letter(place, &task, &reject, record, timestamp_ms))?;
            ledger.dead(&reject, record, timestamp_ms);
            Ok(())
        };
        for run in records.chunks(RUN) {
            match kernel {
                Kernel::Press(press) => press.relay(run, &task, ledger, &mut send, &mut bury)?,
                Kernel::Planned(planned) => relay_planned(planned, run, &task, ledger, &mut send, &mut bury)?,
            }
        }
        self.ledger.turn_to(-1);
        Ok(last_reject)
    }

    /// Forgets the batch before.
    pub fn clear(&mut self) {
        self.ledger.clear();
    }
}

/// Writes a record.
type Send<'s> = dyn FnMut(OutputRecord<'_>) -> Result<(), TransactionError> + 's;
/// Writes the dead letter of a record.
type Bury<'b> =
    dyn FnMut(Reject, &BorrowedMessage<'_>, &mut Ledger, &mut Send<'_>) -> Result<(), TransactionError> + 'b;

impl Task<'_> {
    /// The record's own time, where the topic takes it.
    fn taken(&self, topic: &str, record: &BorrowedMessage<'_>) -> Option<i64> {
        self.limits.timestamp(topic, timestamp_ms(record, self.now_us), self.now_us / 1000)
    }
}

impl Kernel {
    fn enricher(&mut self) -> Option<&mut Enricher> {
        match self {
            Self::Press(press) => Some(&mut press.enricher),
            Self::Planned(planned) => planned.enricher(),
        }
    }
}

impl Ledger {
    fn written(&mut self, bytes: u64, record: &BorrowedMessage<'_>, timestamp_ms: Option<i64>) {
        self.counts.written += 1;
        self.counts.bytes_out += bytes;
        self.settle(Some(false), record, timestamp_ms);
    }

    fn dead(&mut self, reject: &Reject, record: &BorrowedMessage<'_>, timestamp_ms: Option<i64>) {
        self.counts.add_dead(reject.reason);
        self.settle(Some(true), record, timestamp_ms);
    }

    fn filtered(&mut self, record: &BorrowedMessage<'_>) {
        self.counts.filtered += 1;
        self.settle(None, record, record.timestamp().to_millis());
    }

    /// Dead or not; none: filtered.
    fn settle(&mut self, is_dead: Option<bool>, record: &BorrowedMessage<'_>, timestamp_ms: Option<i64>) {
        self.outcomes.push(is_dead == Some(true));
        if record.partition() != self.tally.0 {
            self.turn_to(record.partition());
        }
        match is_dead {
            Some(is_dead) => self.tally.1.add(is_dead),
            None => self.tally.1.add_filtered(),
        }
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

    fn clear(&mut self) {
        self.tally = Default::default();
        self.counts.clear();
        self.outcomes.clear();
        self.tallies.clear();
    }
}

/// Relays a run of records by the pipeline's plan.
fn relay_planned(
    kernel: &mut Planned,
    run: &[BorrowedMessage<'_>],
    task: &Task<'_>,
    ledger: &mut Ledger,
    send: &mut Send<'_>,
    bury: &mut Bury<'_>,
) -> Result<(), TransactionError> {
    for record in run {
        crate::testing::fail_point::quote("panic_in_record", record.payload());
        #[cfg(feature = "mutants")]
        leak::beside(record, task.config);
        ledger.counts.timestamps_ms.extend(timestamp_ms(record, task.now_us));
        let verdict = kernel.run(record.payload(), record.key());
        kernel.lookups.iter().for_each(|outcome| ledger.counts.add_lookup(*outcome));
        let topic = match verdict {
            Ok(Verdict::Write(topic)) => kernel.topic(topic),
            Ok(Verdict::Filtered) => {
                ledger.filtered(record);
                continue;
            }
            Err(reject) => {
                bury(reject, record, ledger, send)?;
                continue;
            }
        };
        let timestamp_ms = task.taken(topic, record);
        let headers = allowed_headers(record, &task.config.source);
        let build = kernel.build.filter(|_| task.tagged);
        let output = OutputRecord {
            topic,
            key: kernel.key(record.key()),
            value: Some(kernel.value()),
            timestamp_ms,
            headers: with_build(headers, build),
        };
        #[cfg(feature = "mutants")]
        let output = leak::into_output(record, output);
        if task.limits.fits(&output) {
            let bytes = output.value.map_or(0, <[u8]>::len) as u64;
            send(output)?;
            ledger.written(bytes, record, timestamp_ms);
        } else {
            bury(Reject::TOO_LARGE_FOR_OUTPUT, record, ledger, send)?;
        }
    }
    Ok(())
}

impl PressKernel {
    /// A kernel of a worker.
    pub fn new(decoder: Decoder, enricher: Enricher, encoder: Arc<Encoder>) -> Self {
        Self {
            decoder,
            enricher,
            encoder,
            presses: Vec::with_capacity(RUN),
            addresses: Vec::with_capacity(RUN),
            value: Vec::with_capacity(512),
        }
    }

    fn relay(
        &mut self,
        run: &[BorrowedMessage<'_>],
        task: &Task<'_>,
        ledger: &mut Ledger,
        send: &mut Send<'_>,
        bury: &mut Bury<'_>,
    ) -> Result<(), TransactionError> {
        self.decode(run, task, ledger);
        self.look_up();
        let mut presses = std::mem::take(&mut self.presses);
        for (record, press) in run.iter().zip(presses.drain(..)) {
            let timestamp_ms = timestamp_ms(record, task.now_us);
            ledger.counts.timestamps_ms.extend(timestamp_ms);
            match press {
                Ok(press) => {
                    let topic = &task.config.output.topic;
                    let timestamp_ms = task.limits.timestamp(topic, timestamp_ms, task.now_us / 1000);
                    let output = self.output(&press, record, timestamp_ms, task, &mut ledger.counts);
                    if task.limits.fits(&output) {
                        let bytes = output.value.map_or(0, <[u8]>::len) as u64;
                        send(output)?;
                        ledger.written(bytes, record, timestamp_ms);
                    } else {
                        bury(Reject::TOO_LARGE_FOR_OUTPUT, record, ledger, send)?;
                    }
                }
                Err(reject) => bury(reject, record, ledger, send)?,
            }
        }
        self.presses = presses;
        Ok(())
    }

    /// Decodes the records of a run and parts them from their addresses.
    fn decode(&mut self, run: &[BorrowedMessage<'_>], task: &Task<'_>, ledger: &mut Ledger) {
        self.presses.clear();
        self.addresses.clear();
        for record in run {
            crate::testing::fail_point::quote("panic_in_record", record.payload());
            #[cfg(feature = "mutants")]
            leak::beside(record, task.config);
            let decoded = self.decoder.decode(record.payload(), task.now_us);
            ledger.counts.unknown_fields += decoded.as_ref().map_or(0, |press| u64::from(press.unknown_fields));
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
        task: &'s Task<'_>,
        counts: &mut BatchCounts,
    ) -> OutputRecord<'s> {
        let (fragment, outcome, build) = self.enricher.fragment_of(press.place);
        #[cfg(feature = "mutants")]
        let fragment = leak::into_place(record, &self.encoder).unwrap_or(fragment);
        self.value.clear();
        self.encoder.encode(&press.body, &fragment, &mut self.value);
        counts.add_lookup(outcome);
        let output = OutputRecord {
            topic: &task.config.output.topic,
            // From the validated value, not the record's own key, which could be anything.
            key: Some(press.body.session_id.as_bytes()),
            value: Some(&self.value),
            timestamp_ms,
            headers: with_build(allowed_headers(record, &task.config.source), build.filter(|_| task.tagged)),
        };
        #[cfg(feature = "mutants")]
        let output = leak::into_output(record, output);
        output
    }
}

/// The dead letter of a record: why and where, never what. `place` is overwritten.
fn dead_letter<'s>(
    place: &'s mut Vec<u8>,
    task: &'s Task<'_>,
    reject: &Reject,
    record: &BorrowedMessage<'_>,
    timestamp_ms: Option<i64>,
) -> OutputRecord<'s> {
    let (partition, offset) = (record.partition().to_string(), record.offset().to_string());
    place.clear();
    place.extend_from_slice(format!("{}/{partition}/{offset}", record.topic()).as_bytes());
    let (message, pipeline) = (reject.to_string(), &task.config.name);
    let headers = dead_letter::headers(
        header::OF_RELAY,
        [reject.reason.code(), reject.field, &message, record.topic(), &partition, &offset, reject.detail, pipeline],
    );
    let letter =
        OutputRecord { topic: &task.dead_topic, key: Some(place), value: None, timestamp_ms, headers: Some(headers) };
    #[cfg(feature = "mutants")]
    let letter = leak::into_letter(record, letter);
    letter
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
