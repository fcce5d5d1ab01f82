//! What a crash leaves behind: the place, and nothing that was in memory.
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
