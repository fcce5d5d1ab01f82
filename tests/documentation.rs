//! The documentation says what the code does: keys, defaults, protected properties, metrics, reasons, commands and links are
//! compared in both directions, and each test prints what to change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use pressline::command::reconcile;
use pressline::config::sink::{LoadConfig, SinkSourceConfig};
use pressline::config::{PipelineConfig, ProcessConfig, properties, secret};
use pressline::daemon::report::ProcessReport;
use pressline::kafka::consumer::Trigger;
use pressline::kafka::dead_letter::{Reason, header};
use pressline::kafka::producer::Cause;
use pressline::kafka::{consumer, producer};
use pressline::metrics::{self, MetricKind};
use pressline::pipeline::press::enrich::LookupOutcome;
use pressline::place::Answer;
use pressline::place::chain::{LookupStep, LookupSteps};
use pressline::runtime::figures::{LastError, PartitionReport, PipelineReport, PlaceDatabaseReport, WorkerReport};
use pressline::web;
use serde_json::Value;

const PAGES: [&str; 17] = [
    "README.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/configuration.md",
    "docs/formats.md",
    "docs/guarantees.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/orders.md",
    "docs/performance.md",
    "docs/privacy.md",
    "docs/questions.md",
    "docs/runbooks.md",
    "docs/superset.md",
    "docs/testing.md",
    "docs/transforms.md",
    "docs/web.md",
];

/// All that has no default, and the tables that are optional as a whole.
const LEAST: &str = r#"
name = "NAME"
kafka.bootstrap_servers = "-"
kafka.tls = {}
kafka.sasl = { mechanism = "PLAIN", username = "-" }
registry.url = "-"
source.topic = "SOURCE"
output.topic = "TOPIC"
place.geocoder = { url = "-", contact = "-" }
"#;

/// The same for the sinks.
const LEAST_SINKS: &str = r#"
name = "NAME"
kafka.bootstrap_servers = "-"
registry.url = "-"
sink.topic = "TOPIC"
source.database = { database = "-", user = "-" }
sink.postgres = { database = "-", user = "-", table = "-" }
sink.clickhouse = { url = "-", table = "-" }
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What is wrong, one line each, at the end of a test.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.add(problem());
        }
    }

    fn report(self) {
        assert!(self.0.is_empty(), "change this:\n  {}", self.0.join("\n  "));
    }
}

/// Rows of all tables of a page whose first heading is `first`, as their cells.
fn rows(page: &str, first: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if !line.starts_with('|') {
            inside = false;
            continue;
        }
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
        if cells[0] == first {
            inside = true;
        } else if inside && !cells[0].starts_with("---") {
            rows.push(cells);
        }
    }
    assert!(!rows.is_empty(), "no table with the heading `{first}`");
    rows
}

/// Texts between backticks.
fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// `section.key` → value, of everything that can be set.
fn flatten(prefix: &str, value: &Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) if !table.is_empty() && !table.keys().any(|key| key.starts_with("___figment")) => {
            for (key, value) in table {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, keys);
            }
        }
        _ => {
            keys.insert(prefix.to_string(), value.clone());
        }
    }
}

fn least() -> PipelineConfig {
    Figment::from(Toml::string(LEAST)).extract().unwrap()
}

fn least_sinks() -> LoadConfig {
    Figment::from(Toml::string(LEAST_SINKS)).extract().unwrap()
}

/// Every key with the value it has when nothing is set.
fn code_keys() -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    flatten("", &serde_json::to_value(least_sinks()).unwrap(), &mut keys);
    keys.retain(|key, _| is_of_sinks(key));
    // What both have is as the relay has it.
    flatten("source", &serde_json::to_value(SinkSourceConfig::default()).unwrap(), &mut keys);
    flatten("", &serde_json::to_value(ProcessConfig::default()).unwrap(), &mut keys);
    flatten("", &serde_json::to_value(least()).unwrap(), &mut keys);
    keys.remove("source.database");
    keys
}

/// Whether only what loads topics has the key.
fn is_of_sinks(key: &str) -> bool {
    key.starts_with("sink.") || key.starts_with("source.database.")
}

/// Whether the configuration can do without the key.
fn is_required(key: &str) -> bool {
    if is_of_sinks(key) && key != "sink.topic" {
        return cannot_be_without::<LoadConfig>(LEAST_SINKS, key);
    }
    cannot_be_without::<PipelineConfig>(LEAST, key)
}

