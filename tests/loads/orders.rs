//! Orders of fish and chips in every format, each topic into a table of its own, and the same rows in all.

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use pressline::kafka::dead_letter::header;
use serde_json::json;

use super::Load;
use crate::cluster::Raw;
use crate::relay as process;

/// Format, and the topic that the table is named after.
pub const TOPICS: [(&str, &str); 4] = [
    ("connect_json", "demo5-cod-and-chips"),
    ("avro", "demo6_cod_and_chips"),
    ("json", "declared.orders"),
    ("json_schema", "schema-orders"),
];

/// The rows of the talk's own demo.
const ORDERS: [(i64, i32, &[&str]); 8] = [
    (1_689_238_490_892, 1, &["cod & chips"]),
    (1_689_238_492_138, 2, &["cod & chips"]),
    (1_689_238_493_296, 3, &["chips"]),
    (1_689_238_494_749, 4, &["cod & chips"]),
    (1_689_238_495_998, 5, &["cod & chips", "chips & chips"]),
    (1_689_238_497_410, 6, &["cod & chips", "chips & chips"]),
    (1_689_238_498_697, 7, &["cod & chips"]),
    (1_689_238_499_737, 8, &["chips"]),
];

const AVRO: &str = r#"{"type": "record", "name": "demo6_cod_and_chips", "doc": "Fish and chip shop orders", "fields": [
    {"name": "order_time", "type": "long"}, {"name": "count", "type": "int"},
    {"name": "order", "type": {"type": "array", "items": "string"}}]}"#;

const JSON_SCHEMA: &str = r#"{"type": "object", "title": "Order", "additionalProperties": false,
    "required": ["order_time", "count", "order"], "properties": {"order_time": {"type": "integer"},
    "count": {"type": "integer", "connect.type": "int32"}, "order": {"type": "array", "items": {"type": "string"}}}}"#;

/// One record of a format.
fn record(format: &str, id: u32, (order_time, count, order): (i64, i32, &[&str])) -> Vec<u8> {
    let plain = json!({"order": order, "count": count, "order_time": order_time});
    let framed = |bytes: &[u8]| [&[0][..], &id.to_be_bytes(), bytes].concat();
    match format {
        "connect_json" => {
            let field = |name: &str, of: &str| json!({"field": name, "type": of, "optional": false});
            let order = json!({"field": "order", "type": "array", "items": {"type": "string", "optional": false}, "optional": false});
            let fields = [field("order_time", "int64"), field("count", "int32"), order];
            json!({"schema": {"type": "struct", "optional": false, "version": 1, "fields": fields}, "payload": plain})
                .to_string()
                .into_bytes()
        }
        "avro" => {
            let order = order.iter().map(|dish| Value::String((*dish).into())).collect();
            let fields =
                [("order_time", Value::Long(order_time)), ("count", Value::Int(count)), ("order", Value::Array(order))];
            let schema = Schema::parse_str(AVRO).unwrap();
            let writer = GenericDatumWriter::builder(&schema).build().unwrap();
            let fields = fields.map(|(name, value)| (name.to_string(), value)).to_vec();
            framed(&writer.write_value_to_vec(Value::Record(fields)).unwrap())
        }
        "json_schema" => framed(plain.to_string().as_bytes()),
        _ => plain.to_string().into_bytes(),
    }
}

/// Registers the format's schema, where it has one; gives the id.
fn register(format: &str, topic: &str) -> u32 {
    match format {
        "avro" => register_as(topic, AVRO, "AVRO"),
        "json_schema" => register_as(topic, JSON_SCHEMA, "JSON"),
        _ => 0,
    }
}

/// Registers a schema of the topic's values; gives the id.
pub fn register_as(topic: &str, schema: &str, kind: &str) -> u32 {
    let url = format!("{}/subjects/{topic}-value/versions", process::service("PRESSLINE_TEST_REGISTRY"));
    let body = json!({"schema": schema, "schemaType": kind}).to_string();
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let request = client.post(&url).header("content-type", "application/vnd.schemaregistry.v1+json").body(body);
        let answer = runtime.block_on(async { request.send().await.unwrap().bytes().await.unwrap() });
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        u32::try_from(answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))).unwrap()
    };
    std::thread::spawn(ask).join().unwrap()
}

