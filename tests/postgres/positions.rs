//! Positions and rows are committed together or not at all, and never by two.

use std::collections::BTreeMap;
use std::time::Duration;

use apache_avro::types::Value;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::RowBatch;
use pressline::sink::postgres::{
    Advance, ClaimError, CommitError, Connection, CopyPlan, ErrorClass, Offsets, Position, Settled, Writer,
};

use crate::support::{Server, batch, datum, record, server};

struct Stage {
    server: Server,
    plan: CopyPlan,
    offsets: Offsets,
}

const FIRST: i64 = 100;

fn advance(start: i64, end: i64) -> Advance {
    Advance { partition: 0, start, end }
}

async fn stage(test: &str) -> Option<Stage> {
    let server = server(test).await?;
    server.sql(&format!("CREATE TABLE {}.t (number bigint)", server.schema)).await;
    let schema = record(&[("number", "\"long\"")]);
    let plan = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap();
    let table = format!("{}.positions", server.schema);
    let offsets = Offsets::new(&table, "it's", "presses", "id-1").unwrap();
    let connection = server.connect().await;
    offsets.ensure_table(&connection).await.unwrap();
    offsets.ensure_table(&connection).await.unwrap();
    let claimed = offsets.claim(&connection, &BTreeMap::from([(0, FIRST), (1, 7)])).await.unwrap();
    assert_eq!(claimed[&0], Position { next_offset: FIRST, is_new: true });
    Some(Stage { server, plan, offsets })
}

impl Stage {
    fn rows(&self) -> RowBatch {
        let schema = record(&[("number", "\"long\"")]);
        batch(&(0..3).map(|number| datum(&schema, vec![("number", Value::Long(number))])).collect::<Vec<_>>())
    }

    async fn load(&self, writer: &mut Writer, advances: &[Advance]) -> Result<(), CommitError> {
        let mut transaction = writer.begin().await.unwrap();
        transaction.copy(&self.rows(), |_| Some(&self.plan), 0, &mut || {}).await.unwrap();
        transaction.commit(&self.offsets, advances).await
    }

    async fn count(&self) -> String {
        self.server.value(&format!("SELECT count(*) FROM {}.t", self.server.schema)).await
    }

    async fn position(&self, partition: i32) -> String {
        let sql = format!("SELECT next_offset FROM {}.positions WHERE partition = {partition}", self.server.schema);
        self.server.value(&sql).await
    }
}

#[tokio::test]
async fn rows_and_positions_go_together() {
    let Some(stage) = stage("together").await else { return };
    let mut writer = stage.server.writer().await;
    let both = [Advance { partition: 1, start: 7, end: 9 }, advance(FIRST, FIRST + 3)];
    stage.load(&mut writer, &both).await.unwrap();
    assert_eq!(
        (stage.count().await, stage.position(0).await, stage.position(1).await),
        ("3".into(), "103".into(), "9".into())
    );
    let again = stage.offsets.claim(writer.connection(), &BTreeMap::from([(0, 0), (2, 5)])).await.unwrap();
    assert_eq!(again[&0], Position { next_offset: 103, is_new: false });
    assert_eq!(again[&2], Position { next_offset: 5, is_new: true });
    let known = stage.offsets.positions(writer.connection()).await.unwrap();
    assert_eq!(known, BTreeMap::from([(0, 103), (1, 9), (2, 5)]));
}

#[tokio::test]
async fn a_position_that_moved_leaves_no_rows() {
    let Some(stage) = stage("missed").await else { return };
    let mut writer = stage.server.writer().await;
    for advances in [
        vec![advance(FIRST - 1, FIRST + 3)],
        vec![advance(FIRST, FIRST + 3), Advance { partition: 1, start: 6, end: 8 }],
        vec![Advance { partition: 9, start: 0, end: 1 }],
    ] {
        assert_eq!(stage.load(&mut writer, &advances).await, Err(CommitError::Missed), "{advances:?}");
        assert_eq!((stage.count().await, stage.position(0).await), ("0".into(), "100".into()));
    }
    // Another pipeline's and another topic's rows are not touched.
    let other = Offsets::new(&format!("{}.positions", stage.server.schema), "it's", "presses", "id-2").unwrap();
    let mut transaction = writer.begin().await.unwrap();
    transaction.copy(&stage.rows(), |_| Some(&stage.plan), 0, &mut || {}).await.unwrap();
    assert_eq!(transaction.commit(&other, &[advance(FIRST, FIRST + 3)]).await, Err(CommitError::Missed));
    assert_eq!(stage.count().await, "0");
    stage.load(&mut writer, &[advance(FIRST, FIRST + 3)]).await.unwrap();
    assert_eq!(stage.count().await, "3");
}

