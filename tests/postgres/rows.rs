//! Bad rows are found and the good ones written, in their order.

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::postgres::{CopyPlan, ErrorClass, Offsets};
use pressline::sink::{Columns, RowBatch};

use crate::support::{Server, batch, datum, record, server};

fn schema() -> String {
    record(&[("number", "\"long\""), ("note", "\"string\"")])
}

fn row(number: i64) -> Vec<u8> {
    datum(&schema(), vec![("number", Value::Long(number)), ("note", Value::String(format!("secret-{number}")))])
}

fn rows(count: i64) -> Vec<Vec<u8>> {
    (0..count).map(row).collect()
}

fn nowhere() -> Offsets {
    Offsets::new("unused", "p", "t", "i").unwrap()
}

async fn table(server: &Server, more: &str) -> CopyPlan {
    server
        .sql(&format!(
            "CREATE TABLE {}.t (place bigint GENERATED ALWAYS AS IDENTITY, number bigint, note text{more})",
            server.schema
        ))
        .await;
    server.plan("t", &schema(), &ColumnsConfig::default()).await.unwrap()
}

async fn numbers(server: &Server) -> Vec<i64> {
    let rows = server.sql(&format!("SELECT number FROM {}.t ORDER BY place", server.schema)).await;
    rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn three_bad_rows_of_a_thousand_are_found() {
    let Some(server) = server("halving").await else { return };
    let plan = table(&server, ", CONSTRAINT not_these CHECK (number NOT IN (0, 500, 999))").await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&batch(&rows(1_000)), |_| Some(&plan), 10, &mut || {}).await.unwrap();
    // One at once, then two for each halving: at most 2 log2(1,000) + 1 for each bad row.
    let copies = transaction.copies();
    assert!(copies <= 1 + 3 * 21, "{copies} statements");
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [0, 500, 999]);
    for refusal in refused.values() {
        assert_eq!(refusal.to_string(), "the database refuses the row (code 23514, constraint not_these)");
    }
    let expected: Vec<i64> = (0..1_000).filter(|number| ![0, 500, 999].contains(number)).collect();
    assert_eq!(numbers(&server).await, expected);
}

