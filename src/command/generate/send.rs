//! Brings presses out, to Kafka or into a file, at a rate, with progress and a summary.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::{GenerateError, Made, Pace, PressKind, Presses};
use crate::kafka::client::Role;
use crate::kafka::connection::Connected;
use crate::runtime::stdio;
use crate::runtime::terminal::{Bar, counted};

/// How often progress is shown on a terminal.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How often progress is printed as a line.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Events between two looks at the clock, where the rate does not ask for more.
const EVENTS_PER_LOOK: u64 = 256;
/// Longest pause between two looks at the stop signal.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Shortest one: at high rates a few events go out at a time, instead of one a wake-up, which would keep a core busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// How long what is queued may take to be acknowledged at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Where events go.
pub trait Sink {
    /// Takes one event; may wait until there is room.
    fn put(&mut self, made: &Made, key: &[u8], value: &[u8]) -> Result<(), GenerateError>;
    /// Does its own work for about this long.
    fn idle(&mut self, pause: Duration);
    /// Waits until everything is out. Errors: what was not.
    fn finish(&mut self) -> Result<(), GenerateError>;
}

/// What makes events.
pub trait Events {
    /// The next one's key and value, in the place of what is there; none after the last one.
    fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Option<Made>;
}

impl Events for Presses {
    fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Option<Made> {
        Some(Presses::next_into(self, key, value))
    }
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    /// All events.
    pub sent: u64,
    /// With an address that has a place.
    pub good: u64,
    /// With a private address.
    pub private: u64,
    /// With an address without a place, or none.
    pub unknown: u64,
    /// With a mistake, by its name.
    pub malformed: BTreeMap<&'static str, u64>,
    /// Orders.
    #[serde(skip_serializing_if = "is_zero")]
    pub orders: u64,
    /// Wall time.
    pub seconds: f64,
    /// Events per second of wall time.
    pub events_per_second: f64,
}

impl Summary {
    fn count(&mut self, kind: PressKind) {
        self.sent += 1;
        match kind {
            PressKind::Good => self.good += 1,
            PressKind::Private => self.private += 1,
            PressKind::Unknown => self.unknown += 1,
            PressKind::Order => self.orders += 1,
            PressKind::Malformed(mistake) => *self.malformed.entry(mistake.name()).or_default() += 1,
        }
    }

    fn finish(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        self.events_per_second = self.sent as f64 / self.seconds.max(1e-9);
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.orders > 0 {
            let sent = counted(self.orders, "order");
            return write!(f, "sent {sent} in {:.1} s ({:.0} orders/s)", self.seconds, self.events_per_second);
        }
        let sent = counted(self.sent, "event");
        writeln!(f, "sent {sent} in {:.1} s ({:.0} events/s)", self.seconds, self.events_per_second)?;
        writeln!(f, "  good       {:>10}", self.good)?;
        writeln!(f, "  private    {:>10}", self.private)?;
        writeln!(f, "  unknown    {:>10}", self.unknown)?;
        write!(f, "  malformed  {:>10}", self.malformed.values().sum::<u64>())?;
        for (name, count) in &self.malformed {
            write!(f, "\n    {name:<25} {count:>6}")?;
        }
        Ok(())
    }
}

/// Sends until the count is reached, there are no more events or `stop` is set; then waits until everything is out.
pub fn send(
    events: &mut dyn Events,
    sink: &mut dyn Sink,
    pace: &Pace,
    stop: &AtomicBool,
) -> Result<Summary, GenerateError> {
    let (mut key, mut value) = (Vec::with_capacity(64), Vec::with_capacity(512));
    let mut summary = Summary::default();
    let mut progress = Progress::new(pace);
    let began = Instant::now();
    'more: while !stop.load(Ordering::Relaxed) {
        let due = due(pace, summary.sent, began.elapsed());
        for _ in 0..due {
            let Some(made) = events.next_into(&mut key, &mut value) else { break 'more };
            sink.put(&made, &key, &value)?;
            summary.count(made.kind);
        }
        if pace.count.is_some_and(|count| summary.sent >= count) {
            break;
        }
        progress.tell(summary.sent);
        sink.idle(if due == 0 { until_next(pace, summary.sent, began.elapsed()) } else { Duration::ZERO });
    }
    sink.finish()?;
    progress.end();
    summary.finish(began.elapsed());
    Ok(summary)
}

/// How many events may go out now.
fn due(pace: &Pace, sent: u64, elapsed: Duration) -> u64 {
    let left = pace.count.map_or(u64::MAX, |count| count.saturating_sub(sent));
    let allowed = if pace.rate > 0.0 {
        // The first one goes out at once.
        ((elapsed.as_secs_f64() * pace.rate) as u64 + 1).saturating_sub(sent)
    } else {
        u64::MAX
    };
    left.min(allowed).min(EVENTS_PER_LOOK)
}

