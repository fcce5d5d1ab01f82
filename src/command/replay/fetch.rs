//! How a replay fetches: segments that a broker has moved to remote storage come late, and only in large pieces at a good
//! speed.

use crate::config::KafkaConfig;

/// The largest piece of a partition that is asked for at once.
const LARGEST_PIECE: u64 = 8 << 20;

/// The largest answer that is asked for: what a client takes at all (`receive.message.max.bytes`) is more.
const LARGEST_ANSWER: u64 = 100 << 20;

/// Sets what the user has not set. `fetch_kb` is a worker's share of the memory for fetched records.
pub fn suit(kafka: &mut KafkaConfig, fetch_kb: u64) {
    let budget = fetch_kb * 1024;
    // Half of the budget: the other half is worked on meanwhile.
    let piece = LARGEST_PIECE.min(budget / 2).max(1 << 20);
    let properties = [
        // A broker serves one remote partition a request, and reads no further than this: with the default of 1 MiB each one
        // costs a round trip to the remote storage, and the other partitions wait for it.
        ("fetch.message.max.bytes", piece.to_string()),
        ("fetch.max.bytes", budget.clamp(piece, LARGEST_ANSWER).to_string()),
        // Before Kafka 3.9 a broker abandons a remote read after this, and its work is lost, and half a second, the default,
        // is little for an object store. It is paid for once or twice, at the end, where a fetch waits for what never comes.
        ("fetch.wait.max.ms", "1000".to_string()),
        // The slowest read of a remote segment must not pass for a dead broker.
        ("socket.timeout.ms", "120000".to_string()),
        // A slow table must not cost us our partitions: no other member waits for them.
        ("max.poll.interval.ms", "900000".to_string()),
    ];
    for (name, value) in properties {
        if !kafka.consumer.0.contains_key(name) && !kafka.properties.0.contains_key(name) {
            kafka.consumer.0.insert(name.into(), value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use figment::providers::{Format, Toml};

    use super::*;

    fn suited(more: &str, fetch_kb: u64) -> impl Fn(&str) -> String {
        let text = format!("bootstrap_servers = \"127.0.0.1:1\"\n{more}");
        let mut kafka: KafkaConfig = figment::Figment::from(Toml::string(&text)).extract().unwrap();
        suit(&mut kafka, fetch_kb);
        move |name: &str| kafka.consumer.0.get(name).cloned().unwrap_or_default()
    }

    #[test]
    fn pieces_fit_the_budget_and_what_is_set_stays() {
        assert_eq!(suited("", 32 << 10)("fetch.message.max.bytes"), (8 << 20).to_string());
        assert_eq!(suited("", 4 << 10)("fetch.message.max.bytes"), (2 << 20).to_string());
        assert_eq!(suited("", 1 << 10)("fetch.max.bytes"), (1 << 20).to_string());
        assert_eq!(suited("consumer.fetch.wait.max.ms = 50", 1 << 10)("fetch.wait.max.ms"), "50");
        assert_eq!(suited("properties.socket.timeout.ms = 50", 1 << 10)("socket.timeout.ms"), "");
    }
}