/// Whoever claims it would else be a member of the group that reads nothing of the partition.
#[tokio::test]
async fn a_row_that_goes_away_while_it_is_claimed_is_an_error() {
    let Some(stage) = stage("claimed").await else { return };
    let schema = &stage.server.schema;
    stage
        .server
        .sql(&format!(
            "CREATE FUNCTION {schema}.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER \
             gone BEFORE INSERT ON {schema}.positions FOR EACH ROW EXECUTE FUNCTION {schema}.nothing()"
        ))
        .await;
    let connection = stage.server.connect().await;
    let claimed = stage.offsets.claim(&connection, &BTreeMap::from([(0, 0), (5, 0)])).await;
    let Err(ClaimError::Database(error)) = claimed else { panic!("{claimed:?}") };
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.to_string().contains("the row of partition 5 in"), "{error}");
}

#[tokio::test]
async fn of_two_owners_one_commits() {
    let Some(stage) = stage("owners").await else { return };
    let (mut one, mut two) = (stage.server.writer().await, stage.server.writer().await);
    let mut first = one.begin().await.unwrap();
    let mut second = two.begin().await.unwrap();
    first.copy(&stage.rows(), |_| Some(&stage.plan), 0, &mut || {}).await.unwrap();
    second.copy(&stage.rows(), |_| Some(&stage.plan), 0, &mut || {}).await.unwrap();
    let advances = [advance(FIRST, FIRST + 3)];
    let both = tokio::join!(first.commit(&stage.offsets, &advances), second.commit(&stage.offsets, &advances));
    let lost = [&both.0, &both.1].iter().filter(|result| **result == &Err(CommitError::Missed)).count();
    assert_eq!((lost, stage.count().await), (1, "3".into()), "{both:?}");
}

#[tokio::test]
async fn a_topic_made_again_is_refused() {
    let Some(stage) = stage("again").await else { return };
    let connection = stage.server.connect().await;
    let table = format!("{}.positions", stage.server.schema);
    let again = Offsets::new(&table, "it's", "presses", "id-2").unwrap();
    for error in [
        again.claim(&connection, &BTreeMap::from([(0, 0)])).await.unwrap_err(),
        again.positions(&connection).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClaimError::AnotherTopic { .. }));
        let text = error.to_string();
        assert!(text.contains("id-1") && text.contains("id-2") && text.contains("presses"), "{text}");
    }
}

/// The server's process of a connection.
async fn backend(server: &Server, application: &str) -> String {
    server.value(&format!("SELECT pid FROM pg_stat_activity WHERE application_name = 'pressline/{application}'")).await
}

async fn connect_as(server: &Server, application: &str) -> Connection {
    Connection::open(&server.config(""), application).await.unwrap()
}

#[tokio::test]
async fn a_connection_lost_in_commit_is_settled() {
    let Some(stage) = stage("settled").await else { return };
    let server = &stage.server;
    // Holds the row, so that the commit's message waits there.
    server.sql(&format!("BEGIN; SELECT 1 FROM {}.positions WHERE partition = 0 FOR UPDATE", server.schema)).await;
    let mut writer = Writer::new(connect_as(server, "settled-test").await);
    let pid = backend(server, "settled-test").await;
    let mut transaction = writer.begin().await.unwrap();
    transaction.copy(&stage.rows(), |_| Some(&stage.plan), 0, &mut || {}).await.unwrap();
    let advances = [advance(FIRST, FIRST + 3)];
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.sql(&format!("SELECT pg_terminate_backend({pid})")).await;
    };
    let (result, ()) = tokio::join!(transaction.commit(&stage.offsets, &advances), end);
    assert!(matches!(result, Err(CommitError::Unknown(_))), "{result:?}");
    server.sql("COMMIT").await;
    let connection = server.connect().await;
    let settled = stage.offsets.settle(&connection, &advances).await;
    assert_eq!((settled, stage.count().await), (Ok(Settled::NotCommitted), "0".into()));
    stage.load(&mut stage.server.writer().await, &advances).await.unwrap();
    assert_eq!(stage.offsets.settle(&connection, &advances).await, Ok(Settled::Committed));
    let elsewhere = [advance(FIRST + 1, FIRST + 2)];
    assert_eq!(stage.offsets.settle(&connection, &elsewhere).await, Ok(Settled::Moved));
}

