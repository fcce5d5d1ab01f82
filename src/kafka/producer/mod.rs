//! The producer and its transactions.
//!
//! A [`Transaction`] is begun from a [`Writer`], and committed or dropped. Dropped, failed or doubtful ones spend the
//! writer: it must be [reopened](Writer::reopen), which makes a new producer with the same transactional id, whose
//! InitProducerId ends on the broker what the old one left open. There is no call to abort.
//!
//! Why so strict: librdkafka retries an EndTxn that is late, silently, and the late one can commit the *next*
//! transaction. So a writer of which a request was not answered, or whose connection broke while a transaction was open,
//! is not used for another one, even when the commit was reported as done. Two sources tell of it, and no setting switches
//! either off: librdkafka's log, whose level is fixed here, and its statistics.

mod age;
mod error;
mod left_behind;
mod limits;
mod send;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::statistics::{Broker, Statistics};
use rdkafka::topic_partition_list::TopicPartitionList;

use self::age::Moment;
pub use self::error::{Cause, TransactionError};
use self::error::{
    Fenced, classify, init_error, is_fencing, names_fencing, no_producer, offsets_not_taken, retriable, too_many_calls,
    undelivered,
};
use self::left_behind::{Call, LEFT_BEHIND};
pub use self::limits::{Limits, OutputLimits, SMALLEST_DEAD_LETTER, TopicLimits};
use crate::config::{Delivery, KafkaConfig};
use crate::kafka::client;
use crate::kafka::client::Role;
pub use crate::kafka::producer::send::OutputRecord;
use crate::kafka::producer::send::RawProducer;
use crate::runtime::supervise::drop_in_background;

/// `transaction.timeout.ms`: below the consumer's session time-out, so that what a dead worker left open is ended
/// before its partitions are read by another.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(20);
/// `message.timeout.ms`: below the transaction's, so that a message fails before its transaction does.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// `socket.timeout.ms` of the producer: below both, so that a lost request is seen in time.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// `linger.ms`: a commit sends what is gathered without this wait. Until then only full batches go out: with short waits
/// librdkafka's thread looks for ripe ones all the time and makes small ones. Two small batches under way at once are a
/// danger, too: where a partition has just been made, the broker may refuse the first and take the second, which librdkafka
/// believes to mean that the first is there as well.
pub const LINGER: Duration = Duration::from_secs(1);

/// For so long an InitProducerId that was not answered may still come to the broker. When it does, after the one that was sent
/// in its stead, the broker takes it for another process's: it knows them by their transactional id alone. As long as a
/// system goes on sending what is left in a closed connection, and more.
const LATE_INIT: Duration = Duration::from_secs(300);

/// A call into librdkafka gets at least so long.
const SHORTEST_CALL: Duration = Duration::from_millis(100);
/// How long one call to deliver everything may take; between them errors are looked at.
const FLUSH: Duration = Duration::from_millis(20);
/// How much longer than its time-out a call may take before its thread is left behind.
const GRACE: Duration = Duration::from_secs(1);

/// What librdkafka's threads report about the producer.
#[derive(Default)]
struct Signs {
    /// A request timed out or a connection broke since the producer was made.
    doubtful: AtomicBool,
    /// The same, without what librdkafka mentions in debugging only: it closes connections by itself when it learns where the
    /// coordinator is, which each new producer does.
    troubled: AtomicBool,
    /// By the last statistics, how often that happened in the producer's life.
    breaks: AtomicI64,
    /// Messages that could not be delivered since then.
    undelivered: AtomicU64,
    /// Why, of the first of them.
    reason: Mutex<Option<KafkaError>>,
}

impl Signs {
    /// Whether a request may still be on its way to the broker, now that all calls have returned.
    fn are_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    /// What the statistics tell. They come once a second: what the log hid is noticed a transaction or two later.
    fn observe(&self, statistics: &Statistics) {
        let breaks: i64 = statistics.brokers.values().map(breaks).sum();
        if breaks > self.breaks.swap(breaks, Ordering::AcqRel) {
            self.doubtful.store(true, Ordering::Release);
        }
    }
}

/// Requests of this broker that timed out, and its connections that were closed.
fn breaks(broker: &Broker) -> i64 {
    broker.disconnects.unwrap_or_default().saturating_add(i64::try_from(broker.req_timeouts).unwrap_or(i64::MAX))
}

