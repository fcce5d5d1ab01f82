//! `pressline test` and `pressline try` as a user runs them: no services, files only.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const TRANSFORMS: &str = r#"
[source]
topic = "orders"
format = "avro"
[output]
topic = "kitchen"
key = "order_time"
[place]
files = ["not-there.mmdb"]
[[transforms]]
filter = "count > 0"
[[transforms]]
enrich = "client"
prefix = "from_"
fields = ["country_code", "city_name"]
[[transforms]]
route = '"plaice & chips" in order'
topic = "fryer"
[[transforms]]
cast = { order_time = "timestamp-millis" }
"#;

const SCHEMA: &str = r#"{"type": "record", "name": "order", "fields": [
    {"name": "order_time", "type": "long"}, {"name": "count", "type": "int"},
    {"name": "order", "type": {"type": "array", "items": "string"}},
    {"name": "client", "type": ["null", "string"], "default": null}]}"#;

const FIXTURES: &str = r#"
schema = "order.avsc"
[places."81.2.69.142"]
country_code = "GB"
city_name = "London"

[[test]]
name = "to the kitchen"
input = { order_time = 1795258945000, count = 7, order = ["cod & chips"], client = "81.2.69.142" }
[test.expect]
topic = "kitchen"
key = "1795258945000"
[test.expect.output]
order_time = 2026-11-21T11:02:25Z
count = 7
order = ["cod & chips"]
from_country_code = "GB"
from_city_name = "London"

[[test]]
name = "routed, from nowhere"
input = '{"order_time": 1795258945000, "count": 1, "order": ["plaice & chips"], "client": "81.2.69.143"}'
[test.expect]
topic = "fryer"
output = '{"order_time": "2026-11-21T11:02:25Z", "count": 1, "order": ["plaice & chips"], "from_country_code": "--", "from_city_name": ""}'

[[test]]
name = "nothing ordered"
input = { order_time = 1795258945000, count = 0, order = [] }
expect.filtered = true

[[test]]
name = "an address that is none"
input = { order_time = 1795258945000, count = 1, order = [], client = "London" }
expect = { dead = "bad_ip", field = "client" }
"#;

/// A folder with pipelines.
struct House(TempDir);

