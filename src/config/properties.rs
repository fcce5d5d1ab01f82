//! Tables of librdkafka properties, and those that the guarantees rest on, which are refused with the reason.

use std::borrow::Cow;
use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::PropertyMap;

/// librdkafka properties by name. In TOML `fetch.min.bytes = 1` and `"fetch.min.bytes" = 1` mean the same, and in the
/// environment `FETCH_MIN_BYTES`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Properties(pub PropertyMap);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = BTreeMap::new();
        flatten("", Dict::deserialize(deserializer)?, &mut flat).map_err(serde::de::Error::custom)?;
        Ok(Self(flat))
    }
}

impl JsonSchema for Properties {
    fn schema_name() -> Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        dotted_table()
    }
}

/// A table of texts, numbers and flags, whose names may be tables in tables because of their dots.
pub(super) fn dotted_table() -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": ["string", "number", "boolean", "object"] }
    })
}

/// Nested tables as one table of dotted names.
pub(super) fn flatten(prefix: &str, table: Dict, flat: &mut PropertyMap) -> Result<(), String> {
    for (key, value) in table {
        let key = key.to_ascii_lowercase().replace('_', ".");
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let name = canonical(name);
        let text = match value {
            Value::Dict(_, inner) => {
                flatten(&name, inner, flat)?;
                continue;
            }
            Value::String(_, text) => text,
            Value::Bool(_, flag) => flag.to_string(),
            Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
                (Some(n), _, _) => n.to_string(),
                (_, Some(n), _) => n.to_string(),
                (_, _, Some(n)) => n.to_string(),
                _ => return Err(format!("property {name}: a number that cannot be read")),
            },
            _ => return Err(format!("property {name}: expected text, a number, true or false")),
        };
        flat.insert(name, text);
    }
    Ok(())
}

/// librdkafka knows some properties by two names; set under both, the order would decide.
fn canonical(name: String) -> String {
    match name.as_str() {
        "delivery.timeout.ms" => "message.timeout.ms".into(),
        "compression.codec" => "compression.type".into(),
        "queue.buffering.max.ms" => "linger.ms".into(),
        // The few with an underscore, which was taken for a dot.
        "log.level" | "log.cb" | "error.cb" | "dr.cb" | "dr.msg.cb" | "enabled.events" => name.replace('.', "_"),
        _ => name,
    }
}

/// Why a value of a property may not be set, or `None` if it may.
pub fn value_refusal(name: &str, value: &str) -> Option<&'static str> {
    // librdkafka takes 0 to 86400000.
    let is_in = |range: std::ops::RangeInclusive<u64>| value.trim().parse::<u64>().is_ok_and(|ms| range.contains(&ms));
    match name {
        "statistics.interval.ms" if !is_in(100..=60_000) => {
            Some("lag, readiness and membership are read from the statistics: use 100 to 60000")
        }
        _ => None,
    }
}

/// Why a property may not be set, or `None` if it may.
pub fn refusal(name: &str) -> Option<&'static str> {
    const EXACTLY_ONCE: &str = "the exactly-once guarantee rests on pressline's own value";
    const SECRET: &str =
        "it holds a secret, which must not stand in a configuration; use the password file or environment variable";
    Some(match name {
        "transactional.id" => "it must be stable over restarts and different for every worker; set `instance` instead",
        "group.id" => "set `source.group` instead",
        "group.instance.id" => "set `source.static_membership` instead",
        "group.protocol" => "transactions need the classic protocol here; pressline sets it",
        "enable.auto.commit" | "auto.commit.enable" | "enable.auto.offset.store" | "auto.commit.interval.ms" => {
            "offsets are committed with the output, never by a timer: an automatic commit would lose events"
        }
        "isolation.level" => "aborted events must not be read; pressline sets read_committed",
        "check.crcs" => "a damaged record must not be relayed; pressline sets it",
        "auto.offset.reset" => "a lost position is an alarm, never a skip; see `source.start` for the first start",
        "enable.idempotence" | "acks" | "request.required.acks" | "enable.gapless.guarantee" => EXACTLY_ONCE,
        "max.in.flight" | "max.in.flight.requests.per.connection" | "message.send.max.retries" | "retries" => {
            EXACTLY_ONCE
        }
        "partitioner" => "keys must land where Java clients put them; pressline sets murmur2_random",
        "queued.max.messages.kbytes" => "it comes from the process's byte budget; set `memory.fetch_mb` instead",
        "delivery.report.only.error" | "dr_cb" | "dr_msg_cb" => EXACTLY_ONCE,
        "bootstrap.servers" | "metadata.broker.list" => "set `kafka.bootstrap_servers` instead",
        "security.protocol" => "it follows from `kafka.tls` and `kafka.sasl`",
        "sasl.mechanism" | "sasl.mechanisms" | "sasl.username" => "set it in `kafka.sasl` instead",
        "ssl.ca.location" | "ssl.certificate.location" | "ssl.key.location" => "set it in `kafka.tls` instead",
        "sasl.password" | "ssl.key.password" | "ssl.key.pem" | "ssl.keystore.password" => SECRET,
        "sasl.oauthbearer.client.secret" | "sasl.oauthbearer.config" => SECRET,
        "enable.ssl.certificate.verification" | "ssl.endpoint.identification.algorithm" => {
            "without it anybody can pose as the broker and read the addresses; set `kafka.tls.ca` to the broker's authority"
        }
        "log.connection.close" | "log_level" => {
            "a connection that breaks during a transaction must be noticed; set `log.level` to filter what is shown"
        }
        "log.queue" | "log_cb" | "error_cb" => "pressline reads librdkafka's log itself",
        "plugin.library.paths" => "no foreign code is loaded into a process that holds personal data",
        "enable.partition.eof" | "enabled_events" => "pressline does not use it",
        _ => return None,
    })
}

