//! `pressline test`: records in files beside the pipelines, and what becomes of each, without Kafka, registry and databases.

mod compare;
pub mod fixture;
mod junit;
mod result;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::avro::schema::{self, SchemaText};
use crate::command::places::PlacesError;
use crate::command::trial::{Input, Inputs, Outcome, Rows, Trial};
use crate::config::finding::{Finding, sentences};
use crate::config::format::Format;
use crate::config::load::{self, Loaded, Sources};
use crate::config::sink::{self, LoadConfig};
use crate::config::{PipelineConfig, PlaceConfig};
use crate::pipeline::plan::schemas;
use crate::runtime::stdio;
use crate::runtime::terminal::counted;
use compare::Difference;
use fixture::{Fixtures, Test};
use result::{Checked, TestResult, Verdict};

/// `pressline test`.
#[derive(Args)]
pub struct TestArgs {
    /// Pipelines: files, directories of them, or names of files in pipelines/
    #[arg(default_value = "pipelines")]
    pipelines: Vec<PathBuf>,
    /// Settings shared by all pipelines [default: pressline.toml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Only tests whose name has this in it
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also write the results to a file as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Why nothing can be tested.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The configuration is wrong.
    #[error("{}", sentences(.0))]
    Findings(Vec<Finding>),
    /// There is nothing to test.
    #[error("none of the pipelines has a file with fixtures beside it; write one, such as {0}")]
    NoFixtures(String),
    /// Not even one test has such a name.
    #[error("no test has \"{0}\" in its name; leave --only out to see them all")]
    NoSuchTest(String),
    /// The file for JUnit cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Junit {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs the tests; false where one failed. Errors: see [`TestError`].
pub fn run(args: &TestArgs) -> Result<bool, TestError> {
    let mut pipelines: Vec<PathBuf> = Vec::new();
    for path in &args.pipelines {
        let path = if load::is_fixtures(path) { fixture::pipeline_of(path) } else { path.clone() };
        if !pipelines.contains(&path) {
            pipelines.push(path);
        }
    }
    let sources = Sources { shared: args.config.clone(), pipelines, sets: args.sets.clone() };
    let loaded = load::load_offline(&sources).map_err(TestError::Findings)?;
    let wanted = |test: &Test| args.only.as_ref().is_none_or(|text| test.name.contains(text.as_str()));
    let mut checked = Vec::new();
    for file in files(&loaded) {
        let one = check(&file, &loaded, wanted);
        stdio::print(as_text(&one));
        checked.push(one);
    }
    if let Some(junit) = &args.junit {
        let written = std::fs::write(junit, junit::document(&checked));
        written.map_err(|source| TestError::Junit { file: junit.clone(), source })?;
    }
    if let Some(first) = checked.first().filter(|_| !checked.iter().any(|checked| checked.has_fixtures)) {
        return Err(TestError::NoFixtures(fixture::beside(Path::new(&first.file)).display().to_string()));
    }
    let results = || checked.iter().flat_map(|checked| &checked.results);
    if let Some(only) = args.only.as_ref().filter(|_| results().next().is_none()) {
        return Err(TestError::NoSuchTest(only.clone()));
    }
    let passed = results().filter(|result| result.verdict == Verdict::Passed).count();
    let tests = results().count();
    stdio::print(format_args!("{} = {passed} passed + {} failed\n", counted(tests, "test"), tests - passed));
    Ok(passed == tests)
}

/// The pipelines' files, each once, in their order.
fn files(loaded: &Loaded) -> Vec<PathBuf> {
    let relays = loaded.pipelines.iter().map(|(file, _)| file);
    let mut files: Vec<PathBuf> = relays.chain(loaded.loads.iter().map(|(file, _)| file)).cloned().collect();
    files.sort();
    files.dedup();
    files
}

fn check(file: &Path, loaded: &Loaded, wanted: impl Fn(&Test) -> bool) -> Checked {
    let fixtures = fixture::beside(file);
    let mut checked =
        Checked { file: file.display().to_string(), results: Vec::new(), has_fixtures: fixtures.exists() };
    if !checked.has_fixtures {
        return checked;
    }
    let begun = Instant::now();
    let mut wrong = |place: String, told: String| {
        let name = "the pipeline and its fixtures can be read".to_owned();
        checked.results.push(TestResult { name, place, took: begun.elapsed(), verdict: Verdict::Wrong, told });
    };
    let fixtures = match Fixtures::read(&fixtures) {
        Ok(fixtures) => fixtures,
        Err(findings) => {
            wrong(fixtures.display().to_string(), sentences(&findings));
            return checked;
        }
    };
    let mut bench = match Bench::new(file, loaded, &fixtures) {
        Ok(bench) => bench,
        Err(told) => {
            wrong(fixtures.file.display().to_string(), told);
            return checked;
        }
    };
    for test in fixtures.tests.iter().filter(|test| wanted(test)) {
        let begun = Instant::now();
        let (verdict, told) = match bench.run(test, fixtures.now_us) {
            Ok(differences) if differences.is_empty() => (Verdict::Passed, String::new()),
            Ok(differences) => (Verdict::Failed, diff(&fixtures, test, &differences)),
            Err(Wrong { key, what }) => {
                (Verdict::Wrong, format!("{}: test.{}.{key}: {what}\n", fixtures.place(test, &key), test.index))
            }
        };
        let place = fixtures.place(test, "name");
        checked.results.push(TestResult { name: test.name.clone(), place, took: begun.elapsed(), verdict, told });
    }
    checked
}

/// A test that cannot be run.
struct Wrong {
    /// Key of the test.
    key: String,
    what: String,
}

impl Wrong {
    fn new(key: &str, what: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into() }
    }
}

