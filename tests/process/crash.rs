//! A crash leaves nothing behind that was in memory.

use std::process::Command;

use rustix::process::{DumpableBehavior, dumpable_behavior};

const ADDRESS: &str = "203.0.113.77";
const CHILD: &str = "PRESSLINE_TEST_CRASH";

/// The process that crashes: run by the test below.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_some() {
        pressline::daemon::process::leave_nothing();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        panic!("cannot handle {ADDRESS}");
    }
}

#[test]
fn a_panic_tells_its_place_and_not_its_message() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", "crash::child", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(!output.status.success());
    assert!(text.contains(&format!("panic at {}:", file!())), "{text}");
    assert!(!text.contains(ADDRESS), "{text}");
}
