//! Time-outs that only make sense together.

use crate::config::{Delivery, PipelineConfig, Properties};
use crate::kafka::consumer::SESSION_TIMEOUT;
use crate::kafka::producer::{LINGER, MESSAGE_TIMEOUT, REQUEST_TIMEOUT, TRANSACTION_TIMEOUT};

use super::{Report, Subject};

/// librdkafka's own default.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

#[derive(Clone, Copy)]
enum Side {
    Consumer,
    Producer,
}

/// A time-out as it will be used.
struct TimeOut {
    name: &'static str,
    ms: u64,
    /// The key that set it, if it is not pressline's or librdkafka's own.
    key: Option<String>,
}

pub fn check(subject: &Subject<'_>, report: &mut Report) {
    let config = subject.config;
    let ms = |d: std::time::Duration| d.as_millis() as u64;
    let session = time_out(config, Side::Consumer, "session.timeout.ms", ms(SESSION_TIMEOUT));
    let poll = time_out(config, Side::Consumer, "max.poll.interval.ms", MAX_POLL_INTERVAL_MS);
    let transaction = time_out(config, Side::Producer, "transaction.timeout.ms", ms(TRANSACTION_TIMEOUT));
    let message = time_out(config, Side::Producer, "message.timeout.ms", ms(MESSAGE_TIMEOUT));
    let socket = time_out(config, Side::Producer, "socket.timeout.ms", ms(REQUEST_TIMEOUT));
    let linger = time_out(config, Side::Producer, "linger.ms", ms(LINGER));

    let before = report.findings.len();
    let mut below = |low: &TimeOut, factor: u64, high: &TimeOut, why: &str| {
        if low.ms.saturating_mul(factor) >= high.ms {
            report.findings.push(finding(subject, low, factor, high, why));
        }
    };
    if config.delivery == Delivery::ExactlyOnce {
        let why = "what a dead worker left open must have ended before another reads its partitions";
        below(&transaction, 1, &session, why);
        below(&message, 1, &transaction, "a message must fail before its transaction does");
        below(&socket, 1, &transaction, "a lost request must be noticed while its transaction lives");
    }
    below(&session, 2, &poll, "a worker that is slow but alive must not lose its partitions before a dead one does");
    below(&linger, 1, &message, "a message must be sent before it times out");
    if report.findings.len() == before {
        report.ok(subject.line("timeouts are consistent"));
    }
}

fn finding(
    subject: &Subject<'_>,
    low: &TimeOut,
    factor: u64,
    high: &TimeOut,
    why: &str,
) -> crate::config::finding::Finding {
    // pressline's own values agree, so one of the two was set.
    let key = low.key.as_ref().or(high.key.as_ref()).cloned().unwrap_or_else(|| "kafka".into());
    let shown = |t: &TimeOut| match (t.ms, &t.key) {
        (u64::MAX, _) => format!("{} is unlimited", t.name),
        (ms, Some(_)) => format!("{} is {ms}", t.name),
        (ms, None) => format!("{} is {ms} by default", t.name),
    };
    let relation = if factor == 1 { "must be below".to_string() } else { format!("must be below 1/{factor} of") };
    let (low_name, high_name) = (low.name, high.name);
    subject.error(
        &key,
        format!("{} and {}, but {low_name} {relation} {high_name}: {why}", shown(low), shown(high)),
        format!("lower {low_name} or raise {high_name}"),
    )
}

fn time_out(config: &PipelineConfig, side: Side, name: &'static str, default: u64) -> TimeOut {
    let own = match side {
        Side::Consumer => ("consumer", &config.kafka.consumer),
        Side::Producer => ("producer", &config.kafka.producer),
    };
    // The side's own table wins over the common one.
    let tables: [(&str, &Properties); 2] = [own, ("properties", &config.kafka.properties)];
    for (table, properties) in tables {
        // A value that is no number is complained about as an invalid property.
        if let Some(ms) = properties.0.get(name).and_then(|text| text.parse::<f64>().ok()) {
            let ms = if ms == 0.0 && name != "linger.ms" { u64::MAX } else { ms as u64 };
            return TimeOut { name, ms, key: Some(format!("kafka.{table}.{name}")) };
        }
    }
    TimeOut { name, ms: default, key: None }
}
