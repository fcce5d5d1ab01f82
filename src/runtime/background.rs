//! What takes long to let go of is let go of elsewhere.

/// Drops something on a thread of its own. A Kafka client's destructor waits for librdkafka's threads, which can take seconds,
/// or for ever, when a broker does not answer; that of a GeoIP database unmaps a hundred megabytes.
pub fn retire(what: impl Send + 'static) {
    let spawned = std::thread::Builder::new().name("pressline-retire".into()).spawn(move || drop(what));
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread to let go of what is no longer needed: done here, where it may hold up others");
    }
}