fn until_next(pace: &Pace, sent: u64, elapsed: Duration) -> Duration {
    let at = sent as f64 / pace.rate.max(1e-9);
    Duration::try_from_secs_f64(at - elapsed.as_secs_f64())
        .unwrap_or(LONGEST_PAUSE)
        .clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// A flag that SIGINT and SIGTERM set. Errors: no thread or no signal handler to be had.
pub fn stop_on_signal() -> Result<Arc<AtomicBool>, GenerateError> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// A bar on a terminal, lines elsewhere; both on standard error.
struct Progress {
    bar: Option<Bar>,
    began: Instant,
    told: Instant,
    told_sent: u64,
}

impl Progress {
    fn new(pace: &Pace) -> Self {
        Self { bar: Bar::new(pace.count, "events"), began: Instant::now(), told: Instant::now(), told_sent: 0 }
    }

    fn tell(&mut self, sent: u64) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        let passed = self.told.elapsed();
        if passed < every {
            return;
        }
        match &self.bar {
            Some(bar) => bar.at(sent),
            None => stdio::tell(format_args!(
                "{:.0} s: {}, {:.0} events/s",
                self.began.elapsed().as_secs_f64(),
                counted(sent, "event"),
                (sent - self.told_sent) as f64 / passed.as_secs_f64()
            )),
        }
        (self.told, self.told_sent) = (Instant::now(), sent);
    }

    fn end(self) {
        drop(self.bar);
    }
}

/// Writes values as lines.
pub struct Lines {
    file: PathBuf,
    out: BufWriter<Box<dyn Write>>,
}

impl Lines {
    /// Creates or truncates the file; `-` is standard output. Errors: it cannot be written.
    pub fn create(file: &Path) -> Result<Self, GenerateError> {
        let out: Box<dyn Write> = if file.as_os_str() == "-" {
            Box::new(stdio::Out)
        } else {
            Box::new(File::create(file).map_err(|source| GenerateError::Unwritable { file: file.into(), source })?)
        };
        Ok(Self { file: file.into(), out: BufWriter::with_capacity(1 << 16, out) })
    }

    fn written(&self, result: io::Result<()>) -> Result<(), GenerateError> {
        result.map_err(|source| GenerateError::Unwritable { file: self.file.clone(), source })
    }
}

impl Sink for Lines {
    fn put(&mut self, _made: &Made, _key: &[u8], value: &[u8]) -> Result<(), GenerateError> {
        let result = self.out.write_all(value).and_then(|()| self.out.write_all(b"\n"));
        self.written(result)
    }

    fn idle(&mut self, pause: Duration) {
        if pause > Duration::ZERO {
            // What cannot be written now is reported by the next `put` or `finish`.
            let _ = self.out.flush();
            thread::sleep(pause);
        }
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        let result = self.out.flush();
        self.written(result)
    }
}

/// Counts what the broker did not take.
#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
    first: Mutex<String>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result
            && self.failed.fetch_add(1, Ordering::Relaxed) == 0
        {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            *first = format!("partition {}: {error}", message.partition());
        }
    }
}

/// Sends to a topic: idempotent, acknowledged by all replicas, keys where Java clients put them.
pub struct Sender {
    topic: String,
    producer: BaseProducer<Deliveries>,
}

impl Sender {
    /// `live`: events come at a rate and should be seen at once, so batches wait less. Errors: a secret or a property.
    pub fn new(connected: &Connected, topic: &str, live: bool) -> Result<Self, GenerateError> {
        let mut config = connected.client_config(Role::Producer)?;
        for (name, value) in [
            ("queue.buffering.max.messages", "200000"),
            ("queue.buffering.max.kbytes", "131072"),
            ("linger.ms", if live { "5" } else { "50" }),
            ("compression.codec", "lz4"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true").set("acks", "all").set("partitioner", "murmur2_random");
        let producer = config
            .create_with_context(Deliveries::default())
            .map_err(|source| GenerateError::Kafka { what: format!("producer for topic {topic}"), source })?;
        Ok(Self { topic: topic.into(), producer })
    }

    fn delivered(&self) -> Result<(), GenerateError> {
        let deliveries = self.producer.context();
        match deliveries.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => {
                let first = deliveries.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(GenerateError::NotDelivered { topic: self.topic.clone(), count, first })
            }
        }
    }
}

impl Sink for Sender {
    fn put(&mut self, made: &Made, key: &[u8], value: &[u8]) -> Result<(), GenerateError> {
        let mut record = BaseRecord::to(&self.topic).key(key).timestamp(made.timestamp_ms());
        if made.has_value {
            record = record.payload(value);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    self.producer.poll(Duration::from_millis(5));
                    self.delivered()?;
                }
                Err((source, _)) => {
                    return Err(GenerateError::Kafka { what: format!("sending to topic {}", self.topic), source });
                }
            }
        }
    }

    fn idle(&mut self, pause: Duration) {
        self.producer.poll(pause);
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        let flushed = self.producer.flush(FLUSH_TIMEOUT);
        self.delivered()?;
        flushed.map_err(|source| GenerateError::Kafka {
            what: format!("waiting for the last events to topic {}", self.topic),
            source,
        })
    }
}
