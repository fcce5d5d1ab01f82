//! Leaving the consumer group, so that the next member need not wait for our session to expire.
//!
//! librdkafka 2.12 leaves when it closes a consumer that has partitions. Closed while it has none (more members than
//! partitions, or in the middle of a cooperative rebalance), it goes without a word: its broker keeps the member, and
//! every rebalance waits for it until `session.timeout.ms` is over. To unsubscribe first does leave, and is put off
//! until a rebalance that is under way has ended; so that is awaited here.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka_sys as sys;

/// How often it is asked whether we have left.
const INTERVAL: Duration = Duration::from_millis(20);

/// Leaves the group, in at most `timeout`; what is polled meanwhile is dropped. Not for static members: they stay in their
/// group over a restart (KIP-345).
pub(super) fn leave<C: ConsumerContext>(consumer: &BaseConsumer<C>, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    consumer.unsubscribe();
    // Between two requests of its first join a member has no id yet: only twice none means that it has left.
    let mut without = 0;
    while without < 2 && Instant::now() < deadline {
        let _ = consumer.poll(INTERVAL);
        without = if is_member(consumer.client()) { 0 } else { without + 1 };
    }
}

/// Whether the group's coordinator has given us a member id that we have not given back.
fn is_member<C: ClientContext>(client: &rdkafka::client::Client<C>) -> bool {
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`; the text is ours to free, which its own allocator does.
    unsafe {
        let id = sys::rd_kafka_memberid(rk);
        if id.is_null() {
            return false;
        }
        let member = !CStr::from_ptr(id).is_empty();
        sys::rd_kafka_mem_free(rk, id.cast());
        member
    }
}