/// What a command said, and its exit code.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl House {
    fn of(files: &[(&str, &str)]) -> Self {
        let house = Self(TempDir::new().unwrap());
        std::fs::create_dir(house.path().join("pipelines")).unwrap();
        files.iter().for_each(|(name, text)| house.write(name, text));
        house
    }

    /// With the pipeline of orders and its fixtures.
    fn with_orders(fixtures: &str) -> Self {
        let files = [("orders.toml", TRANSFORMS), ("orders.test.toml", fixtures), ("order.avsc", SCHEMA)];
        Self::of(&files)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join("pipelines").join(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pressline"));
        let output = program.args(arguments).current_dir(self.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
    }

    /// Runs the tests, which must end with `code`.
    fn test(&self, arguments: &[&str], code: i32) -> String {
        let said = self.run(&[&["test"], arguments].concat());
        assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
        said.out + &said.err
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_shipped_pipelines_are_as_their_fixtures_say() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pressline"));
    let output = program.args(["test", "pipelines", "pipelines/orders"]).current_dir(root()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!out.contains("none"), "one has no fixtures:\n{out}");
}

#[test]
fn transforms_are_tested_without_any_service() {
    let house = House::with_orders(FIXTURES);
    assert_eq!(house.test(&[], 0), "ok      pipelines/orders.toml: 4 tests\n4 tests = 4 passed + 0 failed\n");
    // As a shell names them, and by the fixtures alone.
    for named in [&["pipelines/orders.toml", "pipelines/orders.test.toml"][..], &["pipelines/orders.test.toml"]] {
        assert!(house.test(named, 0).contains("4 passed"));
    }
    assert!(house.test(&["--only", "routed"], 0).ends_with("1 test = 1 passed + 0 failed\n"));
    assert!(house.test(&["--only", "rooted"], 1).contains("no test has \"rooted\" in its name"));
}

#[test]
fn what_is_not_as_expected_is_told_field_by_field_with_its_line() {
    let wrong = FIXTURES
        .replace("from_city_name = \"London\"", "from_city_name = \"Paris\"\nfrom_river = \"Thames\"")
        .replace("topic = \"fryer\"", "topic = \"kitchen\"")
        .replace("expect.filtered = true", "expect.dead = \"not_avro\"")
        .replace("dead = \"bad_ip\", field = \"client\"", "dead = \"bad_ip\", field = \"count\"");
    let house = House::with_orders(&wrong);
    let said = house.test(&["--junit", "results.xml"], 1);
    let line = |part: &str| wrong.lines().position(|line| line.contains(part)).unwrap() + 1;
    for part in [
        format!("FAILED  pipelines/orders.test.toml:{}: to the kitchen\n", line("name = \"to the kitchen\"")),
        format!(
            "expect.output.from_city_name  (pipelines/orders.test.toml:{})\n      expected  \"Paris\"\n      found     \"London\"\n",
            line("Paris")
        ),
        format!("expect.output.from_river  (pipelines/orders.test.toml:{})\n", line("Thames")),
        "expected  kitchen\n      found     fryer\n".into(),
        "expected  a dead letter: not_avro\n      found     filtered\n".into(),
        "expected  count\n      found     client\n".into(),
        "4 tests = 0 passed + 4 failed\n".into(),
    ] {
        assert!(said.contains(&part), "{part}\n---\n{said}");
    }
    assert!(!said.contains("81.2.69"), "an address is repeated:\n{said}");
    let junit = std::fs::read_to_string(house.path().join("results.xml")).unwrap();
    for part in [
        "<testsuite name=\"pipelines/orders.toml\" tests=\"4\" failures=\"4\" errors=\"0\"",
        "name=\"to the kitchen\" file=\"pipelines/orders.test.toml\" line=\"8\"",
        "expected  &quot;Paris&quot;",
    ] {
        assert!(junit.contains(part), "{part}\n---\n{junit}");
    }
}

#[test]
fn fixtures_that_are_wrong_are_told_by_line_and_key() {
    let wrong = |from: &str, to: &str| House::with_orders(&FIXTURES.replace(from, to)).test(&[], 1);
    let said = wrong("expect.filtered", "expect.filterd");
    assert!(said.contains("pipelines/orders.test.toml:30: test.2.expect.filterd: unknown key"), "{said}");
    assert!(said.contains("did you mean `filtered`?"), "{said}");
    let said = wrong("expect.filtered = true", "");
    assert!(said.contains("test.2.expect: nothing is expected"), "{said}");
    let said = wrong("expect.filtered = true", "expect = { filtered = true, dead = \"not_avro\" }");
    assert!(said.contains("a record has one outcome"), "{said}");
    let said = wrong("count = 0, order = []", "count = \"none\", order = []");
    assert!(said.contains(":29: test.2.input.count: expected int, found text"), "{said}");
    let said = wrong("count = 0, order = []", "count = 0, order = [], tip = 1");
    assert!(
        said.contains("test.2.input.tip: the schema has no such field, only order_time, count, order, client"),
        "{said}"
    );
    let said = wrong("schema = \"order.avsc\"", "");
    assert!(said.contains("name their schema file as `schema` in the fixtures"), "{said}");
    let said = wrong("[[test]]", "[[test]");
    assert!(said.contains("not valid TOML"), "{said}");
    let said = wrong("\ncountry_code = \"GB\"", "");
    assert!(said.contains("a place without a country"), "{said}");
    let said = wrong("expect.filtered = true", "expect.row = { count = 0 }");
    assert!(said.contains("of a record that is not written"), "{said}");
}

#[test]
fn fixtures_are_no_pipelines() {
    let house = House::with_orders(FIXTURES);
    std::fs::remove_file(house.path().join("pipelines/orders.toml")).unwrap();
    let said = house.run(&["check", "pipelines/orders.test.toml"]);
    assert_eq!(said.code, Some(1));
    assert!((said.out + &said.err).contains("holds fixtures of a pipeline, expected a pipeline"));
    house.write("lonely.toml", TRANSFORMS);
    let said = house.test(&[], 1);
    assert!(said.contains("none    pipelines/lonely.toml: no fixtures"), "{said}");
    assert!(said.contains("write one, such as pipelines/lonely.test.toml"), "{said}");
}

#[test]
fn rows_of_sinks_are_tested_by_their_columns() {
    let sink = r#"
        [source]
        topic = "customers"
        [sink.postgres]
        database = "d"
        user = "u"
        table = "customers"
        mode = "upsert"
        deletes = true
        pk_mode = "record_key"
        pk_fields = ["id"]
        columns.rename = { full_name = "name" }
        columns.ignore = ["note"]
        [sink.clickhouse]
        url = "http://127.0.0.1:1"
        table = "customers"
        columns.ignore = ["note"]
    "#;
    let fixtures = r#"
        schema = "customer.avsc"
        key_schema = "id.avsc"
        [[test]]
        name = "a change"
        key = 7
        input = { full_name = "Ada", note = "x", born = "1815-12-10" }
        expect.postgres = { id = 7, name = "Ada", born = 1815-12-10 }
        expect.clickhouse = { full_name = "Ada", born = 1815-12-10 }
        [[test]]
        name = "a deletion"
        key = 7
        expect.deleted = { id = 7 }
    "#;
    let customer = r#"{"type": "record", "name": "c", "fields": [{"name": "full_name", "type": "string"},
        {"name": "note", "type": ["null", "string"]}, {"name": "born", "type": {"type": "int", "logicalType": "date"}}]}"#;
    let id = r#"{"type": "long"}"#;
    let files = [("c.toml", sink), ("c.test.toml", fixtures), ("customer.avsc", customer), ("id.avsc", id)];
    let house = House::of(&files);
    let said = house.test(&[], 1);
    // ClickHouse's rows are inserted, and a record without a value is none.
    assert!(said.contains("found     a dead letter: null_value (the value is null) (clickhouse)"), "{said}");
    assert!(said.contains("2 tests = 1 passed + 1 failed"), "{said}");
    house.write("c.test.toml", &fixtures.replace(", name = \"Ada\"", ", name = \"Grace\""));
    let said = house.test(&["--only", "change"], 1);
    assert!(said.contains("expect.postgres.name"), "{said}");
    assert!(said.contains("found     \"Ada\" (postgres)"), "{said}");
}