/// The table of a topic, as the sink names it.
pub fn table(load: &Load, topic: &str) -> String {
    format!("{topic}_{}", load.name).replace(['-', '.'], "_")
}

/// Loads the orders of every format, and one record of each that is none. `sink` is the sink's table of a pipeline's file, whose
/// `table` has the topic's name in it; `rows` gives a table's rows: time, count and order as JSON, in their order.
pub fn all_formats(load: &Load, sink: &str, rows: impl Fn(&str) -> Vec<serde_json::Value>) {
    std::fs::remove_file(load.dir.path().join(format!("pipelines/{}.toml", load.name))).unwrap();
    for (format, topic) in TOPICS {
        let topic = format!("{topic}_{}", load.name);
        load.cluster.create_topics(&[(&topic, 2), (&format!("{topic}.dead"), 1)]);
        let id = register(format, &topic);
        let fields = match format {
            "json" => "[source.fields]\norder_time = \"long\"\ncount = \"int\"\norder = \"array<string>\"\n",
            _ => "",
        };
        load.write(
            &format!("pipelines/{format}.toml"),
            &format!("[source]\ntopic = \"{topic}\"\nformat = \"{format}\"\n{fields}{sink}"),
        );
        let order = |(at, order)| Raw::value(at % 2, record(format, id, order));
        let mut records: Vec<Raw> = (0..).zip(ORDERS).map(order).collect();
        records.insert(3, Raw::value(0, if format == "avro" { "[]" } else { "{\"order_time\": \"now\"}" }));
        load.cluster.send(&topic, &records);
    }
    let said = load.check();
    assert!(said.contains("0 errors"), "{said}");
    let mut run = load.run();
    for (format, topic) in TOPICS {
        let topic = format!("{topic}_{}", load.name);
        let group = format!("pressline.{format}.{}", load.sink);
        load.cluster.await_relayed(&group, &topic, crate::cluster::PATIENCE, || run.still_runs());
    }
    assert_eq!(run.stop(), 0);
    let expected = ORDERS.map(|(order_time, count, order)| json!([order_time, count, order]));
    for (format, topic) in TOPICS {
        assert_eq!(rows(&table(load, topic)), expected, "{format}");
        let dead = load.cluster.read(&format!("{topic}_{}.dead", load.name));
        let told: Vec<_> =
            dead.iter().map(|letter| (letter.header(header::REASON), letter.header(header::FIELD))).collect();
        let reason = match format {
            "avro" => ("not_wire_format", ""),
            "json" => ("wrong_type", "order_time"),
            // No schema comes along.
            _ => ("unreadable_schema", ""),
        };
        assert_eq!(told, [(Some(reason.0), Some(reason.1))], "{format}");
    }
}

/// `pressline init` of a topic writes a file that `pressline check --online` passes as it is. `database` gives the options that
/// name the database, and a table for the format.
pub fn init(load: &Load, database: impl Fn(&str) -> Vec<String>) {
    for (format, topic) in [TOPICS[0], TOPICS[1], TOPICS[2]] {
        let topic = format!("{topic}_{}", load.name);
        let file = format!("made/{format}.toml");
        let run = |arguments: &[&str], more: &[String]| {
            let output = load.command().args(arguments).args(more).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(text).unwrap())
        };
        let (ok, said) = run(&["init", "--topic", &topic, "--output", &file], &database(format));
        assert!(ok, "{said}");
        let written = load.read(&file);
        assert!(written.contains(&format!("format = \"{format}\"")), "{written}");
        assert!(written.contains("CREATE TABLE"), "{written}");
        let (ok, said) = run(&["check", "--online", &file], &[]);
        assert!(ok && said.contains("0 errors"), "{said}\n{written}");
        let (ok, said) = run(&["init", "--topic", &topic, "--output", &file], &database(format));
        assert!(!ok && said.contains(&file), "a file that is there is not overwritten: {said}");
    }
}
