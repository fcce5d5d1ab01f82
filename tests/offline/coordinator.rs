//! The coordinator, driven through random interleavings against a model of the broker: two workers share partitions
//! while rebalances, crashes, stalls, lost answers and late requests come at any moment. In the end every record must
//! have been written exactly once, in the order of its partition.
//!
//! `PRESSLINE_TEST_SEED=n` runs one seed; `PRESSLINE_TEST_STEPS=n` sets how many steps in all (a million by default).

use std::collections::{BTreeMap, BTreeSet};

use pressline::kafka::coordinator::{Coordinator, OpenTransaction, Phase, Take};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

const PARTITIONS: i32 = 4;
const WORKERS: usize = 2;
const STEPS_PER_RUN: u64 = 2_000;

/// A broker, as far as transactions and the group matter.
struct Broker {
    /// Offsets that hold a record, per partition: with gaps, as compaction and control records leave them.
    log: BTreeMap<i32, Vec<i64>>,
    ends: BTreeMap<i32, i64>,
    committed: BTreeMap<i32, i64>,
    generation: u64,
    owner: BTreeMap<i32, usize>,
    /// Per transactional id: the epoch, and what is open.
    epochs: [u64; WORKERS],
    open: [Option<Open>; WORKERS],
    /// What read_committed consumers see, in order.
    output: Vec<(i32, i64)>,
}

#[derive(Default)]
struct Open {
    records: Vec<(i32, i64)>,
    offsets: BTreeMap<i32, i64>,
}

impl Broker {
    fn new() -> Self {
        Self {
            log: BTreeMap::new(),
            ends: BTreeMap::new(),
            committed: (0..PARTITIONS).map(|p| (p, 0)).collect(),
            generation: 0,
            owner: BTreeMap::new(),
            epochs: [0; WORKERS],
            open: [const { None }; WORKERS],
            output: Vec::new(),
        }
    }

    fn append(&mut self, partition: i32, gap: i64) {
        let end = self.ends.entry(partition).or_default();
        *end += gap;
        self.log.entry(partition).or_default().push(*end);
        *end += 1;
    }

    fn next_record(&self, partition: i32, from: i64) -> Option<i64> {
        self.log.get(&partition)?.iter().copied().find(|offset| *offset >= from)
    }

    fn rebalance(&mut self, rng: &mut Pcg64, alive: &[bool; WORKERS]) {
        self.generation += 1;
        let members: Vec<usize> = (0..WORKERS).filter(|w| alive[*w]).collect();
        self.owner.clear();
        if !members.is_empty() {
            for partition in 0..PARTITIONS {
                self.owner.insert(partition, members[rng.random_range(0..members.len())]);
            }
        }
    }

    fn init_producer(&mut self, worker: usize) -> u64 {
        self.open[worker] = None;
        self.epochs[worker] += 1;
        self.epochs[worker]
    }

    /// The broker's own time-out: aborts and fences.
    fn time_out(&mut self, worker: usize) {
        if self.open[worker].is_some() {
            self.open[worker] = None;
            self.epochs[worker] += 1;
        }
    }

    /// EndTxn with commit; a stale epoch is refused.
    fn commit(&mut self, worker: usize, epoch: u64) -> bool {
        if self.epochs[worker] != epoch {
            return false;
        }
        if let Some(open) = self.open[worker].take() {
            self.output.extend(open.records);
            self.committed.extend(open.offsets);
        }
        true
    }

    /// Committed offsets of these partitions, or none while one of them is in an open transaction (KIP-447).
    fn stable(&self, partitions: &[i32]) -> Option<BTreeMap<i32, i64>> {
        let unstable = self.open.iter().flatten().any(|open| partitions.iter().any(|p| open.offsets.contains_key(p)));
        (!unstable).then(|| partitions.iter().map(|p| (*p, self.committed[p])).collect())
    }
}

