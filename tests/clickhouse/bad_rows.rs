//! Rows that only the server finds bad: found in few inserts, and in the group all the while.

use crate::loads::search;
use crate::offsets::{counts, stage};
use crate::support::DATABASE;

#[test]
fn a_long_search_stays_in_its_group() {
    let Some((world, load)) = stage("long_search") else { return };
    let slow = format!("ALTER TABLE {DATABASE}.{} ADD CONSTRAINT even CHECK sleep(0.25) = 0 AND n % 2 = 0", load.name);
    world.run(&slow);
    search::stays_in_its_group(&load, || counts(&world, &load).split(' ').next().unwrap().parse().unwrap());
}

#[test]
fn the_servers_word_on_which_row_is_bad_is_taken() {
    let Some((world, load)) = stage("named_row") else { return };
    world.run(&format!("ALTER TABLE {DATABASE}.{} ADD CONSTRAINT known CHECK n NOT IN (700, 1700)", load.name));
    load.send(0, 0..1_000);
    load.send(1, 1_000..2_000);
    let mut run = load.run_with(&["log.level=pressline=debug"]);
    load.await_loaded(&mut run);
    let log = run.log();
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "1998 1998");
    assert_eq!(load.cluster.read(&format!("{}.dead", load.topic)).len(), 2);
    // Halves would need ten refused inserts for each.
    let searched = log.matches("searching an insert for bad rows").count();
    assert_eq!(searched, 2, "{log}");
}