/// A pipeline that is tested.
struct Bench {
    relay: Option<Trial>,
    rows: Option<Rows>,
    values: Inputs,
    keys: Inputs,
}

impl Bench {
    fn new(file: &Path, loaded: &Loaded, fixtures: &Fixtures) -> Result<Self, String> {
        let relay = loaded.pipelines.iter().find(|(other, _)| other == file);
        let relay = relay.map(|(_, config)| config.clone()).transpose().map_err(|found| sentences(&found))?;
        let load = loaded.loads.iter().find(|(other, _)| other == file);
        let load = load.map(|(_, config)| config.clone()).transpose().map_err(|found| sentences(&found))?;
        let given = fixtures.schema.as_deref().map(schema_text).transpose()?;
        let key_schema = fixtures.key_schema.as_deref().map(schema_text).transpose()?;
        let (format, own) = match (&relay, &load) {
            (Some(relay), _) => (relay.source.format, input_schema(relay)?),
            (None, Some(load)) => (Some(load.format().format), None),
            (None, None) => (None, None),
        };
        let schema = given.or(own);
        let values = inputs(format == Some(Format::Avro), schema.as_ref())?;
        let keys = inputs(key_schema.is_some(), key_schema.as_ref())?;
        let rows = load.map(|load| rows(&load, relay.as_ref(), schema.as_ref(), key_schema.as_ref())).transpose()?;
        let relay = relay.map(|config| trial(config, fixtures)).transpose();
        Ok(Self { relay: relay.map_err(|error| error.to_string())?, rows, values, keys })
    }

    /// Runs one test; what is not as expected. Errors: it cannot be run.
    fn run(&mut self, test: &Test, now_us: i64) -> Result<Vec<Difference>, Wrong> {
        let bytes = |inputs: &Inputs, input: &Option<Input>, key: &str| {
            let bytes = input.as_ref().map(|input| inputs.bytes(input)).transpose();
            bytes.map_err(|misfit| {
                let field = if misfit.field.is_empty() { key.to_owned() } else { format!("{key}.{}", misfit.field) };
                Wrong::new(&field, misfit.what)
            })
        };
        let mut value = bytes(&self.values, &test.input, "input")?;
        let mut key = bytes(&self.keys, &test.key, "key")?;
        let expects_rows = [&test.expect.row, &test.expect.postgres, &test.expect.clickhouse, &test.expect.deleted];
        let expects_rows = expects_rows.iter().any(|row| row.is_some());
        let mut differences = Vec::new();
        if let Some(relay) = &mut self.relay {
            let outcome = relay.relay(value.as_deref(), key.as_deref(), now_us).map_err(|what| {
                Wrong::new("input", format!("the output cannot be read back: {what}; this is a defect of pressline"))
            })?;
            differences = compare::outcome(&test.expect, &outcome);
            if !expects_rows || !differences.is_empty() {
                return Ok(differences);
            }
            match outcome {
                Outcome::Written(written) => (value, key) = (Some(written.value), written.key),
                _ => return Err(Wrong::new("expect", "a row of a record that is not written; remove the row")),
            }
        } else if test.expect.output.is_some() || test.expect.filtered {
            return Err(Wrong::new("expect", "the pipeline has no relay; expect `row`, `deleted` or `dead`"));
        }
        let Some(rows) = &mut self.rows else {
            return Err(Wrong::new("expect", "the pipeline has no sink; expect `output`, `filtered` or `dead`"));
        };
        let found = rows.of(value.as_deref(), key.as_deref()).map_err(|what| Wrong::new("input", what))?;
        differences.extend(compare::rows(&test.expect, &found));
        Ok(differences)
    }
}

