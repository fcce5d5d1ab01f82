//! Reads the configuration in its layers and turns every complaint into a [`Finding`] that names file, line and key,
//! and never prints a value.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use toml_edit::{ImDocument, Item};

use super::sink::LoadConfig;
use super::{PipelineConfig, ProcessConfig, secret};
use crate::config::finding::{Finding, check_readable};
use crate::config::validate;

/// Tables that belong to the process, not to a pipeline.
const PROCESS_TABLES: [&str; 3] = ["http", "log", "memory"];
/// Keys of a pipeline that only its relay needs.
const RELAY_KEYS: [&str; 6] = ["delivery", "workers", "source", "dead_letter", "batch", "place"];
/// Prefix of environment variables; `__` separates tables.
const PREFIX: &str = "PRESSLINE__";

/// Where the configuration is.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Settings shared by all pipelines; `pressline.toml` if that exists, unless given.
    pub shared: Option<PathBuf>,
    /// Pipeline files, or directories of them; `pipelines/` unless given.
    pub pipelines: Vec<PathBuf>,
    /// `section.key=value` from the command line; they win over everything.
    pub sets: Vec<String>,
}

/// What was read: the process's settings, and each pipeline or what is wrong with it, so that a broken one does not
/// take the others along.
pub struct Loaded {
    /// Process settings.
    pub process: ProcessConfig,
    /// Pipeline file → configuration of its relay, or findings; files without a `[source]` have none.
    pub pipelines: Vec<(PathBuf, Result<PipelineConfig, Vec<Finding>>)>,
    /// Pipeline file → configuration of its sinks, or findings; files without a `[sink]` have none.
    pub loads: Vec<(PathBuf, Result<LoadConfig, Vec<Finding>>)>,
}

/// Reads everything. Errors: findings about the shared file, the flags or the list of pipeline files; findings about
/// one pipeline stay with it.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    let shared = shared_file(sources)?;
    let flags = flags(&sources.sets)?;
    let process = extract::<ProcessConfig>(&layers(shared.as_deref(), None, &flags, Keep::Process))?;
    let (mut pipelines, mut loads) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for file in pipeline_files(sources)? {
        if let Err(findings) = readable(&file).and_then(|()| refuse_process_tables(&file)) {
            pipelines.push((file, Err(findings)));
            continue;
        }
        let (has_source, has_sink) = (has_table(&file, &flags, "source"), has_table(&file, &flags, "sink"));
        if has_sink {
            let mut load = load_sinks(shared.as_deref(), &file, &flags);
            // A pipeline with both is named, and judged for its name, by its relay.
            if !has_source {
                refuse_twin(&mut load, |config| &config.name, &mut names, &file);
            }
            loads.push((file.clone(), load));
        }
        if has_source || !has_sink {
            let mut pipeline = load_relay(shared.as_deref(), &file, &flags);
            refuse_twin(&mut pipeline, |config| &config.name, &mut names, &file);
            pipelines.push((file, pipeline));
        }
    }
    Ok(Loaded { process, pipelines, loads })
}

/// Two pipelines of one name would share ids and metrics.
fn refuse_twin<T>(
    loaded: &mut Result<T, Vec<Finding>>,
    name: impl Fn(&T) -> &String,
    names: &mut BTreeSet<String>,
    file: &Path,
) {
    let is_twin = loaded.as_ref().is_ok_and(|config| !names.insert(name(config).clone()));
    if is_twin {
        *loaded = Err(vec![Finding::error(
            file.display().to_string(),
            "name",
            "another pipeline has the same name, which would make them share ids and metrics",
            "give each pipeline its own `name`",
        )]);
    }
}

/// Whether the file or a flag has the table. Not asked of the shared file and the environment: what stands there is for
/// all pipelines, also those without.
fn has_table(file: &Path, flags: &Dict, table: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    flags.contains_key(table) || ImDocument::parse(text.as_str()).is_ok_and(|document| document.contains_key(table))
}

fn load_relay(shared: Option<&Path>, file: &Path, flags: &Dict) -> Result<PipelineConfig, Vec<Finding>> {
    let mut config = extract::<PipelineConfig>(&layers(shared, Some(file), flags, Keep::Relay))?;
    name_and_instance(&mut config.name, &mut config.instance, file);
    let findings = validate::relay(&config, file);
    if findings.is_empty() { Ok(config) } else { Err(findings) }
}

