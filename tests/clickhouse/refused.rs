//! What is refused before the first row: pairs outside the map of types, and tables that cannot keep a promise.

use pressline::avro::Shape;
use pressline::config::finding::Severity;
use pressline::config::sink::{ClickHouseConfig, ClickHouseDelivery, ColumnsConfig};
use pressline::sink::Columns;
use pressline::sink::clickhouse::{Days, DefaultKind, Table, TableColumn, Type, Undefined, create_table};

use crate::support::{plan, record_of, world};

const MICROS: &str = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
const LOCAL: &str = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;

fn table(columns: &[(&str, &str)]) -> Table {
    let column = |(name, type_name): &(&str, &str)| TableColumn {
        name: name.to_string(),
        type_name: type_name.to_string(),
        parsed: Type::parse(type_name),
        default: DefaultKind::None,
        has_ttl: false,
    };
    Table {
        server: "http://localhost:8123".into(),
        database: "d".into(),
        name: "t".into(),
        columns: columns.iter().map(column).collect(),
        engine: "MergeTree".into(),
        arguments: String::new(),
        deduplication_window: 100,
        partition_key: String::new(),
        sorting_key: String::new(),
        ttl: String::new(),
        views: Vec::new(),
        days: Days::NARROW,
    }
}

#[test]
fn pairs_outside_the_map() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}"#;
    let symbols = r#"{"type": "enum", "name": "e", "symbols": ["a", "b"]}"#;
    let record = r#"{"type": "record", "name": "i", "fields": []}"#;
    let fixed = r#"{"type": "fixed", "name": "f", "size": 3}"#;
    let strings = r#"{"type": "array", "items": "string"}"#;
    let pairs: &[(&str, &[&str])] = &[
        // The years 9999 and 2044 of others.
        (
            MICROS,
            &[
                "DateTime64(3)",
                "DateTime",
                "DateTime64(5)",
                "Int32",
                "Date",
                "Date32",
                "String",
                "Float64",
                "Decimal(20, 6)",
            ],
        ),
        (LOCAL, &["DateTime64(6)", "DateTime64(6, 'UTC')", "DateTime"]),
        (
            "\"long\"",
            &[
                "DateTime",
                "DateTime64(6)",
                "DateTime64(3, 'UTC')",
                "Date",
                "Float64",
                "Float32",
                "Bool",
                "String",
                "UUID",
                "Enum8('a' = 1)",
                "FixedString(8)",
            ],
        ),
        ("\"int\"", &["Date", "Date32", "DateTime", "Float32", "Bool", "String"]),
        ("\"double\"", &["Float32", "Int64", "Decimal(9, 2)", "String"]),
        ("\"boolean\"", &["UInt16", "String", "Int64"]),
        (
            "\"string\"",
            &[
                "Int64",
                "Bool",
                "DateTime64(6)",
                "Date",
                "Float64",
                "Array(String)",
                "IPv4",
                "IPv6",
                "Nullable(IPv6)",
                "LowCardinality(IPv4)",
                "Decimal(9, 2)",
                "JSON",
                "Variant(String)",
            ],
        ),
        ("\"bytes\"", &["IPv6", "Int64", "Enum8('a' = 1)"]),
        (decimal, &["Decimal(9, 2)", "Decimal(76, 0)", "Float64", "Int64", "Int128", "String"]),
        (symbols, &["Enum8('a' = 1)", "Int8", "UUID"]),
        (record, &["JSON", "Tuple(a String)", "Map(String, String)", "Array(String)"]),
        (fixed, &["FixedString(4)", "FixedString(2)", "UUID"]),
        (strings, &["Array(Int64)", "Array(IPv4)", "Map(String, String)", "Nested(a String)"]),
        ("\"null\"", &["Int8", "String"]),
    ];
    for (field, columns) in pairs {
        let shape = Shape::parse(&record_of(field)).unwrap();
        for column in *columns {
            let findings = plan(&shape, &table(&[("v", column)]), &[]).expect_err(&format!("{field} into {column}"));
            let [finding] = findings.as_slice() else { panic!("{field} into {column}: {findings:?}") };
            let Shape::Record(fields) = &shape else { panic!("a record") };
            let about = format!("field v ({}) does not fit column v ({column})", fields[0].shape);
            assert!(finding.what.starts_with(&about), "{} does not say {about}", finding.what);
            assert!(!finding.cure.is_empty());
        }
    }
}