/// A worker as the relay's loop drives it.
struct Worker {
    slot: usize,
    coordinator: Coordinator,
    /// Epoch of its producer; none: it must make one.
    producer: Option<u64>,
    /// Generation its assignment belongs to.
    generation: u64,
    fetch: BTreeMap<i32, i64>,
    batch: Vec<(i32, i64)>,
    transaction: Option<(OpenTransaction, u64, bool)>,
}

impl Worker {
    fn new(slot: usize) -> Self {
        Self {
            slot,
            coordinator: Coordinator::new(),
            producer: None,
            generation: 0,
            fetch: BTreeMap::new(),
            batch: Vec::new(),
            transaction: None,
        }
    }

    /// What happens inside a poll: rebalances are learned first, eager or only the difference.
    fn poll(&mut self, broker: &Broker, rng: &mut Pcg64, cooperative: bool) {
        if self.generation != broker.generation {
            // Only the difference, unless it missed a generation: then the group has thrown it out in between, and all
            // that it had is lost, whoever has it now.
            let cooperative = cooperative && self.generation + 1 == broker.generation;
            let mine: Vec<i32> = broker.owner.iter().filter(|(_, w)| **w == self.slot).map(|(p, _)| *p).collect();
            let had: Vec<i32> = self.coordinator.positions().keys().copied().collect();
            let gone: Vec<i32> = had.iter().copied().filter(|p| !cooperative || !mine.contains(p)).collect();
            let new: Vec<i32> = mine.iter().copied().filter(|p| !cooperative || !had.contains(p)).collect();
            let Some(starts) = broker.stable(&new) else { return };
            self.coordinator.revoked(&gone);
            self.batch.retain(|(p, _)| !gone.contains(p));
            self.fetch.retain(|p, _| !gone.contains(p));
            self.coordinator.assigned(&starts);
            self.fetch.extend(starts);
            self.generation = broker.generation;
            return;
        }
        let partitions: Vec<i32> = self.fetch.keys().copied().collect();
        if partitions.is_empty() {
            return;
        }
        let partition = partitions[rng.random_range(0..partitions.len())];
        let from = self.fetch[&partition];
        if let Some(offset) = broker.next_record(partition, from) {
            self.fetch.insert(partition, offset + 1);
            if self.coordinator.take(partition, offset) == Take::Taken {
                self.batch.push((partition, offset));
            }
        }
    }

    fn begin(&mut self, broker: &mut Broker) {
        let Some(epoch) = self.producer else { return };
        if self.batch.is_empty() {
            return;
        }
        if let Some(open) = self.coordinator.begin() {
            self.transaction = Some((open, self.generation, false));
            if broker.epochs[self.slot] == epoch {
                broker.open[self.slot] =
                    Some(Open { records: std::mem::take(&mut self.batch), offsets: BTreeMap::new() });
            }
        }
    }