fn load_sinks(shared: Option<&Path>, file: &Path, flags: &Dict) -> Result<LoadConfig, Vec<Finding>> {
    let mut config = extract::<LoadConfig>(&layers(shared, Some(file), flags, Keep::Load))?;
    name_and_instance(&mut config.name, &mut config.instance, file);
    let findings = validate::load(&config, file);
    if findings.is_empty() { Ok(config) } else { Err(findings) }
}

fn name_and_instance(name: &mut String, instance: &mut String, file: &Path) {
    if name.is_empty() {
        *name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    }
    if instance.is_empty() {
        *instance = gethostname::gethostname().to_string_lossy().into_owned();
    }
}

fn shared_file(sources: &Sources) -> Result<Option<PathBuf>, Vec<Finding>> {
    let file = match &sources.shared {
        Some(file) => file.clone(),
        None if Path::new("pressline.toml").exists() => PathBuf::from("pressline.toml"),
        None => return Ok(None),
    };
    readable(&file)?;
    Ok(Some(file))
}

fn pipeline_files(sources: &Sources) -> Result<Vec<PathBuf>, Vec<Finding>> {
    let default = [PathBuf::from("pipelines")];
    let given = if sources.pipelines.is_empty() { &default[..] } else { &sources.pipelines };
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|e| vec![unreadable(path, &e)])?;
        let mut found: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
        found.sort();
        if found.is_empty() {
            return Err(vec![Finding::error(
                path.display().to_string(),
                "",
                "no pipeline file (*.toml) in this directory",
                "put a pipeline file there, or name one on the command line",
            )]);
        }
        files.append(&mut found);
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    Finding::error(path.display().to_string(), "", format!("cannot be read: {error}"), check_readable())
}

/// The file is there and is TOML. Checked before figment sees it, because the parser's own message quotes the line.
fn readable(file: &Path) -> Result<(), Vec<Finding>> {
    let text = std::fs::read_to_string(file).map_err(|e| vec![unreadable(file, &e)])?;
    ImDocument::parse(text.as_str()).map(|_| ()).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(&text, span.start));
        vec![Finding::error(
            format!("{}:{line}", file.display()),
            "",
            format!("not valid TOML: {}", error.message().lines().next().unwrap_or("syntax error")),
            "fix the line; text values need quotes",
        )]
    })
}

fn refuse_process_tables(file: &Path) -> Result<(), Vec<Finding>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let Ok(document) = ImDocument::parse(text.as_str()) else { return Ok(()) };
    let findings: Vec<Finding> = PROCESS_TABLES
        .iter()
        .filter(|table| document.contains_key(table))
        .map(|table| {
            Finding::error(
                place(file, &[table.to_string()]),
                *table,
                "a setting of the whole process stands in one pipeline's file",
                "move it to pressline.toml",
            )
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Process,
    Relay,
    Load,
}

impl Keep {
    fn keeps(self, key: &str) -> bool {
        match self {
            Self::Process => PROCESS_TABLES.contains(&key),
            Self::Relay => !PROCESS_TABLES.contains(&key) && key != "sink",
            Self::Load => !PROCESS_TABLES.contains(&key) && !RELAY_KEYS.contains(&key),
        }
    }
}

/// A provider with the keys of one part: one file may hold all kinds.
struct Part<P> {
    inner: P,
    keep: Keep,
}

impl<P: Provider> Provider for Part<P> {
    fn metadata(&self) -> Metadata {
        self.inner.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.inner.data()?;
        for dict in data.values_mut() {
            dict.retain(|key, _| self.keep.keeps(key));
        }
        Ok(data)
    }
}

fn layers(shared: Option<&Path>, file: Option<&Path>, flags: &Dict, keep: Keep) -> Figment {
    let mut figment = Figment::new();
    for path in [shared, file].into_iter().flatten() {
        figment = figment.merge(Part { inner: Toml::file_exact(path), keep });
    }
    let secrets: Vec<String> =
        secret::ENVIRONMENT.iter().map(|name| name.trim_start_matches(PREFIX).to_string()).collect();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    // `ignore` before `split`: it compares with the names as they stand in the environment.
    let environment = Env::prefixed(PREFIX).ignore(&secrets).split("__");
    figment.merge(Part { inner: environment, keep }).merge(Part { inner: Serialized::defaults(flags), keep })
}

/// `section.key=value`, value as in TOML, or plain text.
fn flags(sets: &[String]) -> Result<Dict, Vec<Finding>> {
    let mut all = Figment::new();
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            return Err(vec![Finding::error("command line", "--set", "no `=` in it", "write --set section.key=value")]);
        };
        let secret = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
        if secret::ENVIRONMENT.contains(&secret.as_str()) {
            return Err(vec![Finding::error(
                "command line",
                key,
                "a secret on the command line can be read by every user of the machine",
                format!("use the environment variable {secret} or the password file"),
            )]);
        }
        // figment parses the text as the environment's values are parsed: numbers, booleans, arrays, else text.
        let parsed: figment::value::Value =
            value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        all = all.merge(Serialized::default(key, parsed));
    }
    all.extract().map_err(|e| e.into_iter().map(|e| finding(&e)).collect())
}