/// What a finding says to do is done: the server takes the statement, and the field fits.
#[test]
fn the_cure_of_a_field_that_does_not_fit_makes_it_fit() {
    let Some(world) = world("cures") else { return };
    let time = r#"{"type": "long", "logicalType": "time-micros"}"#;
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}"#;
    let symbols = r#"{"type": "enum", "name": "e", "symbols": ["a", "b\u0041", "c"]}"#;
    let nested = r#"["null", {"type": "array", "items": ["null", {"type": "map", "values": "long"}]}]"#;
    for (field, column) in [
        (MICROS, "DateTime64(3)"),
        (MICROS, "Date"),
        (LOCAL, "DateTime64(6)"),
        ("\"long\"", "DateTime"),
        ("\"long\"", "Float64"),
        ("\"long\"", "UUID"),
        ("\"double\"", "Decimal(6, 2)"),
        ("\"double\"", "Float32"),
        ("\"boolean\"", "String"),
        (r#"["null", "string"]"#, "Int64"),
        ("\"string\"", "JSON"),
        (decimal, "Decimal(9, 2)"),
        (symbols, "Enum8('a' = 1)"),
        (symbols, "Enum8('a' = 126, 'd' = 127)"),
        (time, "Int32"),
        (time, "Time"),
        (time, "Time64(3)"),
        (r#"["null", {"type": "long", "logicalType": "time-micros"}]"#, "Nullable(Time64(3))"),
        (r#"{"type": "record", "name": "i", "fields": [{"name": "a", "type": "long"}]}"#, "Tuple(a Int64, b String)"),
        (r#"{"type": "fixed", "name": "f", "size": 3}"#, "FixedString(2)"),
        (nested, "Int8"),
    ] {
        let shape = Shape::parse(&record_of(field)).unwrap();
        let types = "SETTINGS enable_time_time64_type = 1";
        let name = world.name();
        world.run(&format!("CREATE TABLE pressline.{name} (v {column}) ENGINE = MergeTree ORDER BY tuple() {types}"));
        let findings = plan(&shape, &world.describe(&name), &[]).expect_err(&format!("{field} into {column}"));
        let cure = findings[0].cure.split("; ").next().unwrap();
        assert!(cure.starts_with("ALTER TABLE "), "{field} into {column}: {cure}");
        world.run(&format!("{cure} {types}"));
        if let Err(findings) = plan(&shape, &world.describe(&name), &[]) {
            panic!("{field} into {column} after {cure}: {findings:?}");
        }
    }
    // A column of the key cannot be changed.
    let table = world.table("(v Int8, k Int8) ENGINE = MergeTree ORDER BY (k, v)");
    let findings = plan(&Shape::parse(&record_of("\"string\"")).unwrap(), &table, &[]).unwrap_err();
    assert!(findings[0].cure.starts_with("make the table again with `v` String"), "{}", findings[0]);
}

/// A null that a column does not take: the advice is one that ClickHouse takes.
#[test]
fn the_cure_of_a_null_that_would_be_refused() {
    let Some(world) = world("null_cures") else { return };
    let array = r#"["null", {"type": "array", "items": ["null", "string"]}]"#;
    let map = r#"["null", {"type": "map", "values": "long"}]"#;
    let setting = "sink.clickhouse.columns.null_as_default = [\"v\"]";
    for (field, column) in [(array, "Array(Nullable(String))"), (map, "Map(String, Int64)")] {
        let table = world.table(&format!("(v {column}) ENGINE = MergeTree ORDER BY tuple()"));
        let plan = plan(&Shape::parse(&record_of(field)).unwrap(), &table, &[]).unwrap();
        let cure = &plan.warnings()[0].cure;
        assert!(cure.starts_with(setting) && !cure.contains("Nullable"), "{cure}");
    }
    let text = r#"["null", "string"]"#;
    for column in ["String", "LowCardinality(String)", "SimpleAggregateFunction(anyLast, String)"] {
        let table = world.table(&format!("(v {column}) ENGINE = MergeTree ORDER BY tuple()"));
        let shape = Shape::parse(&record_of(text)).unwrap();
        let cure = plan(&shape, &table, &[]).unwrap().warnings()[0].cure.clone();
        world.run(cure.split("; or ").next().unwrap());
        assert!(cure.ends_with(setting), "{cure}");
        assert_eq!(plan(&shape, &world.describe(&table.name), &[]).unwrap().warnings(), [], "{column}");
    }
}

/// Names that differ only in case, and columns of a Nested type: what is said names them.
#[test]
fn the_cure_of_a_field_without_a_column() {
    let Some(world) = world("no_column") else { return };
    let table = world.table("(V Int64, n Nested(k String, v Int64)) ENGINE = MergeTree ORDER BY V");
    let findings = plan(&Shape::parse(&record_of("\"long\"")).unwrap(), &table, &[]).unwrap_err();
    assert!(findings[0].what.contains("there is V, and names keep their case"), "{}", findings[0]);
    assert!(findings[0].cure.contains("rename = { v = \"V\" }"), "{}", findings[0]);
    let schema = r#"{"type": "record", "name": "r", "fields": [{"name": "n", "type": {"type": "array", "items":
        {"type": "record", "name": "i", "fields": [{"name": "k", "type": "string"}]}}}]}"#;
    let findings = plan(&Shape::parse(schema).unwrap(), &table, &[]).unwrap_err();
    let cure = &findings[0].cure;
    assert!(cure.contains("each of n.k, n.v by rename"), "{cure}");
    let (_, alter) = cure.split_once("JSON text: ").unwrap();
    let (alter, rename) = alter.split_once(", and ").unwrap();
    world.run(alter);
    assert!(rename.starts_with("sink.clickhouse.columns.rename = { n = \"n_json\" }"), "{rename}");
}