/// Whether a line of librdkafka's log says that requests may have been lost. Some lines in debugging say so of what each new
/// producer does: it tries to connect, and lets the bootstrap connections go, which carry no transaction.
fn tells_of_a_break(level: RDKafkaLogLevel, fac: &str, message: &str) -> bool {
    matches!(fac, "REQTMOUT" | "FAIL" | "ERROR" | "TXNERR")
        && (!matches!(level, RDKafkaLogLevel::Debug)
            || message.contains(" in state UP") && !message.contains("/bootstrap: "))
}

struct WriterContext {
    signs: Arc<Signs>,
}

impl ClientContext for WriterContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if tells_of_a_break(level, fac, message) {
            self.signs.doubtful.store(true, Ordering::Release);
            if !matches!(level, RDKafkaLogLevel::Debug) {
                self.signs.troubled.store(true, Ordering::Release);
            }
        }
        crate::kafka::client::log(level, fac, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.signs.observe(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.signs.doubtful.store(true, Ordering::Release);
        self.signs.troubled.store(true, Ordering::Release);
        tracing::debug!(client = "producer", %error, reason, "librdkafka reports an error");
    }
}

impl ProducerContext for WriterContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if let Err((error, _)) = result {
            // Only the first one names the cause: those after it are purged because of it.
            if self.signs.undelivered.fetch_add(1, Ordering::AcqRel) == 0
                && let Ok(mut reason) = self.signs.reason.lock()
            {
                *reason = Some(error.clone());
            }
        }
    }
}

/// A worker's producer, which can be replaced.
pub struct Writer {
    kafka: KafkaConfig,
    config: ClientConfig,
    delivery: Delivery,
    transactional_id: String,
    /// `transaction.timeout.ms` as it is set.
    timeout: Duration,
    /// What the topics take that are written to.
    output: Arc<OutputLimits>,
    /// The same, as it was known when the producer was made.
    limits: Arc<Limits>,
    signs: Arc<Signs>,
    raw: Option<RawProducer<WriterContext>>,
    /// A transaction was aborted, and no new producer has ended it yet.
    left_open: bool,
    /// When an InitProducerId may have been left behind on its way.
    late_init: Cell<Option<Moment>>,
}

impl Writer {
    /// Prepares the producer of a worker; nothing is sent before [`Self::reopen`]. `transactional_id` is used for
    /// [`Delivery::ExactlyOnce`] only.
    pub fn new(
        kafka: &KafkaConfig,
        delivery: Delivery,
        mut transactional_id: String,
        output: Arc<OutputLimits>,
    ) -> Result<Self, TransactionError> {
        let mut client =
            client::client_config(kafka, Role::Producer).map_err(|e| TransactionError::fatal(e.to_string()))?;
        defaults(&mut client, &kafka.producer.0, &kafka.properties.0);
        if crate::testing::mutant::is("random_transactional_id") {
            transactional_id = format!("{transactional_id}.{}", std::process::id());
        }
        client
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Success needs no report: a transaction commits only if everything was delivered, and the drain in
            // at-least-once counts failures.
            .set("delivery.report.only.error", "true")
            .set("log.connection.close", "true");
        match delivery {
            Delivery::ExactlyOnce => hear_all(&mut client),
            // Nothing rests on it there, and nobody looks for what it says while nothing is written.
            Delivery::AtLeastOnce => drop(client.set("statistics.interval.ms", "0")),
        }
        if delivery == Delivery::ExactlyOnce {
            client.set("transactional.id", &transactional_id);
        }
        let timeout = client
            .get("transaction.timeout.ms")
            .and_then(|ms| ms.parse().ok())
            .map_or(TRANSACTION_TIMEOUT, Duration::from_millis);
        Ok(Self {
            kafka: kafka.clone(),
            config: client,
            delivery,
            transactional_id,
            timeout,
            output,
            limits: Arc::default(),
            signs: Arc::default(),
            raw: None,
            left_open: false,
            late_init: Cell::default(),
        })
    }

    /// The id under which the broker knows this worker's transactions.
    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    /// Makes a new producer in place of the old one and, for transactions, ends what that left open. Blocks for at
    /// most `timeout`; on an error the writer stays unopened and the call may be repeated.
    pub fn reopen(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.close();
        too_many_calls(LEFT_BEHIND.room(Instant::now()))?;
        self.signs = Arc::default();
        self.limits = self.output.current();
        // They may have been replaced since the last producer was made.
        client::read_passwords(&mut self.config, &self.kafka)
            .map_err(|error| TransactionError::recover(Cause::Transport, error.to_string()))?;
        let batch_size = self.limits.batch_size(self.output.own_batch_size());
        self.config.set("batch.size", batch_size.to_string());
        let context = WriterContext { signs: Arc::clone(&self.signs) };
        let producer = BaseProducer::from_config_and_context(&self.config, context)
            .map_err(|e| TransactionError::fatal(format!("cannot make a producer: {e}")))?;
        if self.delivery == Delivery::ExactlyOnce
            && let Err(error) = producer.init_transactions(timeout)
        {
            drop_in_background(producer);
            self.late_init.set(Some(Moment::now()));
            return Err(init_error(&error, &self.transactional_id));
        }
        let raw = self.raw.insert(RawProducer::new(producer));
        // The log lines of requests that were late.
        raw.serve();
        self.signs.doubtful.store(false, Ordering::Release);
        if self.signs.troubled.swap(false, Ordering::AcqRel) {
            self.late_init.set(Some(Moment::now()));
        }
        self.left_open = false;
        Ok(())
    }