#[tokio::test]
async fn a_sound_batch_is_one_statement() {
    let Some(server) = server("sound").await else { return };
    let plan = table(&server, "").await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    // Enough for several chunks.
    assert!(transaction.copy(&batch(&rows(50_000)), |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
    assert_eq!(transaction.copies(), 1);
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(numbers(&server).await, (0..50_000).collect::<Vec<i64>>());
}

/// The first rows of a batch.
fn first(all: &RowBatch, count: usize) -> RowBatch {
    let mut some = RowBatch::default();
    all.rows()
        .iter()
        .take(count)
        .for_each(|row| some.push(row.partition, row.offset, None, row.schema_id, all.datum(row)));
    some
}

#[tokio::test]
async fn a_batch_that_grows_is_one_statement() {
    let Some(server) = server("grows").await else { return };
    let plan = table(&server, "").await;
    let mut writer = server.writer().await;
    let all = batch(&rows(50_000));
    for _ in 0..2 {
        for count in [1, 5_000, 5_000, 20_000] {
            writer.start(&first(&all, count), |_| Some(&plan)).await;
            assert!(writer.has_started() && writer.suits(&first(&all, count)) && writer.suits(&all));
        }
        // Nobody sees it, and nobody waits for it.
        assert_eq!(numbers(&server).await.len() % 50_000, 0);
        let mut transaction = writer.begin().await.unwrap();
        assert!(transaction.copy(&all, |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
        assert_eq!(transaction.copies(), 1);
        transaction.commit(&nowhere(), &[]).await.unwrap();
        assert!(!writer.has_started());
    }
    assert_eq!(numbers(&server).await, (0..50_000).chain(0..50_000).collect::<Vec<i64>>());
}

/// Schemas 1 and 3 fill the same columns in other orders, schema 2 fills one more: two statements, whatever the turns are. The first
/// one has begun before the rest came.
#[tokio::test]
async fn versions_of_a_schema_in_turns_are_a_statement_a_set_of_columns() {
    let Some(server) = server("turns").await else { return };
    let first_plan = table(&server, ", more text DEFAULT 'none', CHECK (number <> 31)").await;
    let more = record(&[("number", "\"long\""), ("note", "\"string\""), ("more", "\"string\"")]);
    let same = record(&[("number", "\"long\""), ("note", "[\"null\",\"string\"]")]);
    let config = ColumnsConfig::default();
    let (more_plan, same_plan) =
        (server.plan("t", &more, &config).await.unwrap(), server.plan("t", &same, &config).await.unwrap());
    let plan_of =
        |id| [None, Some(&first_plan), Some(&more_plan), Some(&same_plan)].get(id as usize).copied().flatten();
    let value = |n: i64, schema_id| {
        let text = |text: &str| Value::String(text.into());
        match schema_id {
            1 => row(n),
            2 => datum(&more, vec![("number", Value::Long(n)), ("note", text("n")), ("more", text("more"))]),
            _ => datum(&same, vec![("number", Value::Long(n)), ("note", Value::Union(1, Box::new(text("n"))))]),
        }
    };
    let mut all = RowBatch::default();
    (0..90i64).for_each(|n| {
        let schema_id = (n % 3) as u32 + 1;
        // A row whose schema nobody knows, and one that its schema's plan cannot read.
        let (schema_id, value) = if n == 40 { (4, vec![]) } else { (schema_id, value(n, schema_id)) };
        all.push(0, n, None, schema_id, if n == 51 { &[2] } else { &value });
    });
    let mut writer = server.writer().await;
    writer.start(&first(&all, 1), plan_of).await;
    writer.start(&first(&all, 50), plan_of).await;
    all.group_by(|id| plan_of(id).map(CopyPlan::copy_statement));
    assert!(writer.suits(&all));
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&all, plan_of, 5, &mut || {}).await.unwrap();
    assert!(transaction.copies() < 2 + 2 + 2 * 7 + 3, "{} statements", transaction.copies());
    transaction.commit(&nowhere(), &[]).await.unwrap();
    let mut offsets: Vec<_> =
        refused.iter().map(|(index, refusal)| (all.rows()[*index].offset, refusal.why.code())).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [(31, "database"), (40, "unknown_schema"), (51, "damaged")]);
    let (one, two): (Vec<i64>, Vec<i64>) = (0..90).filter(|n| ![31, 40, 51].contains(n)).partition(|n| n % 3 != 1);
    assert_eq!(numbers(&server).await, [one, two].concat());
    let filled = server
        .sql(&format!(
            "SELECT count(*) FROM {}.t WHERE more = CASE number % 3 WHEN 1 THEN 'more' ELSE 'none' END",
            server.schema
        ))
        .await;
    assert_eq!(filled[0][0].as_deref(), Some("87"), "a column that a version lacks gets its DEFAULT");
}

#[tokio::test]
async fn what_was_started_is_of_no_use_to_other_rows() {
    let Some(server) = server("started").await else { return };
    let plan = table(&server, "").await;
    let mut both = RowBatch::default();
    (0..100i64).for_each(|n| both.push((n % 2) as i32, n, None, 1, &row(n)));
    let mut one = RowBatch::default();
    both.rows()
        .iter()
        .filter(|row| row.partition == 1)
        .for_each(|row| one.push(1, row.offset, None, 1, both.datum(row)));
    let mut writer = server.writer().await;
    writer.start(&first(&both, 40), |_| Some(&plan)).await;
    assert!(writer.suits(&both) && !writer.suits(&one) && !writer.suits(&RowBatch::default()));
    writer.start(&one, |_| Some(&plan)).await;
    assert!(!writer.suits(&one), "no row of it went in");
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&one, |_| Some(&plan), 0, &mut || {}).await.unwrap_err();
    assert!(error.connection_lost && error.class == ErrorClass::Transient, "{error}");
    drop(transaction);
    assert_eq!(numbers(&server).await, [0i64; 0]);
}

#[tokio::test]
async fn bad_rows_of_a_batch_that_grows_are_found() {
    let Some(server) = server("grows_bad").await else { return };
    let plan = table(&server, ", CHECK (number NOT IN (3, 40_000))".replace('_', "").as_str()).await;
    let mut writer = server.writer().await;
    let mut datums = rows(45_000);
    datums[7] = vec![0x02];
    let all = batch(&datums);
    for count in [10, 20_000, 42_000] {
        writer.start(&first(&all, count), |_| Some(&plan)).await;
    }
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&all, |_| Some(&plan), 5, &mut || {}).await.unwrap();
    transaction.commit(&nowhere(), &[]).await.unwrap();
    let codes: Vec<_> = refused.iter().map(|(index, refusal)| (*index, refusal.why.code())).collect();
    assert_eq!(codes, [(3, "database"), (7, "damaged"), (40_000, "database")]);
    assert_eq!(numbers(&server).await.len(), 45_000 - 3);
}

