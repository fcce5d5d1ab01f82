//! Reads the configuration in its layers and turns every complaint into a [`Finding`] that names file, line and key,
//! and never prints a value.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map, magic::RelativePathBuf};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use toml_edit::{ImDocument, Item};

use super::{PipelineConfig, ProcessConfig, SaslMechanism, properties, secret};
use crate::finding::Finding;

/// Tables that belong to the process, not to a pipeline.
const PROCESS_TABLES: [&str; 3] = ["http", "log", "memory"];
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
    /// Pipeline file → configuration or findings.
    pub pipelines: Vec<(PathBuf, Result<PipelineConfig, Vec<Finding>>)>,
}

/// Reads everything. Errors: findings about the shared file, the flags or the list of pipeline files; findings about
/// one pipeline stay with it.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    let shared = shared_file(sources)?;
    let flags = flags(&sources.sets)?;
    let process = extract::<ProcessConfig>(&layers(shared.as_deref(), None, &flags, Keep::Process))?;
    let mut pipelines = Vec::new();
    let mut names = BTreeSet::new();
    for file in pipeline_files(sources)? {
        let mut pipeline = load_pipeline(shared.as_deref(), &file, &flags);
        if let Ok(config) = &pipeline
            && !names.insert(config.name.clone())
        {
            pipeline = Err(vec![Finding::error(
                file.display().to_string(),
                "name",
                "another pipeline has the same name, which would make them share ids and metrics",
                "give each pipeline its own `name`",
            )]);
        }
        pipelines.push((file, pipeline));
    }
    Ok(Loaded { process, pipelines })
}

fn load_pipeline(shared: Option<&Path>, file: &Path, flags: &Dict) -> Result<PipelineConfig, Vec<Finding>> {
    readable(file)?;
    refuse_process_tables(file)?;
    let mut config = extract::<PipelineConfig>(&layers(shared, Some(file), flags, Keep::Pipeline))?;
    if config.name.is_empty() {
        config.name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    }
    if config.instance.is_empty() {
        config.instance = gethostname::gethostname().to_string_lossy().into_owned();
    }
    let findings = sense(&config, file);
    if findings.is_empty() { Ok(config) } else { Err(findings) }
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
    Finding::error(
        path.display().to_string(),
        "",
        format!("cannot be read: {error}"),
        "name an existing file that this user may read",
    )
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
            "mend the line; text values need quotes",
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
    Pipeline,
}

/// A provider with the tables of the process, or without them: one file may hold both kinds.
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
            dict.retain(|key, _| PROCESS_TABLES.contains(&key.as_str()) == (self.keep == Keep::Process));
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
        Kind::InvalidLength(found, expected) => (format!("found {found} items, expected {expected}"), "mend it".into()),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => {
            ("found a number out of range".into(), "use a smaller number".into())
        }
        Kind::Message(message) if message.starts_with("property ") => (message.clone(), "mend the property".into()),
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