fn cannot_be_without<T: serde::de::DeserializeOwned>(least: &str, key: &str) -> bool {
    let mut without: Value = Figment::from(Toml::string(least)).extract().unwrap();
    let mut table = &mut without;
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    for part in path.split('.').filter(|part| !part.is_empty()) {
        match table.get_mut(part) {
            Some(inner) => table = inner,
            None => return false,
        }
    }
    table.as_object_mut().is_some_and(|table| table.remove(last).is_some())
        && Figment::from(Serialized::defaults(without)).extract::<T>().is_err()
}

/// What the page should say of a key's default.
fn default_text(key: &str, value: &Value) -> String {
    let config = least();
    match key {
        _ if is_required(key) => "*required*".into(),
        "name" => "the file's name without `.toml`".into(),
        "instance" => "the host name".into(),
        "kafka.tls.ca" => "the system's store".into(),
        "source.subject" => format!("`{}`", config.source_subject()),
        "source.group" => format!("`{}`", config.group()),
        "source.topics" | "source.record" | "output.record" => "none".into(),
        "output.subject" => format!("`{}`", config.subject()),
        "dead_letter.topic" => format!("`{}`", config.dead_topic()),
        "sink.topic" => "`output.topic`".into(),
        "sink.postgres.ca" | "source.database.ca" => "the system's store".into(),
        "source.database.role" => "`user`".into(),
        "source.database.table" => "the topic's last two parts".into(),
        "sink.postgres.batch.max_wait_ms" => "`200`".into(),
        "sink.clickhouse.batch.max_wait_ms" => "`1000`".into(),
        "sink.postgres.consumer.group" => "`pressline.NAME.postgres`".into(),
        "sink.clickhouse.consumer.group" => "`pressline.NAME.clickhouse`".into(),
        "sink.postgres.consumer.dead_letter_topic" | "sink.clickhouse.consumer.dead_letter_topic" => {
            "`TOPIC.dead`".into()
        }
        _ if key.ends_with(".create.partitions") || key.ends_with(".create.replication") => "the brokers'".into(),
        "sink.clickhouse.order_by" => "the record's topic, partition and offset".into(),
        "sink.clickhouse.partition_by" | "place.attribution" => "none".into(),
        _ => match value {
            Value::Null => "none".into(),
            Value::Object(_) => "empty".into(),
            Value::String(text) => format!("`{text}`"),
            Value::Array(items) => {
                format!("`[{}]`", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            other => format!("`{other}`"),
        },
    }
}

fn type_fits(kind: &str, value: &Value) -> bool {
    match value {
        Value::Bool(_) => kind == "true or false",
        Value::Number(number) if number.is_f64() => kind == "number",
        Value::Number(_) => kind == "integer",
        Value::Array(_) => kind == "list of text" || kind == "list of paths" || kind == "list of tables",
        Value::Object(table) if table.is_empty() => kind == "table",
        Value::Object(_) => kind == "path",
        Value::String(_) => kind == "text" || kind == "address",
        Value::Null => kind == "path" || kind == "text" || kind == "integer",
    }
}

#[test]
fn every_key_is_documented_with_its_default_and_nothing_else_is() {
    let page = read("docs/configuration.md");
    let mut problems = Problems::default();
    let mut keys = code_keys();
    for row in rows(&page, "Key") {
        let [key, kind, default, meaning] = &row[..] else { panic!("four cells expected: {row:?}") };
        let key = key.trim_matches('`');
        let Some(value) = keys.remove(key) else {
            problems.add(format!(
                "docs/configuration.md: key `{key}` is not in src/config/mod.rs, or is there twice: remove it"
            ));
            continue;
        };
        let expected = default_text(key, &value);
        problems.check(*default == expected, || {
            format!("docs/configuration.md: `{key}` has default {default}; the code has {expected}")
        });
        problems.check(type_fits(kind, &value), || {
            format!("docs/configuration.md: `{key}` has type {kind}; the code's default is {value}")
        });
        problems.check(!meaning.is_empty(), || format!("docs/configuration.md: `{key}` has no meaning: write one"));
    }
    for key in keys.keys() {
        problems.add(format!("docs/configuration.md: key `{key}` of src/config/mod.rs is missing: add a row"));
    }
    problems.report();
}

#[test]
fn every_secret_has_its_variable_and_its_file() {
    let page = read("docs/configuration.md");
    let keys = code_keys();
    let mut problems = Problems::default();
    let mut variables: BTreeSet<String> = secret::ENVIRONMENT.iter().map(ToString::to_string).collect();
    for row in rows(&page, "Secret") {
        let (variable, file) = (row[1].trim_matches('`'), row[2].trim_matches('`'));
        problems.check(variables.remove(variable), || {
            format!("docs/configuration.md: `{variable}` is not read: remove it")
        });
        problems.check(keys.contains_key(file), || format!("docs/configuration.md: `{file}` is no key: correct it"));
        let expected = format!("PRESSLINE__{}", file.trim_end_matches("_file").to_uppercase().replace('.', "__"));
        problems.check(variable == expected, || format!("docs/configuration.md: `{file}` goes with `{expected}`"));
    }
    for variable in variables {
        problems
            .add(format!("docs/configuration.md: secret `{variable}` of src/config/secret.rs is missing: add a row"));
    }
    problems.report();
}

/// Texts in quotation marks in a source file.
fn literals(source: &str) -> BTreeSet<&str> {
    source.split('"').skip(1).filter(|text| !text.contains(char::is_whitespace)).collect()
}

#[test]
fn every_protected_property_is_documented_with_its_reason() {
    let page = read("docs/configuration.md");
    let (_, protected) = page.split_once("### Protected properties").unwrap();
    let source = read("src/config/properties.rs");
    let mut problems = Problems::default();
    let mut expected: BTreeMap<&str, &str> =
        literals(&source).into_iter().filter_map(|name| Some((name, properties::refusal(name)?))).collect();
    assert!(expected.len() > 20, "the properties are not found in the source any more: fix this test");
    for row in rows(protected, "Property") {
        let name = row[0].trim_matches('`');
        match expected.remove(name) {
            Some(reason) => problems.check(row[1] == reason, || {
                format!("docs/configuration.md: `{name}` is refused for another reason; write: {reason}")
            }),
            None => problems.add(format!("docs/configuration.md: `{name}` is not protected: remove it")),
        }
    }
    for (name, reason) in expected {
        problems.add(format!("docs/configuration.md: protected property is missing; add: | `{name}` | {reason} |"));
    }
    problems.report();
}

#[test]
fn every_property_that_pressline_sets_is_documented() {
    let page = read("docs/configuration.md");
    let (_, below) = page.split_once("### Defaults that pressline sets").unwrap();
    let (defaults, protected) = below.split_once("### Protected properties").unwrap();
    let sources = [
        "src/kafka/client.rs",
        "src/kafka/consumer/open.rs",
        "src/kafka/consumer/other_members.rs",
        "src/kafka/producer/mod.rs",
    ]
    .map(read)
    .join("\n");
    // Without the tests at the end of each file and without line breaks between name and value.
    let sources: String = sources.split_whitespace().collect::<Vec<_>>().join(" ");
    let millis = |duration: std::time::Duration| duration.as_millis().to_string();
    let constants = BTreeMap::from([
        ("session.timeout.ms", millis(consumer::SESSION_TIMEOUT)),
        ("transaction.timeout.ms", millis(producer::TRANSACTION_TIMEOUT)),
        ("message.timeout.ms", millis(producer::MESSAGE_TIMEOUT)),
        ("linger.ms", millis(producer::LINGER)),
        ("socket.timeout.ms", millis(producer::REQUEST_TIMEOUT)),
    ]);
    let mut problems = Problems::default();
    let mut documented = BTreeSet::new();
    for row in rows(defaults, "Property") {
        let (name, value) = (row[0].trim_matches('`'), row[2].trim_matches('`'));
        documented.insert(name.to_string());
        let as_documented = match constants.get(name) {
            Some(constant) => constant == value,
            None => sources.contains(&format!("\"{name}\", \"{value}\"")),
        };
        problems.check(as_documented, || format!("docs/configuration.md: the code does not set `{name}` to `{value}`"));
    }
    // Every text that looks like a property and stands first in a pair or a call to `set`.
    for before in [".set(\"", "(\""] {
        for rest in sources.split(before).skip(1) {
            let Some((name, after)) = rest.split_once('"') else { continue };
            let is_property = name.contains('.')
                && after.starts_with(',')
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.')
                && (properties::refusal(name).is_some() || name.split('.').count() > 1);
            if is_property && !documented.contains(name) && !protected.contains(&format!("`{name}")) {
                problems.add(format!("docs/configuration.md: pressline sets `{name}`, which is in no table: add it"));
                documented.insert(name.to_string());
            }
        }
    }
    problems.report();
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let page = read("docs/metrics.md");
    let mut problems = Problems::default();
    let mut questions = BTreeSet::new();
    let mut expected: BTreeMap<&str, _> = metrics::ALL
        .iter()
        .chain(&reconcile::METRICS)
        .chain(&web::METRICS)
        .map(|metric| (metric.name, metric))
        .collect();
    // Those of the file have a table of their own: a running pressline does not show them.
    let written = rows(&page, "Metric of a file");
    assert_eq!(
        written.len(),
        reconcile::METRICS.len(),
        "docs/metrics.md: the table of the file must be reconcile::METRICS"
    );
    // Those of the web app too.
    let of_web = rows(&page, "Metric of the web app");
    assert_eq!(of_web.len(), web::METRICS.len(), "docs/metrics.md: the table of the web app must be web::METRICS");
    for row in rows(&page, "Metric").into_iter().chain(written).chain(of_web) {
        let name = row[0].trim_matches('`');
        let Some(metric) = expected.remove(name) else {
            problems.add(format!("docs/metrics.md: `{name}` is not in src/metrics/mod.rs: remove it"));
            continue;
        };
        let [name, kind, labels, unit, meaning, question] = row.as_slice() else {
            problems.add(format!("docs/metrics.md: `{name}` needs six columns: add unit and question"));
            continue;
        };
        let wanted = metric_row(metric, unit, question);
        let found = format!("| {name} | {kind} | {labels} | {unit} | {meaning} | {question} |");
        problems.check(found == wanted, || format!("docs/metrics.md: write {wanted}"));
        problems.check(fits(metric.name, unit), || format!("docs/metrics.md: {name} is not in {unit} by its name"));
        problems.check(question.ends_with('?') && questions.insert(question.clone()), || {
            format!("docs/metrics.md: {name} needs a question of its own that it answers, not `{question}`")
        });
    }
    for metric in expected.values() {
        problems.add(format!("docs/metrics.md: add {}", metric_row(metric, "UNIT", "QUESTION?")));
    }
    problems.report();
}

/// Prometheus' convention: seconds and bytes stand in the name, and what has them in its name is in them.
fn fits(name: &str, unit: &str) -> bool {
    match ["seconds", "bytes"].iter().find(|unit| name.split('_').any(|word| word == **unit)) {
        Some(by_name) => unit == *by_name,
        None => !unit.is_empty() && !["seconds", "bytes"].contains(&unit),
    }
}

fn metric_row(metric: &metrics::Metric, unit: &str, question: &str) -> String {
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let labels: Vec<String> = metric.labels.split(',').filter(|l| !l.is_empty()).map(|l| format!("`{l}`")).collect();
    format!("| `{}` | {kind} | {} | {unit} | {} | {question} |", metric.name, labels.join(", "), metric.help)
}

/// Names of the fields of a JSON object, with those of objects and lists in it: `pipelines[].name`.
fn fields(prefix: &str, value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                names.insert(name.clone());
                fields(&name, value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| fields(&format!("{prefix}[]"), one, names)),
        _ => {}
    }
}

#[test]
fn the_form_of_status_is_documented() {
    let pipeline = PipelineReport {
        workers: vec![WorkerReport::default()],
        partitions: vec![PartitionReport::default()],
        last_error: Some(LastError::default()),
        place_databases: vec![PlaceDatabaseReport::default()],
        ..PipelineReport::default()
    };
    let report = ProcessReport { pipelines: vec![pipeline], ..ProcessReport::default() };
    let mut names = BTreeSet::new();
    fields("", &serde_json::to_value(report).unwrap(), &mut names);
    let documented: BTreeSet<String> =
        rows(&read("docs/operations.md"), "Field").iter().flat_map(|row| codes(&row[0])).collect();
    let mut problems = Problems::default();
    for name in names.difference(&documented) {
        problems.add(format!("docs/operations.md, /status: add a row for `{name}`"));
    }
    for name in documented.difference(&names) {
        problems.add(format!("docs/operations.md, /status: there is no field `{name}`"));
    }
    problems.report();
}

#[test]
fn labels_and_their_values_are_documented() {
    let page = read("docs/metrics.md");
    let mut problems = Problems::default();
    let rows: BTreeMap<String, String> =
        rows(&page, "Label").into_iter().map(|row| (row[0].trim_matches('`').to_string(), row[1].clone())).collect();
    let labels: BTreeSet<&str> = metrics::ALL
        .iter()
        .chain(&web::METRICS)
        .flat_map(|metric| metric.labels.split(','))
        .filter(|label| !label.is_empty())
        .collect();
    for label in &labels {
        problems.check(rows.contains_key(*label), || format!("docs/metrics.md: label `{label}` is missing: add a row"));
    }
    for label in rows.keys() {
        problems.check(labels.contains(label.as_str()), || format!("docs/metrics.md: no metric has label `{label}`"));
    }
    let values: [(&str, Vec<&str>); 8] = [
        ("part", LookupSteps::default().parts().map(|(part, _)| part).to_vec()),
        ("step", LookupStep::ALL.iter().map(|step| step.label()).collect()),
        ("answer", Answer::LABELS.to_vec()),
        ("result", metrics::Reload::ALL.iter().map(|result| result.label()).collect()),
        ("trigger", Trigger::ALL.iter().map(|trigger| trigger.label()).collect()),
        ("cause", Cause::ALL.iter().map(|cause| cause.label()).collect()),
        ("outcome", LookupOutcome::ALL.iter().map(|outcome| outcome.label()).collect()),
        ("outcome", web::Outcome::ALL.iter().map(|outcome| outcome.label()).collect()),
    ];
    for (label, values) in values {
        let shown = codes(rows.get(label).map(String::as_str).unwrap_or_default());
        for value in values {
            problems.check(shown.iter().any(|text| text == value), || {
                format!("docs/metrics.md: label `{label}` may be `{value}`: add it to its row")
            });
        }
    }
    problems.report();
}

#[test]
fn reasons_and_headers_of_dead_letters_are_documented() {
    let page = read("docs/operations.md");
    let found: Vec<String> = rows(&page, "Reason").iter().map(|row| row[0].trim_matches('`').to_string()).collect();
    let expected: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(found, expected, "docs/operations.md: the table of reasons must be Reason::ALL, in its order");

    let expected = BTreeSet::from(header::OF_RELAY);
    let found: BTreeSet<String> = rows(&page, "Header").iter().flat_map(|row| codes(&row[0])).collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, expected, "docs/operations.md: the table of headers must be dead_letter::header::OF_RELAY");
}

