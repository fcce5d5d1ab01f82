//! The grants of docs/operations.md are enough for a sink on Kafka, and each of them is needed.

use super::Load;
use crate::relay::{acls, documented_grants, holds_all};

/// The lines of the page's section for sinks that begin with `$grant`, but for those of the other sink's group, with the names
/// of this test.
fn documented(load: &Load) -> Vec<Vec<String>> {
    let other = if load.sink == "postgres" { "clickhouse" } else { "postgres" };
    let grants = documented_grants(2).filter(|line| !line.ends_with(other));
    grants.map(|grant| grant.split(' ').map(|word| word.replace("button_presses", &load.name)).collect()).collect()
}

/// Loads with the documented grants, and without each of them, until it is given back.
pub fn each_is_needed(load: &Load, rows: impl Fn() -> usize) {
    let grants = documented(load);
    assert_eq!(grants.len(), 3, "{grants:?}");
    for grant in &grants {
        acls("--add", grant);
    }
    let mut sent = 0;
    let mut send = || {
        load.send(0, sent..sent + 5);
        // Junk, so that the topic of the dead letters is written too.
        load.send_junk(0);
        sent += 5;
        usize::try_from(sent).unwrap()
    };
    let all = send();
    let said = load.check_as_least();
    assert!(said.contains("0 errors"), "{said}");
    let mut run = load.run_as_least();
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(rows(), all);

    for without in &grants {
        acls("--remove", without);
        let all = send();
        let is = |word: &str| without.iter().any(|part| part == word);
        let key = match (is("--group"), is("Write")) {
            (true, _) => "consumer.group: the offsets of group ",
            (_, true) => "consumer.dead_letter_topic: ",
            (_, false) => "sink.topic: ",
        };
        let right = if is("Write") { "Write" } else { "Read" };
        holds_all(&load.check_as_least(), &[key, right]);
        let mut run = load.run_as_least();
        run.await_log("uthoriz");
        // Rows may be in the table; the position stays before a letter that cannot be written.
        let position = load.cluster.committed(&load.group(), &load.topic).get(&0).copied().unwrap_or_default();
        let records = i64::try_from(all + all / 5).unwrap();
        assert!(position < records, "at {position} of {records} without {without:?}");
        acls("--add", without);
        // Granted meanwhile, it goes on by itself.
        load.await_loaded(&mut run);
        assert_eq!(run.stop(), 0);
        assert_eq!(rows(), all);
    }
}