#[test]
fn try_takes_pipelines_with_transforms() {
    let house = House::with_orders(FIXTURES);
    let pipeline = TRANSFORMS.replace("format = \"avro\"", "format = \"avro\"\nschema = \"order.avsc\"").replace(
        "[[transforms]]\nenrich = \"client\"\nprefix = \"from_\"\nfields = [\"country_code\", \"city_name\"]\n",
        "",
    );
    let brokers = "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[registry]\nurl = \"http://127.0.0.1:1\"\n";
    house.write("orders.toml", &(brokers.to_owned() + &pipeline));
    let events = [
        r#"{"order_time": 1795258945000, "count": 7, "order": ["cod & chips"]}"#,
        r#"{"order_time": 1795258945000, "count": 0, "order": []}"#,
    ];
    std::fs::write(house.path().join("events.json"), events.join("\n")).unwrap();
    let said = house.run(&["try", "events.json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("event 1: to kitchen, key "), "{}", said.out);
    assert!(said.out.contains("  order_time        \"2026-11-21T11:02:25.000Z\"\n"), "{}", said.out);
    assert!(
        said.out.ends_with("event 2: filtered\n2 events = 1 written + 1 filtered + 0 dead letters\n"),
        "{}",
        said.out
    );
    std::fs::write(house.path().join("events.json"), r#"{"order_time": "noon", "count": 7, "order": []}"#).unwrap();
    let said = house.run(&["try", "events.json"]);
    assert!(said.err.contains("event 1: order_time: expected long, found text"), "{}", said.err);
    assert_eq!(said.code, Some(1));
}