    fn send_offsets(&mut self, broker: &mut Broker) {
        let Some((open, generation, sent)) = self.transaction.as_mut() else { return };
        if *sent {
            return;
        }
        let allowed = self.coordinator.may_commit(open)
            && *generation == broker.generation
            && self.producer == Some(broker.epochs[self.slot])
            && broker.open[self.slot].is_some();
        if allowed {
            if let Some(pending) = broker.open[self.slot].as_mut() {
                pending.offsets = open.offsets().clone();
            }
            *sent = true;
        } else {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        if let Some((open, ..)) = self.transaction.take() {
            self.coordinator.given_up(open);
        }
        self.batch.clear();
        self.producer = None;
    }

    /// The way back: new producer, then the committed offsets.
    fn recover(&mut self, broker: &mut Broker) {
        if self.producer.is_none() {
            self.producer = Some(broker.init_producer(self.slot));
        }
        if self.coordinator.phase() == Phase::Lost {
            let partitions: Vec<i32> = self.coordinator.positions().keys().copied().collect();
            if let Some(committed) = broker.stable(&partitions) {
                assert!(self.coordinator.rewound(&committed).is_empty());
                self.fetch.extend(committed);
                self.batch.clear();
            }
        }
    }
}

/// One EndTxn frame that the network still holds.
struct Late {
    worker: usize,
    epoch: u64,
}

fn commit(worker: &mut Worker, broker: &mut Broker, late: &mut Vec<Late>, rng: &mut Pcg64) {
    if !matches!(worker.transaction, Some((_, _, true))) {
        return;
    }
    let Some(epoch) = worker.producer else { return };
    match rng.random_range(0..10) {
        // The answer is lost, after or before the broker did it; or the frame is held back.
        0 => {
            broker.commit(worker.slot, epoch);
            worker.give_up();
        }
        1 => worker.give_up(),
        2 => {
            late.push(Late { worker: worker.slot, epoch });
            worker.give_up();
        }
        // librdkafka's own retry went through while the first frame is still held: done, but the producer is doubtful.
        3 => {
            late.push(Late { worker: worker.slot, epoch });
            finish(worker, broker, epoch, true);
        }
        _ => finish(worker, broker, epoch, false),
    }
}

fn finish(worker: &mut Worker, broker: &mut Broker, epoch: u64, doubtful: bool) {
    if broker.commit(worker.slot, epoch) {
        if let Some((open, ..)) = worker.transaction.take() {
            worker.coordinator.committed(open);
        }
        if doubtful {
            worker.producer = None;
        }
    } else {
        worker.give_up();
    }
}

fn run(seed: u64) {
    let mut rng = Pcg64::seed_from_u64(seed);
    let cooperative = rng.random_bool(0.5);
    let mut broker = Broker::new();
    let mut workers: Vec<Worker> = (0..WORKERS).map(Worker::new).collect();
    let mut late: Vec<Late> = Vec::new();
    broker.rebalance(&mut rng, &[true; WORKERS]);
    for _ in 0..STEPS_PER_RUN {
        let slot = rng.random_range(0..WORKERS);
        let worker = &mut workers[slot];
        match rng.random_range(0..100) {
            0..15 => {
                let gap = if rng.random_bool(0.2) { rng.random_range(1..4) } else { 0 };
                broker.append(rng.random_range(0..PARTITIONS), gap);
            }
            // The loop polls only when it is ready and has a producer.
            15..50 if worker.coordinator.phase() == Phase::Ready && worker.producer.is_some() => {
                worker.poll(&broker, &mut rng, cooperative);
            }
            50..62 => worker.begin(&mut broker),
            62..75 => worker.send_offsets(&mut broker),
            75..88 => commit(worker, &mut broker, &mut late, &mut rng),
            88..93 if worker.transaction.is_none() => worker.recover(&mut broker),
            93 => broker.rebalance(&mut rng, &[true; WORKERS]),
            94 => broker.time_out(slot),
            95 => {
                // kill -9 and a new start: nothing is remembered.
                *worker = Worker::new(slot);
                broker.rebalance(&mut rng, &[true; WORKERS]);
            }
            96 if !late.is_empty() => {
                let frame = late.swap_remove(rng.random_range(0..late.len()));
                broker.commit(frame.worker, frame.epoch);
            }
            _ => {}
        }
    }
    settle(&mut broker, &mut workers, &mut rng, cooperative);
    check(&broker, seed);
}

/// Lets everything that is left run to its end without disturbance.
fn settle(broker: &mut Broker, workers: &mut [Worker], rng: &mut Pcg64, cooperative: bool) {
    for slot in 0..WORKERS {
        broker.time_out(slot);
    }
    for _ in 0..20_000 {
        for worker in workers.iter_mut() {
            if worker.transaction.is_some() {
                worker.send_offsets(broker);
                if let Some(epoch) = worker.producer
                    && matches!(worker.transaction, Some((_, _, true)))
                {
                    finish(worker, broker, epoch, false);
                }
            } else if worker.coordinator.phase() != Phase::Ready || worker.producer.is_none() {
                worker.recover(broker);
            } else {
                worker.poll(broker, rng, cooperative);
                worker.begin(broker);
            }
        }
        let done = (0..PARTITIONS).all(|p| broker.next_record(p, broker.committed[&p]).is_none());
        if done && broker.open.iter().all(Option::is_none) {
            return;
        }
    }
    panic!("the workers came to a standstill");
}

fn check(broker: &Broker, seed: u64) {
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for &(partition, offset) in &broker.output {
        assert!(seen.insert((partition, offset)), "seed {seed}: partition {partition}, offset {offset} is doubled");
        let before = last.insert(partition, offset);
        assert!(before < Some(offset), "seed {seed}: partition {partition}, offset {offset} comes after {before:?}");
    }
    for (partition, offsets) in &broker.log {
        for offset in offsets {
            assert!(
                seen.contains(&(*partition, *offset)),
                "seed {seed}: partition {partition}, offset {offset} is lost"
            );
        }
    }
}

#[test]
fn every_record_is_written_once_and_in_order_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PRESSLINE_TEST_SEED") {
        return run(seed);
    }
    let runs = number("PRESSLINE_TEST_STEPS").unwrap_or(1_000_000).div_ceil(STEPS_PER_RUN);
    for seed in 0..runs {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "failed with PRESSLINE_TEST_SEED={seed}");
    }
}