#[tokio::test]
async fn a_start_without_a_table_is_told_by_the_copy() {
    let Some(server) = server("start_gone").await else { return };
    let plan = table(&server, "").await;
    server.sql(&format!("DROP TABLE {}.t", server.schema)).await;
    let mut writer = server.writer().await;
    let all = batch(&rows(10));
    writer.start(&first(&all, 5), |_| Some(&plan)).await;
    writer.start(&all, |_| Some(&plan)).await;
    assert!(writer.has_started() && writer.suits(&all));
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&all, |_| Some(&plan), 5, &mut || {}).await.unwrap_err();
    assert_eq!((error.class, error.is("42P01")), (ErrorClass::Schema, true), "{error}");
}

#[tokio::test]
async fn keys_that_are_taken_are_refused_whether_deferred_or_not() {
    let Some(server) = server("keys").await else { return };
    let plan = table(&server, ", UNIQUE (number) DEFERRABLE INITIALLY DEFERRED").await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let datums: Vec<_> = [1, 2, 1, 3, 2].into_iter().map(row).collect();
    let refused = transaction.copy(&batch(&datums), |_| Some(&plan), 5, &mut || {}).await.unwrap();
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [2, 4]);
    assert_eq!(numbers(&server).await, [1, 2, 3]);
}

#[tokio::test]
async fn more_bad_rows_than_the_limit_are_a_matter_of_schema() {
    let Some(server) = server("limit").await else { return };
    let plan = table(&server, ", CHECK (number < 0)").await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&batch(&rows(1_000)), |_| Some(&plan), 10, &mut || {}).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Schema);
    assert!(error.to_string().contains("more than 10 rows") && error.to_string().contains("t_number_check"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    drop(transaction);
    // The dropped one is rolled back by the next.
    let transaction = writer.begin().await.unwrap();
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(numbers(&server).await, [0i64; 0]);
}

#[tokio::test]
async fn a_table_altered_meanwhile_is_not_bad_data() {
    let Some(server) = server("altered").await else { return };
    let plan = table(&server, "").await;
    server.sql(&format!("ALTER TABLE {}.t ALTER number TYPE int", server.schema)).await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&batch(&rows(10)), |_| Some(&plan), 10, &mut || {}).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Schema, "{error}");
    assert!(error.what.contains("was altered"), "{error}");
    transaction.rollback().await.unwrap();
    assert_eq!(numbers(&server).await, [0i64; 0]);
    server.sql(&format!("ALTER TABLE {}.t DROP note", server.schema)).await;
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&batch(&rows(10)), |_| Some(&plan), 10, &mut || {}).await.unwrap_err();
    assert_eq!((error.class, error.is("42703")), (ErrorClass::Schema, true), "{error}");
    assert!(error.connection_lost && transaction.rollback().await.is_err());
    assert_eq!(numbers(&server).await, [0i64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_cannot_be_altered_during_a_search() {
    let Some(server) = server("searched").await else { return };
    let plan = table(&server, ", CHECK (number <> 3)").await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let alter = format!(
        "DO $$ BEGIN SET LOCAL lock_timeout = '50ms'; ALTER TABLE {}.t ALTER number TYPE int; EXCEPTION WHEN lock_not_available \
         THEN NULL; END $$",
        server.schema
    );
    let mut turns = 0;
    let mut turn = || {
        turns += 1;
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(server.sql(&alter)));
    };
    let refused = transaction.copy(&batch(&rows(10)), |_| Some(&plan), 10, &mut turn).await.unwrap();
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [3], "sound rows are no bad ones");
    assert!(turns > 4, "{turns} statements");
    assert_eq!(numbers(&server).await, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn runs_of_schemas_keep_the_order() {
    let Some(server) = server("runs").await else { return };
    let old = table(&server, ", CHECK (number <> 3)").await;
    let newer = record(&[("number", "\"int\""), ("extra", "\"double\""), ("note", "\"string\"")]);
    let ignore = ColumnsConfig { ignore: vec!["extra".into()], ..ColumnsConfig::default() };
    let shape = Shape::parse(&newer).unwrap();
    let new = CopyPlan::compile(&shape, old.table(), &Columns::new(&ignore, "sink.postgres")).unwrap();
    let mut batch = RowBatch::default();
    for number in 0..8i64 {
        if number % 4 < 2 {
            batch.push(0, number, None, 1, &row(number));
        } else {
            let values = vec![
                ("number", Value::Int(number as i32)),
                ("extra", Value::Double(0.5)),
                ("note", Value::String(String::new())),
            ];
            batch.push(0, number, None, 2, &datum(&newer, values));
        }
    }
    batch.push(0, 8, None, 3, &[]);
    let plan_of = |id| match id {
        1 => Some(&old),
        2 => Some(&new),
        _ => None,
    };
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&batch, plan_of, 5, &mut || {}).await.unwrap();
    transaction.commit(&nowhere(), &[]).await.unwrap();
    let codes: Vec<_> = refused.iter().map(|(index, refusal)| (*index, refusal.why.code())).collect();
    assert_eq!(codes, [(3, "database"), (8, "unknown_schema")]);
    assert_eq!(numbers(&server).await, [0, 1, 2, 4, 5, 6, 7]);
}

#[tokio::test]
async fn triggers_texts_and_values_stay_with_the_server() {
    let Some(server) = server("trigger").await else { return };
    let plan = table(&server, "").await;
    server
        .sql(&format!(
            "CREATE FUNCTION {0}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', NEW.note; IF NEW.number \
             = 2 THEN RAISE EXCEPTION 'not %', NEW.note; END IF; RETURN NEW; END $$; CREATE TRIGGER refuse BEFORE INSERT ON {0}.t \
             FOR EACH ROW EXECUTE FUNCTION {0}.refuse()",
            server.schema
        ))
        .await;
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&batch(&rows(4)), |_| Some(&plan), 5, &mut || {}).await.unwrap();
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(refused[&2].to_string(), "the database refuses the row (code P0001)");
    assert_eq!(numbers(&server).await, [0, 1, 3]);
}