/// Properties of librdkafka's that only one side has: those of consumers, and those of producers.
const ONE_SIDED: [(&str, &[&str]); 2] = [
    (
        "consumer",
        &[
            "auto.offset.reset",
            "check.crcs",
            "consume.callback.max.messages",
            "coordinator.query.interval.ms",
            "fetch.error.backoff.ms",
            "fetch.max.bytes",
            "fetch.message.max.bytes",
            "fetch.min.bytes",
            "fetch.queue.backoff.ms",
            "fetch.wait.max.ms",
            "group.protocol.type",
            "group.remote.assignor",
            "heartbeat.interval.ms",
            "max.partition.fetch.bytes",
            "max.poll.interval.ms",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
            "partition.assignment.strategy",
            "queued.min.messages",
            "session.timeout.ms",
        ],
    ),
    (
        "producer",
        &[
            "batch.num.messages",
            "batch.size",
            "compression.level",
            "compression.type",
            "linger.ms",
            "message.timeout.ms",
            "produce.offset.report",
            "queue.buffering.backpressure.threshold",
            "queue.buffering.max.kbytes",
            "queue.buffering.max.messages",
            "queuing.strategy",
            "request.timeout.ms",
            "sticky.partitioning.linger.ms",
            "transaction.timeout.ms",
        ],
    ),
];

/// The side that alone has the property, where it is set for the other one, which would ignore it.
pub fn other_side(side: &str, name: &str) -> Option<&'static str> {
    let of = ONE_SIDED.iter().find(|(_, names)| names.contains(&name)).map(|(of, _)| *of);
    of.filter(|of| side != "properties" && *of != side)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn some_value(name: &str) -> &'static str {
        match name {
            "auto.offset.reset" => "earliest",
            "check.crcs" | "produce.offset.report" => "true",
            "compression.level" => "1",
            "compression.type" => "lz4",
            "group.protocol.type" => "consumer",
            "group.remote.assignor" => "uniform",
            "offset.store.method" => "broker",
            "offset.store.path" => ".",
            "partition.assignment.strategy" => "range",
            "queuing.strategy" => "fifo",
            _ => "10000",
        }
    }

    /// librdkafka says of each that it ignores it, and of none that it does not know it or takes it.
    #[test]
    fn properties_of_the_other_side_are_those_that_librdkafka_ignores() {
        use std::sync::{Arc, Mutex};

        use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
        use rdkafka::{ClientContext, consumer::BaseConsumer, consumer::ConsumerContext, producer::BaseProducer};
        use rdkafka::{producer::DeliveryResult, producer::ProducerContext};

        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<String>>);
        impl ClientContext for Lines {
            fn log(&self, _: RDKafkaLogLevel, _: &str, message: &str) {
                self.0.lock().unwrap().push_str(message);
            }
        }
        impl ConsumerContext for Lines {}
        impl ProducerContext for Lines {
            type DeliveryOpaque = ();
            fn delivery(&self, _: &DeliveryResult<'_>, _: ()) {}
        }

        for (side, other, names) in ONE_SIDED.iter().zip(["producer", "consumer"]).map(|((s, n), o)| (*s, o, *n)) {
            let lines = Lines::default();
            let mut config = ClientConfig::new();
            config.set("group.id", "g").set_log_level(RDKafkaLogLevel::Debug);
            for name in names {
                config.set(*name, some_value(name));
            }
            if other == "producer" {
                config.remove("group.id");
                let producer = BaseProducer::from_config_and_context(&config, lines.clone()).unwrap();
                producer.poll(std::time::Duration::from_millis(50));
            } else {
                let consumer = BaseConsumer::from_config_and_context(&config, lines.clone()).unwrap();
                consumer.poll(std::time::Duration::from_millis(50));
            }
            let said = lines.0.lock().unwrap().clone();
            for name in names {
                // Of two names of one property it says one.
                let named = match *name {
                    "linger.ms" => "queue.buffering.max.ms",
                    "compression.type" => "compression.codec",
                    "max.partition.fetch.bytes" => "fetch.message.max.bytes",
                    name => name,
                };
                assert!(said.contains(&format!("{named} is a {side} property")), "{name}: {said}");
                assert_eq!(other_side(other, name), Some(side));
                assert_eq!((other_side(side, name), other_side("properties", name)), (None, None));
            }
        }
        assert_eq!(other_side("producer", "socket.timeout.ms"), None);
    }

    #[test]
    fn what_the_guarantees_listen_to_may_not_be_switched_off_under_any_name() {
        for name in ["log_level", "log.level", "log.connection.close", "log_connection_close", "log.queue", "error.cb"]
        {
            let name = canonical(name.replace('_', "."));
            assert!(refusal(&name).is_some(), "{name}");
        }
        for (name, value, refused) in [
            ("statistics.interval.ms", "0", true),
            ("statistics.interval.ms", "-1", true),
            ("statistics.interval.ms", "86400000", true),
            ("statistics.interval.ms", "1000", false),
            ("linger.ms", "0", false),
        ] {
            assert_eq!(value_refusal(name, value).is_some(), refused, "{name} = {value}");
        }
    }
}