#[test]
fn the_data_flow_of_the_shipped_pipeline_is_documented() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pressline"));
    let output = program.args(["check", "--data-flow"]).current_dir(root()).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && table.lines().count() > 30, "{table}");
    assert!(read("docs/privacy.md").ends_with(&table), "docs/privacy.md must end with:\n{table}");
}

/// Commands of a page: lines of code blocks, and code within the text, that call pressline.
fn commands(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            lines.push(line.to_string());
        } else {
            lines.extend(codes(line));
        }
    }
    lines.iter().filter_map(|line| command(line)).collect()
}

/// What follows the program's name, or `None` where the line calls something else.
fn command(line: &str) -> Option<String> {
    let line = line.split(" #").next().unwrap_or(line).trim().trim_start_matches("$ ");
    let line = line.split(" | ").next().unwrap_or(line).trim_end_matches('&').trim();
    if let Some(rest) = line.strip_prefix("cargo run --release -- ") {
        return Some(rest.to_string());
    }
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("PRESSLINE_") && word.contains('='));
    (words.next() == Some("pressline")).then(|| words.collect::<Vec<_>>().join(" "))
}

/// Of a sub-command, or of one of a sub-command (`offsets set`).
fn help(subcommand: &[&str]) -> Option<String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pressline"));
    let output = program.args(subcommand).arg("--help").env("COLUMNS", "400").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// The commands that `pressline --help` names.