/// A bounded run over partition 0, of which offsets 0 to 4 are records and 5 to 7 are none, and over partition 1, which is empty.
fn bounded() -> Coordinator {
    let mut coordinator = Coordinator::until(BTreeMap::from([(0, 8), (1, 3)]));
    coordinator.assigned(&BTreeMap::from([(0, 0), (1, 3), (2, 0)]));
    coordinator
}

fn commit_batch(coordinator: &mut Coordinator) -> BTreeMap<i32, i64> {
    let Some(open) = coordinator.begin() else { return BTreeMap::new() };
    let offsets = open.offsets().clone();
    coordinator.committed(open);
    offsets
}

#[test]
fn a_bounded_run_ends_at_its_end_whether_records_follow_or_not() {
    for records_follow in [true, false] {
        let mut coordinator = bounded();
        assert!((0..5).all(|offset| coordinator.take(0, offset) == Take::Taken));
        assert_eq!(commit_batch(&mut coordinator), BTreeMap::from([(0, 5)]));
        assert!(!coordinator.is_through(), "three offsets are left, whatever they are");
        if records_follow {
            assert_eq!(coordinator.take(0, 8), Take::Past);
            assert_eq!(coordinator.take(0, 9), Take::Past);
        } else {
            coordinator.drained(0);
        }
        assert!(!coordinator.is_through(), "the end is not committed yet");
        assert_eq!(commit_batch(&mut coordinator), BTreeMap::from([(0, 8)]));
        assert!(coordinator.is_through());
        // What comes later is no part of it, nor is a partition that was added.
        assert_eq!(
            (coordinator.take(0, 10), coordinator.take(1, 3), coordinator.take(2, 0)),
            (Take::Past, Take::Past, Take::Past)
        );
        assert_eq!(commit_batch(&mut coordinator), BTreeMap::new());
    }
}

#[test]
fn a_bounded_run_that_lost_its_positions_is_not_through() {
    let mut coordinator = bounded();
    coordinator.take(0, 4);
    coordinator.drained(0);
    let open = coordinator.begin().unwrap_or_else(|| panic!("there is a batch"));
    coordinator.given_up(open);
    assert!(!coordinator.is_through());
    coordinator.drained(0);
    assert!(!coordinator.has_batch(), "nothing is taken before the positions are known");
    assert!(coordinator.rewound(&BTreeMap::from([(0, 2), (1, 3), (2, 0)])).is_empty());
    assert_eq!(coordinator.take(0, 2), Take::Taken);
    assert!(!Coordinator::new().is_through(), "without bounds there is no end");
}