#[tokio::test]
async fn settling_waits_for_the_old_process() {
    let Some(stage) = stage("waits").await else { return };
    let server = &stage.server;
    let set = |end: i64| format!("UPDATE {}.positions SET next_offset = {end} WHERE partition = 0", server.schema);
    server.sql(&format!("BEGIN; {}", set(FIRST + 3))).await;
    let connection = server.connect().await;
    let advances = [advance(FIRST, FIRST + 3)];
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.sql("COMMIT").await;
    };
    let (settled, ()) = tokio::join!(stage.offsets.settle(&connection, &advances), end);
    assert_eq!(settled, Ok(Settled::Committed));
}

#[tokio::test]
async fn a_lock_that_is_not_granted_is_given_up() {
    let Some(stage) = stage("locked").await else { return };
    let server = &stage.server;
    server.sql(&format!("BEGIN; LOCK TABLE {}.t IN ACCESS EXCLUSIVE MODE", server.schema)).await;
    let connection = Connection::open(&server.config("statement_timeout_ms = 300"), "locked").await.unwrap();
    let mut writer = Writer::new(connection);
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&stage.rows(), |_| Some(&stage.plan), 0, &mut || {}).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert!(error.is("55P03") || error.is("57014"), "{error}");
    drop(transaction);
    server.sql("COMMIT").await;
    assert!(error.connection_lost && writer.begin().await.is_err());
    stage.load(&mut server.writer().await, &[advance(FIRST, FIRST + 3)]).await.unwrap();
    assert_eq!(stage.count().await, "3");
}

#[tokio::test]
async fn without_the_right_to_create_the_statement_is_shown() {
    let Some(stage) = stage("rights").await else { return };
    let server = &stage.server;
    server
        .sql(&format!(
            "DROP ROLE IF EXISTS pressline_guest; CREATE ROLE pressline_guest LOGIN PASSWORD 'guest'; GRANT USAGE ON SCHEMA {} TO \
             pressline_guest",
            server.schema
        ))
        .await;
    let config = server.config_as("pressline_guest", "guest", "");
    let connection = Connection::open(&config, "guest").await.unwrap();
    let offsets = Offsets::new(&format!("{}.mine", server.schema), "p", "t", "i").unwrap();
    let error = offsets.ensure_table(&connection).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Authentication);
    server.sql(error.what.split_once('\n').unwrap().1).await;
    offsets.ensure_table(&connection).await.unwrap();
    // Nor may the guest read or write the table that the administrator made.
    assert!(matches!(
        offsets.claim(&connection, &BTreeMap::from([(0, 0)])).await,
        Err(ClaimError::Database(error)) if error.is("42501")
    ));
    let wrong = Offsets::new(&format!("{}.t", server.schema), "p", "t", "i").unwrap();
    let error = wrong.ensure_table(&connection).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Schema);
    assert!(error.what.contains("no column pipeline"), "{error}");
    server.sql(&format!("DROP SCHEMA {} CASCADE; DROP ROLE pressline_guest", server.schema)).await;
}

#[tokio::test]
async fn rows_of_a_newer_version_are_refused_and_tables_from_before_versions_are_not() {
    let Some(stage) = stage("version").await else { return };
    let (server, offsets) = (&stage.server, &stage.offsets);
    let connection = server.connect().await;
    server.sql(&format!("UPDATE {}.positions SET version = 2 WHERE partition = 1", server.schema)).await;
    let error = offsets.claim(&connection, &BTreeMap::from([(0, FIRST)])).await.unwrap_err();
    assert!(matches!(error, ClaimError::NewerVersion { partition: 1, version: 2, .. }), "{error}");
    let text = error.to_string();
    for part in [
        "the position of pipeline it's in topic presses",
        "partition 1",
        "version 2 of the row; this one reads version 1",
    ] {
        assert!(text.contains(part), "{text}");
    }

    // A table that an older release has made.
    server.sql(&format!("ALTER TABLE {}.positions DROP COLUMN version", server.schema)).await;
    offsets.ensure_table(&connection).await.unwrap();
    let mut writer = server.writer().await;
    stage.load(&mut writer, &[advance(FIRST, FIRST + 3)]).await.unwrap();
    assert_eq!(offsets.positions(&connection).await.unwrap()[&0], FIRST + 3);
}
