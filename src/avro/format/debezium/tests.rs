#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::avro::UuidForm;
use crate::avro::format::datum;
use crate::config::format::FieldConfig;

/// A field's type as Apicurio's converter registers it.
fn named(kind: &str, name: &str) -> Value {
    json!(["null", {"type": kind, "connect.version": 1, "connect.name": name}])
}

/// The envelope's schema of these fields, as Debezium has it registered.
fn envelope(fields: &[(&str, Value)]) -> SchemaText {
    let fields: Vec<Value> = fields.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    let row = json!({"type": "record", "name": "Value", "fields": fields, "connect.name": "shop.public.orders.Value"});
    let schema = json!({
        "type": "record", "name": "Envelope", "namespace": "shop.public.orders", "connect.version": 2,
        "fields": [
            {"name": "before", "type": ["null", row], "default": null},
            {"name": "after", "type": ["null", "Value"], "default": null},
            {"name": "source", "type": {"type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql",
                "fields": [{"name": "lsn", "type": ["null", "long"]}]}},
            {"name": "op", "type": "string"},
        ],
    });
    schema.to_string().as_str().into()
}

/// A record with this row after the change.
fn record(row: Option<&[u8]>, op: &str) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 7];
    datum::long(0, &mut out);
    datum::long(i64::from(row.is_some()), &mut out);
    out.extend_from_slice(row.unwrap_or_default());
    datum::long(0, &mut out);
    datum::bytes(op.as_bytes(), &mut out);
    out
}

fn avro(fields: &[(&str, Value)]) -> Events {
    let mut events = Events::of_values(&FormatConfig::default()).unwrap();
    events.learn(7, &envelope(fields)).unwrap();
    events
}

fn some(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![2];
    write(&mut out);
    out
}

fn number(value: i64) -> Vec<u8> {
    some(|out| datum::long(value, out))
}

fn text(value: &str) -> Vec<u8> {
    some(|out| datum::bytes(value.as_bytes(), out))
}

const WRITE: Event = Event::Change { schema: 7, op: Op::Write };

#[test]
fn types_are_those_that_connect_name_says() {
    let types = [
        ("int", "io.debezium.time.Date", Shape::Date),
        ("long", "io.debezium.time.MicroTime", Shape::TimeMicros),
        ("long", "io.debezium.time.Timestamp", Shape::LocalTimestampMillis),
        ("long", "io.debezium.time.MicroTimestamp", Shape::LocalTimestampMicros),
        ("string", "io.debezium.time.ZonedTimestamp", Shape::TimestampMicros),
        ("string", "io.debezium.data.Uuid", Shape::Uuid(UuidForm::Text)),
        ("string", "io.debezium.data.Json", Shape::String),
        ("bytes", "io.debezium.data.Bits", Shape::Bytes),
        ("long", "io.debezium.time.MicroDuration", Shape::Long),
    ];
    for (kind, name, expected) in types {
        let events = avro(&[("it", named(kind, name))]);
        let Shape::Record(fields) = events.row_shape(7).unwrap() else { panic!() };
        assert_eq!(fields[0].shape.unwrap_optional().0, &expected, "{name}");
    }
}

#[test]
fn what_a_record_does_is_its_op() {
    let mut events = avro(&[("id", json!("long"))]);
    let mut out = Vec::new();
    assert_eq!(events.read(&record(Some(&[6]), "c"), &mut out), Ok(WRITE));
    assert_eq!(events.read(&record(Some(&[8]), "u"), &mut out), Ok(WRITE));
    assert_eq!(out, [6, 8], "the row after the change");
    let change = |op| Ok(Event::Change { schema: 7, op });
    assert_eq!(events.read(&record(None, "d"), &mut out), change(Op::Delete));
    assert_eq!(events.read(&record(None, "t"), &mut out), change(Op::Truncate));
    assert_eq!(events.read(&record(None, "m"), &mut out), change(Op::Nothing));
    for odd in [record(None, "u"), record(Some(&[6]), "d"), record(Some(&[6]), "x"), vec![0, 0, 0, 0, 7, 9]] {
        assert_eq!(events.read(&odd, &mut out).unwrap_err().reason, Reason::WrongType);
    }
    assert_eq!(out.len(), 2);
    assert_eq!(events.read(&[0, 0, 0, 0, 8], &mut out), Ok(Event::Unknown(8)));
    assert_eq!(events.read(b"{}", &mut out).unwrap_err().reason, Reason::NotWireFormat);
}