/// The table's definition is tried before it is made: what the server would refuse, it refuses here, in its own words.
#[test]
fn a_definition_that_the_server_refuses() {
    let Some(world) = world("definition") else { return };
    let shape = Shape::parse(r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "string"},
        {"name": "b", "type": ["null", "long"]}, {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}"#).unwrap();
    let tried = |order_by: &str, partition_by: &str| {
        let config = ClickHouseConfig {
            order_by: order_by.into(),
            partition_by: partition_by.into(),
            ..world.config(&world.name())
        };
        let definition = create_table(&shape, &config, &[]).unwrap();
        let tried = world.runtime.block_on(world.client.try_define(&definition));
        let made = world.runtime.block_on(world.client.define(&definition.sql));
        let words = |made: Result<(), Undefined>| match made {
            Ok(()) => String::new(),
            Err(Undefined::Refused(words)) => words,
            Err(Undefined::Failed(error)) => panic!("{order_by}: {error}"),
        };
        (words(tried), words(made))
    };
    for (order_by, partition_by) in [
        ("", ""),
        ("a, t", "toYYYYMM(t), a"),
        ("(a, t)", "toYYYYMM(t)"),
        ("a", "tuple()"),
        ("tuple()", ""),
        ("concat(a, ','), ifNull(b, 0)", ""),
    ] {
        assert_eq!(tried(order_by, partition_by), (String::new(), String::new()), "{order_by}, {partition_by}");
    }
    for (order_by, partition_by, code, word) in [
        ("a t", "", 62, "Syntax error"),
        ("a, tt", "", 47, "tt"),
        ("a", "toYYYMM(t)", 46, "toYYYMM"),
        ("a, b", "", 44, "null"),
    ] {
        let (tried, made) = tried(order_by, partition_by);
        assert!(tried.contains(word), "{order_by}: {tried}");
        assert!(made.contains(&format!("(code {code})")) && !made.contains("(version"), "{order_by}: {made}");
    }
}

#[test]
fn addresses_are_refused_even_where_losses_are_not() {
    let shape = Shape::parse(&record_of("\"string\"")).unwrap();
    for column in ["IPv4", "IPv6", "Array(IPv4)", "Map(String, IPv6)"] {
        let findings = plan(&shape, &table(&[("v", column)]), &["v"]).unwrap_err();
        assert!(findings[0].what.contains("addresses are never written"), "{}", findings[0]);
    }
}

#[test]
fn all_findings_at_once() {
    let schema = r#"{"type": "record", "name": "r", "fields": [
        {"name": "a", "type": "long"}, {"name": "b", "type": "string"}, {"name": "c", "type": "int"}]}"#;
    let shape = Shape::parse(schema).unwrap();
    let findings = plan(&shape, &table(&[("a", "DateTime"), ("b", "Int8"), ("c", "Int32")]), &[]).unwrap_err();
    let fields: Vec<&str> = findings.iter().map(|finding| finding.subject.as_str()).collect();
    assert_eq!(fields, ["a", "b"]);
    // A field without a column is not dropped silently either.
    let findings = plan(&shape, &table(&[("a", "Int64"), ("c", "Int32")]), &[]).unwrap_err();
    assert!(findings[0].what.contains("no column b"), "{}", findings[0]);
}