    /// What the topics take that are written to.
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    /// Whether a transaction can begin.
    pub fn is_open(&self) -> bool {
        self.raw.is_some()
    }

    /// Hands out what librdkafka has to say, also while nothing is written: its log lines wait until somebody asks.
    pub fn serve(&self) {
        if let Some(raw) = &self.raw {
            raw.serve();
        }
    }

    /// Lets the producer go. What it left open is ended by the next [`Self::reopen`] or the broker's time-out.
    pub fn close(&mut self) {
        if let Some(raw) = self.raw.take() {
            drop_in_background(raw.into_producer());
        }
    }

    /// Lets the producer go for good, in at most `timeout`. What a transaction that was aborted has left open is ended
    /// first, by a new producer: readers of the output would wait for it until `transaction.timeout.ms` is over. Not to be
    /// called after [`TransactionError::Fenced`]: it would fence the one that has taken over.
    pub fn finish(&mut self, timeout: Duration) {
        if self.left_open
            && let Err(error) = self.reopen(timeout)
        {
            let (id, wait) = (&self.transactional_id, self.timeout.as_secs());
            tracing::warn!("transaction of {id} is left to the broker, which ends it within {wait} s: {error}");
        }
        self.close();
    }

    /// Begins a transaction (or, at-least-once, a batch to be acknowledged).
    pub fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        self.signs.undelivered.store(0, Ordering::Release);
        let Some(raw) = self.raw.as_ref() else { return Err(no_producer()) };
        if self.delivery == Delivery::ExactlyOnce
            && let Err(error) = raw.producer().begin_transaction()
        {
            let error = self.classify(&error, Duration::ZERO);
            self.close();
            return Err(error);
        }
        Ok(Transaction { writer: self, began: Moment::now(), committed: false })
    }

    fn classify(&self, error: &KafkaError, age: Duration) -> TransactionError {
        let fenced = (self.is_fenced() || names_fencing(error)).then(|| match age >= self.timeout {
            true => Fenced::ForTime,
            false if self.had_late_init() => Fenced::ByOurselves,
            false => Fenced::ByAnother,
        });
        classify(error, fenced, &self.transactional_id)
    }

    /// Whether an InitProducerId of our own may have fenced us. Once: a second time it was another process.
    fn had_late_init(&self) -> bool {
        self.late_init.take().is_some_and(|since| since.age() < LATE_INIT)
    }

    /// Whether librdkafka has noted that another producer took over. Which call hears of it first is a matter of luck:
    /// the others then fail for what follows from it, such as messages that were not delivered.
    fn is_fenced(&self) -> bool {
        let fatal = self.raw.as_ref().and_then(|raw| raw.producer().client().fatal_error());
        fatal.is_some_and(|(code, _)| is_fencing(code))
    }
}

/// Has librdkafka say that a connection broke, whatever our own log shows. At `Info` it says so only once in 30 seconds for
/// each broker, as long as the words are the same; with its debug context `broker` it says it each time, at `Debug`.
fn hear_all(client: &mut ClientConfig) {
    if crate::testing::mutant::is("log_as_shown") {
        client.set_log_level(RDKafkaLogLevel::Error).set("statistics.interval.ms", "0");
        return;
    }
    let own = client.get("debug").map(|contexts| format!("{contexts},")).unwrap_or_default();
    client.set("debug", format!("{own}broker")).set_log_level(RDKafkaLogLevel::Debug);
}

