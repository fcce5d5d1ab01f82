//! `pressline reconcile` for tables of PostgreSQL, with and without the record's offset in each row.

use crate::offsets::{stage, stage_with};
use crate::relay::holds_all;

#[test]
fn rows_without_offsets_are_counted_by_the_hour() {
    let Some((database, load)) = stage("reconcile_hours") else { return };
    // One record a minute: five hours, and one dead letter.
    load.send(0, 0..200);
    load.send_junk(0);
    load.send_in_transactions(1, 200..300);
    let mut run = load.run();
    load.await_loaded(&mut run);
    load.tool_fails(&["reconcile"], &["cannot be compared while its sink runs", "Stop the sink"]);
    assert_eq!(run.stop(), 0);
    let equal = load.tool_ok(&["reconcile"]);
    holds_all(
        &equal,
        &[
            "comparing hourly counts by `t`",
            "300 records without dead letters, 300 rows, 1 dead letter; 0 of 5 hours differ",
        ],
    );

    database
        .sql("DELETE FROM SCHEMA.t WHERE n = 65; INSERT INTO SCHEMA.t SELECT * FROM SCHEMA.t WHERE n IN (181, 182)");
    load.tool_fails(
        &["reconcile"],
        &[
            "2026-01-01T01:00:00Z: 60 records, 59 rows: 1 missing",
            "2026-01-01T03:00:00Z: 60 records, 62 rows: 2 too many",
            "2 of 5 hours differ",
        ],
    );
    load.tool_fails(&["reconcile", "--from", "10"], &["leave --from and --to away"]);
}

#[test]
fn rows_with_offsets_are_compared_one_by_one() {
    let Some((database, load)) = stage("reconcile_offsets") else { return };
    load.send(0, 0..100);
    load.send_junk(0);
    load.load_all();
    // Somebody's trigger or generated column would do it; here it is done afterwards.
    let fill = format!(
        "ALTER TABLE SCHEMA.t ADD _topic text, ADD _partition int, ADD _offset bigint; UPDATE SCHEMA.t SET _topic = '{}', _partition \
         = 0, _offset = n",
        load.topic
    );
    database.sql(&fill);
    holds_all(
        &load.tool_ok(&["reconcile"]),
        &["101 records", "100 rows", "1 dead letter, 0 missing, 0 duplicates", "OK"],
    );

    database.sql("DELETE FROM SCHEMA.t WHERE n BETWEEN 20 AND 24 OR n = 30; INSERT INTO SCHEMA.t SELECT * FROM SCHEMA.t WHERE n = 50")
        ;
    load.tool_fails(
        &["reconcile"],
        &[
            "partition 0, offsets 20 to 24: 5 records without a row",
            "partition 0, offsets 30 to 30: 1 record without a row",
            "partition 0, offsets 50 to 50: 1 record with 2 rows each",
            "6 missing, 1 duplicate, 0 orphan rows",
            "DIFFERENCES FOUND",
        ],
    );
    holds_all(&load.tool_ok(&["reconcile", "--from", "51"]), &["OK"]);
    holds_all(&load.tool_ok(&["reconcile", "--to", "20"]), &["partition 0: offsets 0 to before 20", "OK"]);
}

#[test]
fn hours_of_which_retention_took_records_are_not_compared() {
    let Some((database, load)) = stage("reconcile_retention") else { return };
    // One record a minute: four hours, of which the first and half of the second go.
    load.send(0, 0..240);
    load.load_all();
    load.cluster.delete_records(&load.topic, 0, 90);
    holds_all(
        &load.tool_ok(&["reconcile"]),
        &["before 2026-01-01T02:00:00Z nothing is compared", "120 rows, 0 dead letters; 0 of 2 hours differ", "OK"],
    );
    // What is missing before that cannot be seen, what is missing after it is.
    database.sql("DELETE FROM SCHEMA.t WHERE n IN (10, 100)");
    load.tool_ok(&["reconcile"]);
    database.sql("DELETE FROM SCHEMA.t WHERE n = 130");
    load.tool_fails(&["reconcile"], &["2026-01-01T02:00:00Z: 60 records, 59 rows: 1 missing", "1 of 2 hours differ"]);
}

#[test]
fn rows_without_a_time_are_counted_all_together() {
    let Some((database, load)) = stage_with("reconcile_count", "n bigint NOT NULL", "columns.ignore = [\"t\"]") else {
        return;
    };
    load.send(0, 0..30);
    load.send_junk(0);
    load.send_in_transactions(1, 30..60);
    load.load_all();
    let equal = load.tool_ok(&["reconcile"]);
    let counted = "60 records without dead letters, 60 rows, 1 dead letter; 0 of 1 hours differ";
    holds_all(&equal, &["comparing total counts", counted, "OK"]);
    database.sql("DELETE FROM SCHEMA.t WHERE n IN (7, 8)");
    load.tool_fails(
        &["reconcile"],
        &["no hour: 60 records, 58 rows: 2 missing", "1 of 1 hours differ", "DIFFERENCES FOUND"],
    );
    database.sql("INSERT INTO SCHEMA.t SELECT g FROM generate_series(1000, 1004) g");
    load.tool_fails(&["reconcile"], &["60 records, 63 rows: 3 too many"]);
    load.cluster.delete_records(&load.topic, 0, 5);
    let gone = "partition 0: offsets before 5 are gone from the topic, and the table has no column of a time";
    load.tool_fails(&["reconcile"], &[gone]);
}