fn subcommands() -> Vec<String> {
    let help = help(&[]).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(String::from).collect()
}

#[test]
fn every_command_has_an_example_and_a_row() {
    let mut problems = Problems::default();
    let mut told: BTreeSet<String> =
        rows(&read("README.md"), "Command").iter().map(|row| row[0].trim_matches('`').into()).collect();
    let commands = subcommands();
    assert!(commands.len() > 15, "{commands:?}");
    for name in &commands {
        let help = help(&[name]).unwrap();
        let example = help.split_once("Example:\n").or_else(|| help.split_once("Examples:\n"));
        let shown = example.map_or("", |(_, examples)| examples);
        problems.check(shown.trim().starts_with(&format!("pressline {name}")), || {
            format!("src/main.rs: `pressline {name} --help` has no example: add after_help")
        });
        problems.check(told.remove(name), || format!("README.md: `{name}` has no row in the table of commands"));
    }
    for name in told {
        problems.add(format!("README.md: there is no command `{name}`: remove its row"));
    }
    problems.report();
}

#[test]
fn every_command_and_flag_that_is_shown_exists() {
    let mut problems = Problems::default();
    let mut seen = 0;
    for page in PAGES {
        for command in commands(&read(page)) {
            let mut words = command.split_whitespace().peekable();
            let Some(subcommand) = words.next() else { continue };
            let mut path = vec![subcommand];
            if ["dlq", "offsets", "places", "topics"].contains(&subcommand) {
                path.extend(words.next_if(|word| !word.contains('|')));
            }
            let Some(help) = help(&path) else {
                problems.add(format!("{page}: `pressline {command}`: there is no sub-command `{subcommand}`"));
                continue;
            };
            let known: BTreeSet<&str> = help.split(|c: char| c.is_whitespace() || ",<[=".contains(c)).collect();
            for flag in words.filter(|word| word.starts_with('-') && word.parse::<i64>().is_err()) {
                let flag = flag.split('=').next().unwrap_or(flag);
                problems.check(known.contains(flag), || {
                    format!("{page}: `pressline {command}`: there is no flag `{flag}`")
                });
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} commands are found: fix this test");
    problems.report();
}

#[test]
fn every_make_target_that_is_shown_exists() {
    let makefile = read("Makefile");
    let mut problems = Problems::default();
    for page in PAGES {
        for rest in read(page).split("make ").skip(1) {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let is_code = rest[target.len()..].starts_with(['`', '\n']) || rest[target.len()..].starts_with("  ");
            if is_code && !target.is_empty() {
                problems.check(makefile.contains(&format!("\n{target}:")), || {
                    format!("{page}: `make {target}`: the Makefile has no such target")
                });
            }
        }
    }
    problems.report();
}

/// Anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .collect::<String>();
            kept.replace(' ', "-")
        })
        .collect()
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut problems = Problems::default();
    for name in PAGES {
        let page = read(name);
        let folder = Path::new(name).parent().unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { Path::new(name).to_path_buf() } else { folder.join(file) };
            if !root().join(&target).exists() {
                problems.add(format!("{name}: link to {link}: there is no file {}", target.display()));
            } else if !anchor.is_empty() {
                let found = anchors(&read(&target.to_string_lossy()));
                problems.check(found.contains(anchor), || format!("{name}: link to {link}: no such heading"));
            }
        }
        const FOLDERS: [&str; 7] = ["src/", "tests/", "docs/", "data/", "schemas/", "pipelines/", "grafana/"];
        for code in codes(&page.replace("```", "")) {
            let path = code.split_whitespace().next().unwrap_or_default();
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder)) && !path.contains(['*', 'N']);
            problems.check(!is_path || root().join(path).exists(), || format!("{name}: `{path}` does not exist"));
        }
    }
    problems.report();
}