/// What may be overridden: sensible values first, the user's own after them.
fn defaults(client: &mut ClientConfig, own: &crate::config::PropertyMap, both: &crate::config::PropertyMap) {
    let ms = |d: Duration| d.as_millis().to_string();
    let values = [
        ("transaction.timeout.ms", ms(TRANSACTION_TIMEOUT)),
        ("message.timeout.ms", ms(MESSAGE_TIMEOUT)),
        ("socket.timeout.ms", ms(REQUEST_TIMEOUT)),
        ("compression.type", "lz4".to_string()),
        ("linger.ms", ms(LINGER)),
        ("batch.num.messages", "10000".to_string()),
        ("queue.buffering.max.messages", "200000".to_string()),
        ("statistics.interval.ms", "1000".to_string()),
        // The first requests of a transaction are refused while the broker ends the one before it, a matter of milliseconds.
        ("retry.backoff.ms", "10".to_string()),
    ];
    for (name, value) in values {
        if !own.contains_key(name) && !both.contains_key(name) {
            client.set(name, value);
        }
    }
}

/// An open transaction. Dropping it without [`Self::commit`] spends the writer.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'w> {
    writer: &'w mut Writer,
    began: Moment,
    committed: bool,
}

impl Transaction<'_> {
    /// Hands a record to the producer. Waits while the producer's queue is full, up to the transaction's time-out.
    pub fn send(&mut self, mut record: OutputRecord<'_>) -> Result<(), TransactionError> {
        loop {
            let raw = self.writer.raw.as_mut().ok_or_else(no_producer)?;
            match raw.send(&mut record) {
                Ok(()) => return Ok(()),
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                    if self.began.elapsed() > self.writer.timeout {
                        return Err(TransactionError::recover(Cause::Delivery, "the producer's queue stayed full"));
                    }
                    raw.producer().poll(Duration::from_millis(1));
                }
                Err(error) => return Err(self.classify(&error)),
            }
        }
    }

    /// Commits output and offsets together and waits until the broker has confirmed it.
    ///
    /// `group` must have been taken when the transaction began: if the group has moved on since, the broker refuses
    /// the offsets. At-least-once waits for the output only; the caller commits the offsets after it.
    pub fn commit(
        self,
        offsets: &TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> Result<Committed, TransactionError> {
        let offsets_too = self.writer.delivery == Delivery::ExactlyOnce && !crate::testing::mutant::is("auto_commit");
        // Side by side: both wait for the broker.
        let sending = if offsets_too { Some(self.send_offsets(offsets, group)?) } else { None };
        self.drain()?;
        if let Some(sending) = sending {
            self.offsets_taken(&sending)?;
            crate::testing::fail_point::hit("after_send_offsets");
        }
        self.confirmed()
    }

    /// Commits output that moves no offsets: what tells that it was written is part of it.
    pub fn commit_alone(self) -> Result<Committed, TransactionError> {
        self.drain()?;
        self.confirmed()
    }

    /// Ends the transaction, of which everything is delivered.
    fn confirmed(mut self) -> Result<Committed, TransactionError> {
        crate::testing::fail_point::hit("before_commit");
        crate::testing::fail_point::soon("during_end_txn");
        if self.writer.delivery == Delivery::ExactlyOnce {
            self.end()?;
        }
        crate::testing::fail_point::hit("after_commit");
        self.committed = true;
        // Serve the error events that came in meanwhile, then judge.
        if let Ok(raw) = self.raw() {
            raw.serve();
        }
        if self.writer.signs.are_doubtful() && !crate::testing::mutant::is("keep_producer") {
            self.writer.close();
            return Ok(Committed { reopen: true });
        }
        Ok(Committed { reopen: false })
    }

    /// Waits until everything is acknowledged, without offsets: for output that is not part of a transaction.
    pub fn deliver(mut self) -> Result<(), TransactionError> {
        self.drain()?;
        self.committed = true;
        Ok(())
    }

    fn raw(&self) -> Result<&RawProducer<WriterContext>, TransactionError> {
        self.writer.raw.as_ref().ok_or_else(no_producer)
    }

    /// Begins to send the offsets. On a thread of its own, which is left behind when it is late: librdkafka waits for the
    /// group's coordinator without end when the broker falls silent
    /// (<https://github.com/confluentinc/librdkafka/issues/5456>), whatever the time-out.
    fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> Result<Call, TransactionError> {
        let (producer, offsets, left) = (Arc::clone(self.raw()?.producer()), offsets.clone(), self.time_left());
        let send = move || {
            let call = |timeout| producer.send_offsets_to_transaction(&offsets, &group, timeout);
            repeat(left, call)
        };
        Call::spawn(&LEFT_BEHIND, send).map_err(|error| offsets_not_taken(&format!("no thread ({error})")))
    }

    /// Waits until the group's coordinator has taken the offsets.
    fn offsets_taken(&self, sending: &Call) -> Result<(), TransactionError> {
        match sending.wait(self.time_left() + GRACE) {
            Ok(result) => result.map_err(|error| self.classify(&error)),
            Err(_) => Err(offsets_not_taken("no answer within the transaction's time-out")),
        }
    }

    /// Until the transaction's time-out, and never nothing.
    fn time_left(&self) -> Duration {
        self.writer.timeout.saturating_sub(self.began.elapsed()).max(SHORTEST_CALL)
    }

    fn end(&self) -> Result<(), TransactionError> {
        let producer = self.raw()?.producer();
        repeat(self.time_left(), |timeout| producer.commit_transaction(timeout)).map_err(|error| self.classify(&error))
    }

    /// Waits until everything is delivered. What is still gathered to full batches is sent at once, not when it has lingered.
    fn drain(&self) -> Result<(), TransactionError> {
        let raw = self.raw()?;
        while !raw.flush(FLUSH) {
            if self.began.elapsed() > self.writer.timeout {
                return Err(TransactionError::recover(Cause::Delivery, "messages were not delivered in time"));
            }
            // Failed messages are there as long as their report waits.
            raw.serve();
        }
        raw.serve();
        if self.writer.signs.undelivered.load(Ordering::Acquire) > 0 {
            let reason = self.writer.signs.reason.lock().ok().and_then(|mut reason| reason.take());
            if let Some(code) = reason.as_ref().and_then(KafkaError::rdkafka_error_code) {
                self.writer.output.refused(code);
            }
            let undelivered = TransactionError::recover(Cause::Delivery, undelivered(reason.as_ref()));
            let fenced = self.writer.is_fenced();
            return Err(if fenced { self.classify(&KafkaError::Flush(RDKafkaErrorCode::Fenced)) } else { undelivered });
        }
        Ok(())
    }

    fn classify(&self, error: &KafkaError) -> TransactionError {
        self.writer.classify(error, self.began.age())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.writer.left_open = self.writer.delivery == Delivery::ExactlyOnce;
            self.writer.close();
        }
    }
}

