//! Two processes share a topic under load while one of them, in turn, is killed: nothing lost, nothing duplicated, order kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rdkafka::producer::Producer;

use crate::cluster::{PATIENCE, Raw, send_one};
use crate::support::{Relay, World, calm_world, press};
use crate::tally::{Origin, Tally, Verdict};

const PARTITIONS: i32 = 4;
/// Records a second.
const RATE: f64 = 20_000.0;
/// One record in so many is a dead letter.
const BAD: u64 = 50;
/// Two processes must come back from a kill before the test's patience ends, so sessions and transactions are short.
const SHORT: [&str; 6] = [
    "kafka.consumer.session.timeout.ms=3000",
    "kafka.consumer.heartbeat.interval.ms=500",
    "kafka.producer.transaction.timeout.ms=2500",
    "kafka.producer.message.timeout.ms=2000",
    "kafka.producer.socket.timeout.ms=2000",
    "batch.max_records=4000",
];

/// A record whose session id tells its partition and its place there, which is its offset.
pub fn record(origin: Origin) -> Raw {
    let mut value = press(origin.number());
    if origin.sequence % BAD == BAD - 1 {
        value = value.replace("PressButton", "Nonsense");
    }
    Raw::value(i32::try_from(origin.partition).unwrap(), value)
}

/// Sends to all partitions until told to stop; how many to each.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<u64>>,
}

impl Load {
    pub fn start(world: &World, partitions: i32, rate: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (cluster, topic, stopped) = (world.cluster.clone(), world.raw.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let producer = cluster.producer();
            let mut sent = vec![0_u64; usize::try_from(partitions).unwrap()];
            let begun = Instant::now();
            while !stopped.load(Ordering::Acquire) {
                let due = (begun.elapsed().as_secs_f64() * rate) as u64;
                while sent.iter().sum::<u64>() < due {
                    for (partition, sequence) in (0..).zip(&mut sent) {
                        send_one(&producer, &topic, &record(Origin { partition, sequence: *sequence }));
                        *sequence += 1;
                    }
                }
                producer.poll(Duration::from_millis(2));
            }
            producer.flush(PATIENCE).unwrap();
            sent
        });
        Self { stop, thread }
    }

    /// Stops it; how many were sent to each partition.
    pub fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// Compares output and dead letters with what was sent.
pub fn verdict(world: &World, sent: &[u64]) -> Verdict {
    let mut tally = Tally::default();
    for (record, fields) in world.output() {
        let id: uuid::Uuid = fields["session_id"].as_str().unwrap().parse().unwrap();
        tally.see(Origin::of(id.as_u128()), i64::from(record.partition));
    }
    for record in world.dead_letters() {
        let number = |name: &str| record.header(name).unwrap().parse::<u64>().unwrap();
        let origin = Origin { partition: number("pressline.partition") as u32, sequence: number("pressline.offset") };
        // Partitions of the dead-letter topic, told from those of the output.
        tally.see(origin, -1 - i64::from(record.partition));
    }
    tally.verdict(sent)
}

fn start(world: &World, instance: &str, more: &[&str]) -> Relay {
    let instance = format!("instance={instance}");
    world.run(&[&SHORT[..], &[instance.as_str()], more].concat())
}

fn progress(world: &World) -> i64 {
    world.cluster.ends(&world.out).values().map(|(_, end)| end).sum()
}

fn await_progress(world: &World, relays: &mut [Relay], records: i64) {
    let from = progress(world);
    crate::cluster::await_that("the relay to go on", || {
        relays.iter_mut().for_each(Relay::still_runs);
        progress(world) > from + records
    });
}

/// Kills under load, then compares what came out; also how many records of aborted transactions were left out.
fn kill_again_and_again(world: &World, kills: usize, more: &[&str]) -> (Verdict, i64) {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = rand_pcg::Pcg64::seed_from_u64(seed);
    let begun = Instant::now();
    let load = Load::start(world, PARTITIONS, RATE);
    let names = ["a", "b"];
    let mut relays = names.map(|name| start(world, name, more));
    await_progress(world, &mut relays, 10_000);
    for kill in 0..kills {
        // Mostly while records flow, sometimes whenever it comes: before the group is joined, or in a rebalance.
        if kill % 4 != 3 {
            await_progress(world, &mut relays, 2_000);
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_000)));
        let victim = random.random_range(0..2);
        relays[victim].kill();
        relays[victim] = start(world, names[victim], more);
    }
    let sent = load.stop();
    let total: u64 = sent.iter().sum();
    println!("{kills} kills in {:.1} s, {total} records sent", begun.elapsed().as_secs_f64());
    world.cluster.await_relayed(&world.group(), &world.raw, Duration::from_secs(90), || {
        relays.iter_mut().for_each(Relay::still_runs);
    });
    println!("all relayed after {:.1} s", begun.elapsed().as_secs_f64());
    for relay in &mut relays {
        assert_eq!(relay.stop(), 0);
    }
    let found = verdict(world, &sent);
    let aborted = world.cluster.count_with_aborted(&world.out) as i64 - (total - total / BAD) as i64;
    println!(
        "{aborted} records of aborted transactions were left out, checked after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    (found, aborted)
}

/// Kills until one has hit an open transaction, without which nothing would be shown: mostly in the first round, but
/// when the kills happen to fall between transactions there are two more.
fn exactly_once(name: &str, kills: usize, more: &[&str]) {
    for round in 0..3 {
        let Some(world) = calm_world(&format!("{name}-{round}"), PARTITIONS) else { return };
        let (found, aborted) = kill_again_and_again(&world, kills, more);
        let counts = (found.lost.len(), found.doubled.len(), found.overtaken.len(), found.invented.len());
        assert_eq!(counts, (0, 0, 0, 0), "lost, doubled, overtaken, invented");
        if aborted > 0 {
            return;
        }
    }
    panic!("no kill hit an open transaction: nothing was shown");
}

#[test]
fn ten_kills_lose_nothing_double_nothing_and_keep_the_order() {
    exactly_once("kill", 10, &[]);
}

#[test]
fn kills_of_static_members_too() {
    exactly_once("kill-static", 4, &["source.static_membership=true"]);
}

#[test]
fn kills_at_least_once_lose_nothing() {
    let Some(world) = calm_world("kill-at-least-once", PARTITIONS) else { return };
    let (found, _) = kill_again_and_again(&world, 4, &["delivery=at_least_once"]);
    println!("{} doubled, as at least once allows", found.doubled.len());
    assert_eq!((found.lost.len(), found.invented.len()), (0, 0), "lost, invented");
}