#[test]
fn columns_that_clickhouse_computes() {
    let shape = Shape::parse(&record_of("\"long\"")).unwrap();
    for kind in [DefaultKind::Materialized, DefaultKind::Alias] {
        let mut table = table(&[("v", "Int64")]);
        table.columns[0].default = kind;
        let findings = plan(&shape, &table, &[]).unwrap_err();
        assert!(findings[0].what.contains("ClickHouse computes it"), "{}", findings[0]);
    }
    let own = table(&[("v", "Int64"), ("_topic", "String"), ("_partition", "Int32"), ("_offset", "Int64")]);
    let config =
        ColumnsConfig { rename: [("v".to_string(), "_offset".to_string())].into(), ..ColumnsConfig::default() };
    let columns = Columns::new(&config, "sink.clickhouse");
    let findings = pressline::sink::clickhouse::BlockPlan::compile(&shape, &own, &columns, "t").unwrap_err();
    assert!(findings[0].what.contains("pressline's own"), "{}", findings[0]);
}

#[test]
fn a_nullable_field_in_a_column_without_null_is_a_warning() {
    let shape = Shape::parse(&record_of(r#"["null", "long"]"#)).unwrap();
    let plan = plan(&shape, &table(&[("v", "Int64")]), &[]).unwrap();
    assert_eq!(plan.warnings().len(), 1);
    assert!(plan.warnings()[0].what.contains("dead letters"));
}

#[test]
fn tables_that_cannot_keep_the_promise() {
    let Some(world) = world("promises") else { return };
    let own = "_topic LowCardinality(String), _partition Int32, _offset Int64";
    let errors = |definition: &str, delivery| {
        let findings = world.table(definition).refusals(delivery);
        findings.into_iter().filter(|f| f.severity == Severity::Error).collect::<Vec<_>>()
    };
    let exactly = ClickHouseDelivery::ExactlyOnce;
    assert_eq!(errors(&format!("(a Int8, {own}) ENGINE = MergeTree ORDER BY a"), exactly), []);
    for engine in [
        "ReplacingMergeTree ORDER BY a",
        "SummingMergeTree ORDER BY a",
        "AggregatingMergeTree ORDER BY a",
        "CollapsingMergeTree(a) ORDER BY a",
        "Null",
        "Memory",
        "Log",
    ] {
        let found = errors(&format!("(a Int8, {own}) ENGINE = {engine}"), exactly);
        assert!(found.len() == 1 && found[0].subject == "engine", "{engine}: {found:?}");
    }
    let found = errors(
        &format!(
            "(a Int8, t DateTime, {own}) ENGINE = MergeTree ORDER BY a TTL t + INTERVAL 1 DAY GROUP BY a SET t = max(t)"
        ),
        exactly,
    );
    assert!(found.len() == 1 && found[0].subject == "TTL", "{found:?}");
    assert_eq!(errors("(a Int8) ENGINE = MergeTree ORDER BY a", ClickHouseDelivery::Deduplicated).len(), 1);
    let with_window = "(a Int8) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 5";
    assert_eq!(errors(with_window, ClickHouseDelivery::Deduplicated), []);
}

#[test]
fn the_printed_alter_cures() {
    let Some(world) = world("alter") else { return };
    let table = world.table("(a Int8, _partition Int32) ENGINE = MergeTree ORDER BY a");
    let findings = table.refusals(ClickHouseDelivery::ExactlyOnce);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let (alter, _) = finding.cure.split_once(';').unwrap();
    world.run(alter);
    let table = world.describe(&table.name);
    assert_eq!(table.refusals(ClickHouseDelivery::ExactlyOnce), []);
    assert!(table.has_coordinates());
}

#[test]
fn a_ttl_with_a_view_behind_it() {
    let Some(world) = world("ttl_view") else { return };
    let table = world.table("(t DateTime, _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY t TTL t + INTERVAL 1 DAY");
    let findings = table.refusals(ClickHouseDelivery::ExactlyOnce);
    assert_eq!(findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Warning]);
    let view = format!(
        "CREATE MATERIALIZED VIEW pressline.{0}_v ENGINE = MergeTree ORDER BY t AS SELECT t FROM pressline.{0}",
        table.name
    );
    world.run(&view);
    let findings = world.describe(&table.name).refusals(ClickHouseDelivery::ExactlyOnce);
    let about: Vec<_> = findings.iter().map(|f| (f.severity, f.subject.clone())).collect();
    assert_eq!(about, [(Severity::Error, "TTL".to_string()), (Severity::Warning, format!("{}_v", table.name))]);
}