#[test]
fn instants_come_as_text_and_infinite_ones_are_refused() {
    let mut events = avro(&[("at", named("string", "io.debezium.time.ZonedTimestamp"))]);
    let mut out = Vec::new();
    events.read(&record(Some(&text("2024-02-29T10:34:56.789012Z")), "c"), &mut out).unwrap();
    assert_eq!(out, number(1_709_202_896_789_012));
    for infinite in ["infinity", "-infinity", "+12000-01-01T00:00:00.000000Z"] {
        let reject = events.read(&record(Some(&text(infinite)), "r"), &mut out).unwrap_err();
        assert_eq!((reject.reason, reject.field.as_ref()), (Reason::OutOfRange, "at"));
    }
    let numbers = [
        ("int", "io.debezium.time.Date", vec![-622_191_234, -625_821_272, -2_147_472_692, -2_147_472_691]),
        ("long", "io.debezium.time.MicroTimestamp", vec![9_223_372_036_825_200_000, -9_223_372_036_832_400_000]),
        ("long", "io.debezium.time.Timestamp", vec![9_223_372_036_825_200, -9_223_372_036_832_400]),
    ];
    for (kind, name, infinite) in numbers {
        let mut events = avro(&[("at", named(kind, name))]);
        for value in infinite {
            let reject = events.read(&record(Some(&number(value)), "c"), &mut out).unwrap_err();
            assert_eq!(reject.reason, Reason::OutOfRange, "{name} {value}");
            events.read(&record(Some(&number(value / 2)), "c"), &mut out).unwrap();
        }
    }
}

