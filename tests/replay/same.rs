//! Into the pipeline's own table: ClickHouse takes what it lacks, and nothing past where the live sink is.

use crate::clickhouse::DATABASE;
use crate::daemon;
use crate::support::stage;

#[test]
fn clickhouse_takes_only_the_rows_that_it_lacks() {
    let Some(stage) = stage("replay_same") else { return };
    daemon::send(&stage.world, 0..3_000);
    stage.run_live(3_000, &[]);
    let before = stage.clickhouse_hash(stage.live());
    stage
        .clickhouse
        .run(&format!("DELETE FROM {DATABASE}.{} WHERE _offset BETWEEN 100 AND 199 OR _partition = 2", stage.live()));
    let left = stage.clickhouse_count(stage.live());
    assert!(left < 2_200, "{left}");
    // What the live sinks have not loaded yet they will load themselves.
    let mut relay_only = stage.world.run(&["sink.clickhouse.url=http://127.0.0.1:1", "sink.postgres.port=1"]);
    daemon::send(&stage.world, 3_000..3_300);
    stage.world.await_relayed(&mut relay_only);
    assert_eq!(relay_only.stop(), 0);
    stage.refused(&["--sink", "clickhouse", "--into", stage.live()], &["--into-same"]);
    stage.done(&["--sink", "clickhouse", "--into-same"], &["3000 records = 3000 written", "all accounted for"]);
    assert_eq!(stage.clickhouse_hash(stage.live()), before);
    stage.run_live(3_300, &[]);
}
