//! What is set for the whole process at its start: what a crash leaves behind, and what the allocator keeps.
//!
//! Raw presses hold addresses. The message of a panic may quote what was being handled, and a core dump is all of memory on
//! disk, so neither is written.

use std::panic::{self, PanicHookInfo};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::runtime::stdio;

/// From now on a panic tells its place and thread but not its message, and the kernel writes no core dump of this process.
pub fn leave_nothing() {
    panic::set_hook(Box::new(|panic| stdio::tell(place(panic))));
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        stdio::tell(format_args!(
            "warning: core dumps cannot be turned off ({error}): see to it that none are written, with ulimit -c 0"
        ));
    }
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(|| "an unknown place".to_string(), ToString::to_string);
    format!(
        "panic at {place}, thread {name}: this is a defect of pressline; please report the place and the version. The message is \
         not shown, since it could hold what an event held."
    )
}

/// Blocks from here on are mapped apart. Above what librdkafka fetches at once, which would be mapped again each time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_APART: libc::c_int = 4 << 20;

/// An arena gives back what is free at its end from here on.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MOST_KEPT: libc::c_int = 8 << 20;

/// From now on glibc's allocator learns nothing: large blocks go back to the system when they are freed.
///
/// Left alone it learns: a large block that is freed raises the size from which blocks are mapped apart (and given back when they
/// are freed) to its own, up to 32 MB, and what each arena keeps of freed memory to twice that (M_MMAP_THRESHOLD in
/// mallopt(3)). A GeoIP database replaced teaches it the most there is to learn, and tens of megabytes stay behind in the arena
/// of whichever thread read it: after ten reloads 77 MB were measured.
///
/// To be called before threads are started. Other allocators than glibc's are left as they are.
pub fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes no pointers, and no other thread is there yet that it could race with.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_APART);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MOST_KEPT);
    }
}