#[test]
fn examples_of_settings_use_keys_that_exist() {
    let known = code_keys();
    let mut problems = Problems::default();
    let mut check = |place: &str, text: &str| {
        let parsed: Value = Figment::from(Toml::string(text)).extract().unwrap_or_else(|e| panic!("{place}: {e}"));
        let mut keys = BTreeMap::new();
        flatten("", &parsed, &mut keys);
        // Below a table of names of others.
        let table = |key: &str| {
            let below = [".settings", ".fields", ".cast"];
            below.iter().find_map(|name| key.split_once(&format!("{name}.")).map(|(table, _)| format!("{table}{name}")))
        };
        for key in keys.keys().filter(|key| !known.contains_key(&table(key).unwrap_or(key.to_string()))) {
            problems.add(format!("{place}: `{key}` is no key: correct it"));
        }
    };
    for page in PAGES {
        for block in read(page).split("```toml\n").skip(1) {
            check(page, block.split("```").next().unwrap_or_default());
        }
    }
    let example = read("pressline.toml");
    check("pressline.toml", &example);
    // The same with the settings that stand there as comments.
    let is_setting = |line: &str| line.starts_with('[') || line.split_whitespace().nth(1) == Some("=");
    let all: Vec<&str> =
        example.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line)).collect();
    check("pressline.toml, comments too", &all.join("\n"));
    problems.report();
}