/// A relay with what its fixtures put in place of a registry and of GeoIP databases.
fn trial(mut config: PipelineConfig, fixtures: &Fixtures) -> Result<Trial, PlacesError> {
    if let Some(schema) = fixtures.schema.as_ref().filter(|_| config.source.format.is_some()) {
        config.source.schema = Some(schema.clone().into());
    }
    if !fixtures.place_files.is_empty() {
        config.place.files = PlaceConfig::of(fixtures.place_files.iter().cloned()).files;
    }
    Trial::new(config, fixtures.places.as_deref())
}

/// The rows of what the relay writes, or, without one, of the records themselves.
fn rows(
    load: &LoadConfig,
    relay: Option<&PipelineConfig>,
    schema: Option<&SchemaText>,
    key_schema: Option<&SchemaText>,
) -> Result<Rows, String> {
    match relay {
        None => Rows::new(load, schema, key_schema),
        Some(relay) => Rows::new(load, output_schema(relay, schema)?.as_ref(), key_schema),
    }
}

/// The schema that a relay registers.
fn output_schema(relay: &PipelineConfig, input: Option<&SchemaText>) -> Result<Option<SchemaText>, String> {
    if let Some(path) = relay.schema_file() {
        return schema_text(&path).map(Some);
    }
    let shape = match schemas::declared_input(relay).map_err(|found| sentences(&found))? {
        Some(shape) => Some(shape),
        None => {
            input.map(|schema| schemas::of_registered(relay, schema)).transpose().map_err(|found| sentences(&found))?
        }
    };
    let Some(shape) = shape else { return Ok(None) };
    let design = schemas::design(relay, &shape).map_err(|found| sentences(&found))?;
    Ok(design.text.map(|text| SchemaText::from(text.as_str())))
}

/// The schema file that a relay names for its input.
fn input_schema(relay: &PipelineConfig) -> Result<Option<SchemaText>, String> {
    sink::path(&relay.source.schema).map(|path| schema_text(&path)).transpose()
}

fn schema_text(path: &Path) -> Result<SchemaText, String> {
    let file = schema::load(path).map_err(|findings| sentences(&findings))?;
    Ok(SchemaText::from(file.compact.as_str()))
}

fn inputs(is_avro: bool, schema: Option<&SchemaText>) -> Result<Inputs, String> {
    match schema {
        Some(schema) if is_avro => Inputs::avro(schema),
        None if is_avro => {
            Err("the records are Avro, and nobody asks a registry here: name their schema file as `schema` in the \
                                fixtures"
                .into())
        }
        _ => Ok(Inputs::Json),
    }
}

/// Expected beside found, field by field, with the line that says what is expected.
fn diff(fixtures: &Fixtures, test: &Test, differences: &[Difference]) -> String {
    let mut text = String::new();
    for Difference { key, expected, found } in differences {
        let place = fixtures.place(test, key);
        // Writing to a string cannot fail.
        let _ = write!(text, "  {key}  ({place})\n    expected  {expected}\n    found     {found}\n");
    }
    text
}

fn as_text(checked: &Checked) -> String {
    let Checked { file, results, has_fixtures } = checked;
    if !has_fixtures {
        return format!("none    {file}: no fixtures\n");
    }
    let mut text = String::new();
    let passed = results.iter().filter(|result| result.verdict == Verdict::Passed).count();
    if passed > 0 {
        let _ = writeln!(text, "ok      {file}: {}", counted(passed, "test"));
    }
    for result in results.iter().filter(|result| result.verdict != Verdict::Passed) {
        let _ = write!(text, "FAILED  {}: {}\n{}", result.place, result.name, indented(&result.told));
    }
    text
}

fn indented(told: &str) -> String {
    told.lines().map(|line| format!("  {line}\n")).collect()
}