#[test]
fn a_value_that_is_not_in_the_log_is_refused_but_in_a_snapshot_it_is_one() {
    let array = |kind: &str| json!(["null", {"type": "array", "items": ["null", kind]}]);
    let items = |items: Vec<Vec<u8>>| {
        some(|out| {
            if !items.is_empty() {
                datum::long(items.len() as i64, out);
            }
            items.iter().for_each(|item| out.extend_from_slice(item));
            out.push(0);
        })
    };
    let placeholder = value::PLACEHOLDER;
    let codes = |last: i64| {
        let mut codes: Vec<i64> = placeholder.bytes().map(i64::from).collect();
        *codes.last_mut().unwrap() = last;
        items(codes.into_iter().map(number).collect())
    };
    let e = i64::from(b'e');
    let forms = [
        (json!(["null", "string"]), text(placeholder), text("__debezium_unavailable_valuE")),
        (json!(["null", "string"]), text("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), text("X19k")),
        (json!(["null", "bytes"]), text(placeholder), text("x")),
        (array("string"), items(vec![text(placeholder)]), items(vec![text("x"), vec![0]])),
        (array("int"), codes(e), codes(e + 1)),
        (array("long"), codes(e), items(vec![])),
    ];
    for (kind, lacking, whole) in forms {
        let mut events = avro(&[("big", kind.clone())]);
        let mut out = Vec::new();
        let reject = events.read(&record(Some(&lacking), "u"), &mut out).unwrap_err();
        assert_eq!((reject.reason, out.len()), (Reason::Unavailable, 0), "{kind}");
        assert!(events.read(&record(Some(&lacking), "c"), &mut out).is_err(), "a changed key's create");
        assert_eq!(events.read(&record(Some(&whole), "u"), &mut out), Ok(WRITE), "{kind}");
        assert_eq!(events.read(&record(Some(&lacking), "r"), &mut out), Ok(WRITE), "{kind}");
    }
}

#[test]
fn numbers_with_their_scale_are_text_and_geometries_are_refused() {
    let variable = json!(["null", {"type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
        "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]}]);
    let mut events =
        avro(&[("n", variable.clone()), ("again", json!(["null", "io.debezium.data.VariableScaleDecimal"]))]);
    let scaled = |scale: i64, digits: &[u8]| {
        some(|out| {
            datum::long(scale, out);
            datum::bytes(digits, out);
        })
    };
    for (scale, digits, expected) in [(5, [0xff], "-0.00001"), (1, [15], "1.5"), (0, [0], "0"), (-2, [7], "700")] {
        let mut out = Vec::new();
        events.read(&record(Some(&[scaled(scale, &digits), vec![0]].concat()), "c"), &mut out).unwrap();
        assert_eq!(out, [text(expected), vec![0]].concat());
    }
    let reject = events.read(&record(Some(&[scaled(20_000, &[1]), vec![0]].concat()), "c"), &mut Vec::new());
    assert_eq!(reject.unwrap_err().reason, Reason::OutOfRange);
    let point = json!(["null", {"type": "record", "name": "Point", "namespace": "io.debezium.data.geometry", "fields": [
        {"name": "x", "type": "double"}, {"name": "y", "type": "double"},
        {"name": "wkb", "type": ["null", "bytes"]}, {"name": "srid", "type": ["null", "int"]}]}]);
    let mut events = avro(&[("p", point)]);
    let row = [vec![2], vec![0; 16], vec![0, 0]].concat();
    let reject = events.read(&record(Some(&row), "c"), &mut Vec::new()).unwrap_err();
    assert!(reject.to_string().contains("a geometry; leave it out: columns.ignore"), "{reject}");
}

#[test]
fn json_with_its_schema_and_without_reads_the_same() {
    let field = |name: &str, kind: &str, logical: Option<&str>| json!({"field": name, "type": kind, "optional": name != "id", "name": logical});
    let row = json!({"type": "struct", "optional": true, "field": "after", "fields": [
        field("id", "int64", None), field("at", "int64", Some("io.debezium.time.MicroTimestamp")), field("note", "string", None)]});
    let schema = json!({"type": "struct", "fields": [row, field("op", "string", None), field("ts_ms", "int64", None)]});
    let after = json!({"id": 3, "at": 5, "note": "x"});
    let connect = FormatConfig { format: Format::ConnectJson, ..FormatConfig::default() };
    let fields = [("id", "long"), ("at", "local-timestamp-micros?"), ("note", "string?")]
        .map(|(name, kind)| (name.to_string(), FieldConfig::Type(kind.into())));
    let plain = FormatConfig { format: Format::Json, fields: fields.into(), ..FormatConfig::default() };
    // Declared fields are sorted by name.
    for (config, with_schema, expected) in
        [(connect, true, [vec![6, 2, 10], text("x")]), (plain, false, [vec![2, 10, 6], text("x")])]
    {
        let mut events = Events::of_values(&config).unwrap();
        let mut read = |op: &str, after: &Value| {
            let payload = json!({"before": {"id": 0}, "after": after, "op": op, "source": {"lsn": 1}});
            let record = if with_schema { json!({"schema": schema, "payload": payload}) } else { payload };
            let mut out = Vec::new();
            let event = events.read(record.to_string().as_bytes(), &mut out)?;
            let Event::Change { op, .. } = event else { panic!("{event:?}") };
            Ok::<_, Reject>((op, out))
        };
        assert_eq!(read("c", &after), Ok((Op::Write, expected.concat())));
        assert_eq!(read("d", &Value::Null), Ok((Op::Delete, vec![])));
        assert_eq!(read("t", &Value::Null), Ok((Op::Truncate, vec![])));
        let infinite = json!({"id": 3, "at": 9_223_372_036_825_200_000_i64, "note": null});
        assert_eq!(read("u", &infinite).unwrap_err().reason, Reason::OutOfRange);
    }
}

#[test]
fn heartbeats_and_transactions_change_nothing_and_plain_rows_are_refused() {
    let mut events = Events::of_values(&FormatConfig::default()).unwrap();
    let schema = |fields: &[&str]| {
        let fields: Vec<Value> = fields.iter().map(|name| json!({"name": name, "type": "long"})).collect();
        SchemaText::from(json!({"type": "record", "name": "It", "fields": fields}).to_string().as_str())
    };
    events.learn(7, &schema(&["ts_ms"])).unwrap();
    events.learn(8, &schema(&["status", "id", "event_count", "data_collections", "ts_ms"])).unwrap();
    for id in [7, 8] {
        let event = events.read(&[0, 0, 0, 0, id, 2], &mut Vec::new());
        assert_eq!(event, Ok(Event::Change { schema: id.into(), op: Op::Nothing }));
    }
    let error = events.learn(9, &schema(&["id", "note"])).unwrap_err();
    assert!(error.contains("not Debezium's envelope") && error.contains("id, note"), "{error}");
    let mut keys = Events::of_keys(&FormatConfig::default()).unwrap();
    keys.learn(7, &schema(&["id"])).unwrap();
    let mut out = Vec::new();
    assert_eq!((keys.read(&[0, 0, 0, 0, 7, 6], &mut out), out), (Ok(WRITE), vec![6]));
}

#[test]
fn values_that_an_update_lacks_are_left_out_where_the_row_keeps_them() {
    let text_or_null = json!(["null", "string"]);
    let fields = [("id", json!("long")), ("big", text_or_null.clone()), ("note", text_or_null)];
    let mut events = avro(&fields).skipping();
    let row = |big: &str| [vec![6], text(big), text("n")].concat();
    let mut out = Vec::new();
    assert_eq!(events.read(&record(Some(&row(value::PLACEHOLDER)), "u"), &mut out), Ok(WRITE));
    assert_eq!((&out, events.lacking()), (&[vec![6], text("n")].concat(), &[1][..]));
    out.clear();
    assert_eq!(events.read(&record(Some(&row("big")), "u"), &mut out), Ok(WRITE));
    assert_eq!((&out, events.lacking()), (&row("big"), &[][..]));
    out.clear();
    assert_eq!(events.read(&record(Some(&row(value::PLACEHOLDER)), "r"), &mut out), Ok(WRITE), "a snapshot");
    assert_eq!((&out, events.lacking()), (&row(value::PLACEHOLDER), &[][..]));
}

/// A record with rows before and after the change.
fn both(before: Option<&[u8]>, after: Option<&[u8]>, op: &str) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 7];
    for row in [before, after] {
        datum::long(i64::from(row.is_some()), &mut out);
        out.extend_from_slice(row.unwrap_or_default());
    }
    datum::long(0, &mut out);
    datum::bytes(op.as_bytes(), &mut out);
    out
}

fn log(fields: &[(&str, Value)], truncate: Truncate) -> Events {
    let mut events = Events::of_values(&FormatConfig { log: Some(truncate), ..FormatConfig::default() }).unwrap();
    events.learn(7, &envelope(fields)).unwrap();
    events
}

#[test]
fn in_a_log_each_change_is_a_row_with_its_op() {
    let fields = [("id", json!("long")), ("note", json!(["null", "string"]))];
    let mut events = log(&fields, Truncate::Stop);
    let Shape::Record(of) = events.row_shape(7).unwrap() else { panic!() };
    assert_eq!(of.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["_op", "id", "note"]);
    let (old, new) = ([vec![6], text("old")].concat(), [vec![8], text("new")].concat());
    let mut read = |record: &[u8]| {
        let mut out = Vec::new();
        events.read(record, &mut out).map(|event| (event, out))
    };
    let row = |op: &str, row: &[u8]| Ok((WRITE, [&[2][..], op.as_bytes(), row].concat()));
    assert_eq!(read(&both(None, Some(&new), "c")), row("c", &new));
    assert_eq!(read(&both(None, Some(&new), "r")), row("r", &new));
    assert_eq!(read(&both(Some(&old), Some(&new), "u")), row("u", &new));
    assert_eq!(read(&both(Some(&old), None, "d")), row("d", &old));
    let change = |op| Ok((Event::Change { schema: 7, op }, vec![]));
    assert_eq!(read(&both(None, None, "m")), change(Op::Nothing));
    assert_eq!(read(&both(None, None, "t")), change(Op::Truncate), "id takes no null");
    let reject = read(&both(None, None, "d")).unwrap_err();
    assert_eq!((reject.reason, reject.field.as_ref()), (Reason::MissingField, "before"));
    let lacking = [vec![8], text(value::PLACEHOLDER)].concat();
    assert_eq!(read(&both(None, Some(&lacking), "u")).unwrap_err().reason, Reason::Unavailable);
    assert_eq!(read(&both(Some(&old), Some(&new), "x")).unwrap_err().reason, Reason::WrongType);
}

#[test]
fn in_a_log_a_truncate_is_a_row_of_nulls_where_that_is_asked_for_or_fits() {
    let (id, note) = (("id", json!("long")), ("note", json!(["null", "string"])));
    let mut out = Vec::new();
    let truncate = both(None, None, "t");
    assert_eq!(log(std::slice::from_ref(&note), Truncate::Stop).read(&truncate, &mut out), Ok(WRITE));
    assert_eq!(out, b"\x02t\x00");
    out.clear();
    let mut applied = log(&[id.clone(), note.clone()], Truncate::Apply);
    assert_eq!(applied.read(&truncate, &mut out), Ok(WRITE));
    assert_eq!(out, b"\x02t\x00\x00");
    out.clear();
    assert_eq!(applied.read(&both(None, Some(&[vec![6], text("x")].concat()), "c"), &mut out), Ok(WRITE));
    assert_eq!(out, [b"\x02c\x02\x06".to_vec(), text("x")].concat(), "the id's branch of a union with null");
    let nothing = Ok(Event::Change { schema: 7, op: Op::Nothing });
    assert_eq!(log(&[note], Truncate::Ignore).read(&truncate, &mut out), nothing);
    let own = Events::of_values(&FormatConfig { log: Some(Truncate::Stop), ..FormatConfig::default() });
    let error = own.unwrap().learn(7, &envelope(&[id, ("_op", json!("string"))])).unwrap_err();
    assert!(error.contains("a column _op"), "{error}");
}