#[tokio::test]
async fn rows_that_a_trigger_drops_are_counted() {
    let Some(server) = server("dropped").await else { return };
    let plan = table(&server, ", CONSTRAINT not_seven CHECK (number <> 7)").await;
    server
        .sql(&format!(
            "CREATE FUNCTION {0}.odd() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.number % 2 = 0 THEN RETURN NULL; END \
             IF; RETURN NEW; END'; CREATE TRIGGER odd BEFORE INSERT ON {0}.t FOR EACH ROW EXECUTE FUNCTION {0}.odd()",
            server.schema
        ))
        .await;
    let mut writer = server.writer().await;
    for (numbers, dropped, refused) in [(0..5, 3, vec![]), (5..10, 2, vec![2])] {
        let mut transaction = writer.begin().await.unwrap();
        let rows = numbers.map(row).collect::<Vec<_>>();
        let found = transaction.copy(&batch(&rows), |_| Some(&plan), 10, &mut || {}).await.unwrap();
        assert_eq!((transaction.dropped(), found.into_keys().collect::<Vec<_>>()), (dropped, refused));
        transaction.commit(&nowhere(), &[]).await.unwrap();
    }
    assert_eq!(numbers(&server).await, [1, 3, 5, 9]);
}

#[tokio::test]
async fn an_identity_that_is_generated_always_takes_the_records_value() {
    let Some(server) = server("identity").await else { return };
    server.sql(&format!("CREATE TABLE {}.t (number bigint GENERATED ALWAYS AS IDENTITY)", server.schema)).await;
    let schema = record(&[("number", "\"long\"")]);
    let plan = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap();
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let rows = [41, 17].map(|number| datum(&schema, vec![("number", Value::Long(number))]));
    assert!(transaction.copy(&batch(&rows), |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
    transaction.commit(&nowhere(), &[]).await.unwrap();
    assert_eq!(server.value(&format!("SELECT string_agg(number::text, ' ') FROM {}.t", server.schema)).await, "41 17");
}

#[tokio::test]
async fn a_union_of_numbers_goes_into_one_column() {
    let Some(server) = server("union_numbers").await else { return };
    server.sql(&format!("CREATE TABLE {}.t (n bigint)", server.schema)).await;
    let schema = record(&[("n", r#"["int","null","long"]"#)]);
    let plan = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap();
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let branches = [(0, Value::Int(-7)), (1, Value::Null), (2, Value::Long(1 << 40))];
    let rows = branches.map(|(branch, value)| datum(&schema, vec![("n", Value::Union(branch, Box::new(value)))]));
    assert!(transaction.copy(&batch(&rows), |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
    transaction.commit(&nowhere(), &[]).await.unwrap();
    let all = format!("SELECT string_agg(coalesce(n::text, 'null'), ' ') FROM {}.t", server.schema);
    assert_eq!(server.value(&all).await, "-7 null 1099511627776");
}

#[tokio::test]
async fn null_becomes_the_default_where_that_is_asked_for() {
    let Some(server) = server("defaults").await else { return };
    server
        .sql(&format!(
            "CREATE TYPE {0}.mood AS ENUM ('sad', 'ok'); CREATE TABLE {0}.t (kind text NOT NULL DEFAULT 'none', n numeric(5,2) \
             DEFAULT 2 + 3, j jsonb NOT NULL DEFAULT '{{}}', tags text[] DEFAULT '{{a,b}}', mood {0}.mood NOT NULL DEFAULT 'ok', \
             left_null text DEFAULT 'x', at timestamptz DEFAULT now(), none text)",
            server.schema
        ))
        .await;
    let asked = ["kind", "n", "j", "tags", "mood"];
    let union = |inner: &str| format!("[\"null\",{inner}]");
    let [text, number, list] = ["\"string\"", "\"int\"", r#"{"type":"array","items":"string"}"#].map(union);
    let fields: Vec<(&str, &str)> =
        vec![("kind", &text), ("n", &number), ("j", &text), ("tags", &list), ("mood", &text), ("left_null", &text)];
    let schema = record(&fields);
    let connection = server.connect().await;
    let compile = async |schema: &str, asked: &[&str]| {
        let settings = ColumnsConfig {
            null_as_default: asked.iter().map(ToString::to_string).collect(),
            ..ColumnsConfig::default()
        };
        let columns = Columns::new(&settings, "sink.postgres");
        let mut table = (*server.table(&connection, "t").await).clone();
        table.read_defaults(&connection, &columns.with_defaults()).await.unwrap();
        CopyPlan::compile(&Shape::parse(schema).unwrap(), &std::sync::Arc::new(table), &columns)
    };
    let plan = compile(&schema, &asked).await.unwrap();
    let null = || Value::Union(0, Box::new(Value::Null));
    let some = |text: &str| Value::Union(1, Box::new(Value::String(text.into())));
    let nothing = fields.iter().map(|(name, _)| (*name, null())).collect();
    let mut all: Vec<(&str, Value)> = fields.iter().map(|(name, _)| (*name, some("sad"))).collect();
    all[1].1 = Value::Union(1, Box::new(Value::Int(7)));
    all[2].1 = some("[1]");
    all[3].1 = Value::Union(1, Box::new(Value::Array(vec![Value::String("c".into())])));
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let rows = [datum(&schema, nothing), datum(&schema, all)];
    assert!(transaction.copy(&batch(&rows), |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
    transaction.commit(&nowhere(), &[]).await.unwrap();
    let all = format!("SELECT concat_ws('|', kind, n, j, tags, mood, left_null) FROM {}.t", server.schema);
    let found: Vec<String> = server.sql(&all).await.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(found, ["none|5.00|{}|{a,b}|ok", "sad|7.00|[1]|{c}|sad|sad"]);

    for (field, avro, why) in [
        ("at", r#"["null",{"type":"long","logicalType":"timestamp-micros"}]"#, "it differs from row to row"),
        ("none", r#"["null","string"]"#, "the column has no DEFAULT"),
    ] {
        let findings = compile(&record(&[(field, avro)]), &[field]).await.unwrap_err();
        assert!(findings[0].what.contains(why), "{}", findings[0]);
    }
}