/// What the types cannot say: values that make no sense, alone or together.
fn sense(config: &PipelineConfig, file: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain = |key: &str, what: &str, cure: &str| {
        let path: Vec<String> = key.split('.').map(String::from).collect();
        findings.push(Finding::error(place(file, &path), key, what, cure));
    };
    let id_ok = |id: &str| {
        !id.is_empty() && id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    for (key, id) in [("name", &config.name), ("instance", &config.instance)] {
        if !id_ok(id) {
            complain(key, "not usable in ids and metrics", "use 1 to 100 of A-Z a-z 0-9 . _ -");
        }
    }
    for (key, topic) in [
        ("source.topic", &config.source.topic),
        ("output.topic", &config.output.topic),
        ("dead_letter.topic", &config.dead_topic()),
    ] {
        if !id_ok(topic) {
            complain(key, "not a topic name", "use 1 to 100 of A-Z a-z 0-9 . _ - (patterns are not supported)");
        }
    }
    if config.source.topic == config.output.topic {
        complain(
            "output.topic",
            "the same topic as source.topic",
            "write to another topic: this would read its own output",
        );
    }
    if [&config.source.topic, &config.output.topic].contains(&&config.dead_topic()) {
        complain("dead_letter.topic", "the same topic as source or output", "give dead letters a topic of their own");
    }
    if config.kafka.bootstrap_servers.trim().is_empty() {
        complain("kafka.bootstrap_servers", "empty", "name at least one host:port");
    }
    if !config.registry.url.starts_with("http://") && !config.registry.url.starts_with("https://") {
        complain("registry.url", "not an http:// or https:// address", "write it like http://127.0.0.1:8081");
    }
    if config.registry.url.contains('@') {
        complain("registry.url", "holds a user name or password", "use registry.username and registry.password_file");
    }
    if config.place.files.is_empty() {
        complain("place.files", "empty", "name at least one mmdb file");
    }
    ranges(config, &mut complain);
    tls_and_sasl(config, &mut complain);
    property_tables(config, &mut complain);
    findings
}

type Complain<'a> = dyn FnMut(&str, &str, &str) + 'a;

fn ranges(config: &PipelineConfig, complain: &mut Complain<'_>) {
    if !(1..=64).contains(&config.workers) {
        complain("workers", "out of range", "use 1 to 64");
    }
    if !(0.0..=1.0).contains(&config.dead_letter.max_dead_share) {
        complain("dead_letter.max_dead_share", "not a share", "use 0.0 (any dead letter stops) to 1.0 (never stop)");
    }
    if !(10..=10_000_000).contains(&config.dead_letter.window) {
        complain("dead_letter.window", "out of range", "use 10 to 10000000 records");
    }
    if !(1..=1_000_000).contains(&config.batch.max_records) {
        complain("batch.max_records", "out of range", "use 1 to 1000000");
    }
    if config.batch.max_bytes < 1024 {
        complain("batch.max_bytes", "too small", "use at least 1024 bytes");
    }
    if config.batch.max_wait_ms > 5_000 {
        complain("batch.max_wait_ms", "too long", "use at most 5000: the transaction would near its time-out");
    }
    if !(2..=100).contains(&config.source.max_depth) {
        complain("source.max_depth", "out of range", "use 2 to 100");
    }
    if config.source.max_record_bytes < 64 {
        complain("source.max_record_bytes", "too small", "use at least 64 bytes");
    }
}

fn tls_and_sasl(config: &PipelineConfig, complain: &mut Complain<'_>) {
    if let Some(tls) = &config.kafka.tls {
        if tls.certificate.is_some() != tls.key.is_some() {
            complain("kafka.tls", "a client certificate needs both `certificate` and `key`", "set both or neither");
        }
        let files: [(&str, &Option<RelativePathBuf>); 4] = [
            ("kafka.tls.ca", &tls.ca),
            ("kafka.tls.certificate", &tls.certificate),
            ("kafka.tls.key", &tls.key),
            ("kafka.tls.key_password_file", &tls.key_password_file),
        ];
        for (key, file) in files {
            if let Some(file) = file
                && !file.relative().is_file()
            {
                complain(key, &format!("no such file: {}", file.relative().display()), "name an existing file");
            }
        }
    }
    if let Some(sasl) = &config.kafka.sasl {
        secret_is_there("kafka.sasl.password_file", secret::SASL_PASSWORD, sasl.password_file.as_ref(), complain);
        if sasl.plaintext && config.kafka.tls.is_some() {
            complain("kafka.sasl.plaintext", "contradicts kafka.tls", "remove one of them");
        }
        if sasl.plaintext && sasl.mechanism == SaslMechanism::Plain && !loopback(&config.kafka.bootstrap_servers) {
            complain("kafka.sasl.plaintext", "PLAIN without TLS shows the password to the network", "use TLS or SCRAM");
        }
    }
    if config.registry.username.is_some() {
        let file = config.registry.password_file.as_ref();
        secret_is_there("registry.password_file", secret::REGISTRY_PASSWORD, file, complain);
    }
}

fn loopback(servers: &str) -> bool {
    servers.split(',').all(|s| ["127.", "localhost:", "[::1]"].iter().any(|l| s.trim().starts_with(l)))
}

fn secret_is_there(key: &str, variable: &str, file: Option<&RelativePathBuf>, complain: &mut Complain<'_>) {
    let cure = format!("set {key} or the environment variable {variable}");
    match secret::read(variable, file.map(RelativePathBuf::relative).as_deref()) {
        Ok(Some(_)) => {}
        Ok(None) => complain(key, "no password given", &cure),
        Err(error) => complain(key, &error.to_string(), &cure),
    }
}

fn property_tables(config: &PipelineConfig, complain: &mut Complain<'_>) {
    let kafka = &config.kafka;
    for (table, properties) in
        [("properties", &kafka.properties), ("consumer", &kafka.consumer), ("producer", &kafka.producer)]
    {
        for name in properties.0.keys() {
            if let Some(reason) = properties::refusal(name) {
                complain(&format!("kafka.{table}.{name}"), &format!("may not be set: {reason}"), "remove it");
            }
        }
    }
}
