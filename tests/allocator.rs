//! What is freed goes back to the system. Alone in its program: it looks at the memory of the whole process.
#![allow(clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

/// As large as the larger parts of a GeoIP database.
const BLOCK: usize = 20 << 20;
const THREADS: usize = 4;

#[test]
fn memory_of_large_blocks_does_not_stay_behind_in_the_arenas_of_threads() {
    pressline::daemon::process::give_back_large_blocks();
    let before = resident_mb().unwrap();
    let (freed, seen) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let growth = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                // The first one would teach the allocator to keep the second.
                for _ in 0..2 {
                    black_box(vec![1u8; BLOCK]);
                }
                freed.wait();
                seen.wait();
            });
        }
        freed.wait();
        let growth = resident_mb().map(|now| now.saturating_sub(before));
        seen.wait();
        growth
    });
    let growth = growth.unwrap();
    assert!(growth < 10, "{growth} MB stayed behind of {THREADS} threads' blocks of {} MB, all freed", BLOCK >> 20);
}

/// None where `/proc/self/status` does not tell.
fn resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(resident.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}