/// What a commit leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Committed {
    /// The writer saw a time-out or a broken connection: it was closed and must be reopened before the next
    /// transaction. Positions are known all the same, since this transaction did commit.
    pub reopen: bool,
}

/// Retriable errors: the same call with the same arguments, until the time is over.
fn repeat(limit: Duration, call: impl Fn(Duration) -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let began = Instant::now();
    loop {
        match call(limit.saturating_sub(began.elapsed()).max(SHORTEST_CALL)) {
            Err(error) if retriable(&error) && began.elapsed() < limit => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_lines_in_debugging_those_of_a_connection_in_use_tell() {
        use RDKafkaLogLevel::{Debug, Info};
        for (level, fac, message, tells) in [
            (Info, "FAIL", "[thrd:x]: 127.0.0.1:9092/1: Disconnected (after 3112ms in state UP)", true),
            (
                Debug,
                "FAIL",
                "TxnCoordinator: 127.0.0.1:9092: Disconnected (after 3112ms in state UP) (_TRANSPORT): identical to last error: error log suppressed",
                true,
            ),
            (
                Debug,
                "FAIL",
                "127.0.0.1:9092/1: 5 request(s) timed out: disconnect (after 32432ms in state UP) (_TIMED_OUT)",
                true,
            ),
            (
                Debug,
                "FAIL",
                "127.0.0.1:9092/bootstrap: Decommissioning this broker (after 104ms in state UP) (_DESTROY_BROKER)",
                false,
            ),
            (
                Debug,
                "FAIL",
                "TxnCoordinator/1: 127.0.0.1:9092: Closing connection due to nodename change (after 5ms in state TRY_CONNECT) (_TRANSPORT)",
                false,
            ),
            (Debug, "STATE", "127.0.0.1:9092/1: Broker changed state CONNECT -> UP", false),
        ] {
            assert_eq!(tells_of_a_break(level, fac, message), tells, "{message}");
        }
    }

    #[test]
    fn a_connection_that_broke_or_an_answer_that_was_lost_is_seen_in_the_statistics() {
        let statistics = |disconnects, req_timeouts| {
            let broker = Broker { disconnects: Some(disconnects), req_timeouts, ..Broker::default() };
            Statistics { brokers: [("1".to_string(), broker)].into(), ..Statistics::default() }
        };
        let signs = Signs::default();
        for (disconnects, timeouts, doubtful) in [(0, 0, false), (1, 0, true), (1, 0, false), (1, 1, true)] {
            signs.doubtful.store(false, Ordering::Release);
            signs.observe(&statistics(disconnects, timeouts));
            assert_eq!(signs.are_doubtful(), doubtful, "{disconnects} {timeouts}");
        }
    }
}