fn extract<T: DeserializeOwned>(figment: &Figment) -> Result<T, Vec<Finding>> {
    figment.extract().map_err(|errors| errors.into_iter().map(|e| finding(&e)).collect())
}

/// figment's error as a finding; of an offending value only its kind is told, since it could be a secret.
fn finding(error: &figment::Error) -> Finding {
    let mut path = error.path.clone();
    let (what, cure) = match &error.kind {
        Kind::UnknownField(name, expected) => {
            // figment's path ends in the name already where the key stands in a table of a file.
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            ("unknown key".to_string(), unknown_key_cure(&path, expected))
        }
        Kind::MissingField(name) => {
            path.push(name.to_string());
            (
                "required and not set".to_string(),
                "set it in the pipeline's file, pressline.toml or the environment".into(),
            )
        }
        Kind::InvalidType(actual, expected) => {
            (format!("found {}, expected {expected}", kind_of(actual)), "change the value's type".into())
        }
        Kind::InvalidValue(actual, expected) => {
            (format!("found {} that does not fit, expected {expected}", kind_of(actual)), "change the value".into())
        }
        Kind::UnknownVariant(found, expected) => {
            (format!("found `{found}`, expected one of {}", list(expected)), "use one of those".into())
        }
        Kind::InvalidLength(found, expected) => (format!("found {found} items, expected {expected}"), "fix it".into()),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => {
            ("found a number out of range".into(), "use a smaller number".into())
        }
        Kind::Message(message) if message.starts_with("property ") => (message.clone(), "fix the property".into()),
        Kind::Message(_) => {
            ("the value cannot be read as what this key expects".into(), "see docs/configuration.md".into())
        }
        _ => ("found something this key does not take".into(), "see docs/configuration.md".into()),
    };
    let place = match error.metadata.as_ref() {
        Some(Metadata { source: Some(figment::Source::File(file)), .. }) => place(file, &path),
        Some(metadata) if metadata.name.contains("environment") => {
            format!("environment {PREFIX}{}", path.join("__").to_uppercase())
        }
        Some(_) => "command line".to_string(),
        None => "configuration".to_string(),
    };
    Finding::error(place, path.join("."), what, cure)
}

fn unknown_key_cure(path: &[String], expected: &[&str]) -> String {
    match path.last().map(String::as_str) {
        Some("password" | "key_password") => {
            "secrets do not stand in the configuration: use the key with `_file` at its end, or the environment".into()
        }
        _ => format!("expected one of {}", list(expected)),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn kind_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

/// `file:line` of a key, or the file alone where the key is not written in it.
pub fn place(file: &Path, path: &[String]) -> String {
    let shown = file.strip_prefix(std::env::current_dir().unwrap_or_default()).unwrap_or(file).display().to_string();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match line_of(&text, path) {
        Some(line) => format!("{shown}:{line}"),
        None => shown,
    }
}

/// Line, counted from 1, of a key; of its nearest table where the key itself is not there.
fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let document = ImDocument::parse(text).ok()?;
    let mut item: &Item = document.as_item();
    let mut line = None;
    for (depth, part) in path.iter().enumerate() {
        let Some(table) = item.as_table_like() else { break };
        // A librdkafka property may be written as one quoted key with dots in it.
        let whole = path.get(depth..).unwrap_or_default().join(".");
        let Some((key, next)) = table.get_key_value(part).or_else(|| table.get_key_value(&whole)) else { break };
        if let Some(span) = key.span().or_else(|| next.span()) {
            line = Some(line_at(text, span.start));
        }
        item = next;
    }
    line
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}
