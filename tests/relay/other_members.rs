//! A group with members of another kind: the broker takes nobody who divides partitions otherwise, and librdkafka asks on and on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::cluster::await_that;
use crate::support::{World, holds_all, presses, world};

/// A consumer of the relay's group that divides partitions by ranges, until it is dropped.
struct Stranger {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stranger {
    fn join(world: &World) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", world.cluster.bootstrap())
            .set("group.id", world.group())
            .set("client.id", "old-application")
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        consumer.subscribe(&[&world.raw]).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let _ = consumer.poll(Duration::from_millis(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_group_that_does_not_take_us_is_named_and_never_ready() {
    let Some(world) = world("other-members") else { return };
    world.send(&presses(0, 0..10));
    let stranger = Stranger::join(&world);
    await_that("the stranger's membership", || world.cluster.members(&world.group()) == 1);
    let said = format!("group {} has members of another kind (range; client ids: old-application)", world.group());
    let mut relay = world.run(&[]);
    relay.await_page(503, &said);
    holds_all(&relay.log(), &[&said, "stop them, or name another group in source.group"]);
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let (status, page) = relay.get("/readyz");
        assert_eq!(status, 503, "{page}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let check = world.pressline().args(["check", "--online"]).output().unwrap();
    let text = String::from_utf8([&check.stdout[..], &check.stderr].concat()).unwrap();
    assert!(!check.status.success());
    holds_all(&text, &[&said]);

    drop(stranger);
    world.await_relayed(&mut relay);
    relay.await_ready();
    holds_all(&relay.log(), &["ready"]);
    assert_eq!(relay.stop(), 0);
    assert_eq!(world.output().len(), 10);
}
