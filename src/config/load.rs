//! Reads the configuration in its layers and turns every complaint into a [`Finding`] that names file, line and key,
//! and never prints a value.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml_edit::ImDocument;

use super::layers::{Layers, PREFIX, Setting, environment, line_at, path_of};
use super::sink::LoadConfig;
use super::{ConfigOrigin, LogConfig, PipelineConfig, ProcessConfig, complaint, secret};
use crate::config::finding::{Finding, check_readable};
use crate::config::validate::{self, Secrets};

/// Tables that belong to the process, not to a pipeline.
const PROCESS_TABLES: [&str; 4] = ["http", "log", "memory", "web"];
/// Keys of a pipeline that only its relay needs.
pub const RELAY_KEYS: [&str; 7] = ["delivery", "workers", "source", "transforms", "dead_letter", "batch", "place"];
/// Placeholders for services that are not contacted.
const NOBODY: [(&str, &str); 2] =
    [("kafka.bootstrap_servers", "127.0.0.1:9092"), ("registry.url", "http://127.0.0.1:8081")];
/// How the name of a file ends that holds a pipeline's fixtures, see `pressline test`.
pub const FIXTURES: &str = ".test.toml";
/// Where pipelines are unless they are named.
const PIPELINES: &str = "pipelines";

/// Where the configuration is.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Settings shared by all pipelines; `pressline.toml` if that exists, unless given.
    pub shared: Option<PathBuf>,
    /// Pipelines: files, directories of them, or names of files in `pipelines/`; that directory unless given.
    pub pipelines: Vec<PathBuf>,
    /// `section.key=value` from the command line; they win over everything.
    pub sets: Vec<String>,
}

/// What was read: the process's settings, and each pipeline or what is wrong with it, so that a broken one does not
/// take the others along.
pub struct Loaded {
    /// Process settings.
    pub process: ProcessConfig,
    /// Pipeline file → configuration of its relay, or findings; files without a `[source]`, or with sinks and no `[output]`, have
    /// none.
    pub pipelines: Vec<(PathBuf, Result<PipelineConfig, Vec<Finding>>)>,
    /// Pipeline file → configuration of its sinks, or findings; files without a `[sink]` have none.
    pub loads: Vec<(PathBuf, Result<LoadConfig, Vec<Finding>>)>,
    /// What has no effect and is no fault of one pipeline.
    pub notices: Vec<Finding>,
}

/// What a command needs of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Everything that is named, and these secrets.
    Services(Secrets),
    /// Nobody is asked: brokers, registry and databases need not be named, nor their files be there.
    Nothing,
}

impl Need {
    fn secrets(self) -> Secrets {
        match self {
            Self::Services(secrets) => secrets,
            Self::Nothing => Secrets::None,
        }
    }
}

/// Reads everything. Errors: findings about the shared file, the environment, the flags or the list of pipeline files;
/// findings about one pipeline stay with it.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    read(sources, Need::Services(Secrets::All))
}

/// The same for a command that needs no secret of a database or registry: neither these nor certificates need be there.
pub fn load_for_kafka(sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    read(sources, Need::Services(Secrets::Kafka))
}

/// The same for a command that mostly reads files: no secret need be there.
pub fn load_without_secrets(sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    read(sources, Need::Services(Secrets::None))
}

/// The same for a command that contacts no service.
pub fn load_offline(sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    read(sources, Need::Nothing)
}

/// A file outside the layers, with the lines of its keys. Errors: it cannot be read, or is not what is expected.
pub fn alone<T: DeserializeOwned>(file: &Path) -> Result<(T, ConfigOrigin), Vec<Finding>> {
    readable(file)?;
    let layers = Layers { file: Some(file.into()), ..Layers::default() };
    let value = layers.extract(|_| true)?;
    Ok((value, layers.into()))
}

/// The settings of the process alone; no pipeline is looked at.
pub fn process(sources: &Sources) -> Result<ProcessConfig, Vec<Finding>> {
    process_of(&layers(sources)?)
}

/// How the log is to look, as far as that can be read at all.
pub fn log(sources: &Sources) -> LogConfig {
    layers(sources).and_then(|layers| process_of(&layers)).map(|process| process.log).unwrap_or_default()
}

/// Tables that are read without a pipeline. `defaults` hold where nothing else says so, `flags` win over everything.
pub fn tables<T: DeserializeOwned>(
    shared: Option<&Path>,
    defaults: Vec<Setting>,
    flags: Vec<Setting>,
    names: &[&str],
) -> Result<T, Vec<Finding>> {
    let sources = Sources { shared: shared.map(PathBuf::from), ..Sources::default() };
    let layers = Layers { defaults, flags, ..layers(&sources)? };
    layers.extract(|key| names.contains(&key))
}

fn layers(sources: &Sources) -> Result<Layers, Vec<Finding>> {
    let shared = shared_file(sources)?;
    Ok(Layers { shared, environment: environment()?, flags: flags(&sources.sets)?, ..Layers::default() })
}

fn process_of(layers: &Layers) -> Result<ProcessConfig, Vec<Finding>> {
    let process = layers.extract::<ProcessConfig>(|key| PROCESS_TABLES.contains(&key))?;
    let findings = validate::process(&process, &layers.clone().into());
    if findings.is_empty() { Ok(process) } else { Err(findings) }
}

fn read(sources: &Sources, need: Need) -> Result<Loaded, Vec<Finding>> {
    let mut layers = layers(sources)?;
    if need == Need::Nothing {
        layers.defaults = NOBODY.iter().map(|(key, value)| Setting::flag(key, value)).collect();
    }
    let process = process_of(&layers);
    let files = pipeline_files(sources);
    let (process, files) = match (process, files) {
        (Ok(process), Ok(files)) => (process, files),
        (process, files) => {
            return Err(process.err().into_iter().chain(files.err()).flatten().collect());
        }
    };
    let (mut pipelines, mut loads) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    let (mut any_relay, mut any_source) = (false, false);
    for file in files {
        if let Err(findings) = readable(&file).and_then(|()| refuse_others(&file)) {
            pipelines.push((file, Err(findings)));
            continue;
        }
        let layers = layers.with_file(&file);
        let (has_source, has_sink) = (has_table(&file, &layers, "source"), has_table(&file, &layers, "sink"));
        // Without an output the sinks read the source themselves.
        let has_relay = has_source && (!has_sink || has_table(&file, &layers, "output"));
        any_source |= has_source;
        if has_sink {
            let mut load = load_sinks(&layers, &file, need, has_relay);
            if !has_relay {
                without_effect(&mut load, &file, has_source);
                // A pipeline with both is named, and judged for its name, by its relay.
                refuse_twin(&mut load, |config| &config.name, &mut names, &file);
            }
            loads.push((file.clone(), load));
        }
        if has_relay || !has_sink {
            any_relay = true;
            let mut pipeline = load_relay(&layers, &file, need);
            refuse_twin(&mut pipeline, |config| &config.name, &mut names, &file);
            pipelines.push((file, pipeline));
        }
    }
    let mut notices = single_underscores();
    if !any_relay {
        notices.extend(unused(&layers, any_source)?);
    }
    Ok(Loaded { process, pipelines, loads, notices })
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
fn has_table(file: &Path, layers: &Layers, table: &str) -> bool {
    layers.flags.iter().any(|flag| flag.path.first().is_some_and(|first| first == table)) || has_key(file, table)
}

fn has_key(file: &Path, key: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    ImDocument::parse(text.as_str()).is_ok_and(|document| document.contains_key(key))
}

/// Refuses keys of a relay in a file that has none: it has no `[source]`, or that is the sinks' for want of an `[output]`.
fn without_effect<T>(load: &mut Result<T, Vec<Finding>>, file: &Path, has_source: bool) {
    let table = if has_source { "[output]" } else { "[source]" };
    let found = relay_keys(has_source).filter(|key| has_key(file, key)).map(|key| {
        let cure = match key {
            "workers" => format!("set `consumer.workers` in the sink's table, or add {table} for a relay"),
            "batch" => format!("set `batch` in the sink's table, or add {table} for a relay"),
            "dead_letter" => format!(
                "set `consumer.max_dead_share` and `consumer.dead_letter_topic` in the sink's table, or add {table}"
            ),
            "delivery" => {
                format!("remove it, or add {table} for a relay; only sink.clickhouse has a `delivery` of its own")
            }
            _ => format!("remove it, or add {table} for a relay"),
        };
        let layers = Layers { file: Some(file.into()), ..Layers::default() };
        Finding::error(layers.place(&path_of(key)), key, format!("has no effect: this file has no {table}"), cure)
    });
    let found: Vec<Finding> = found.collect();
    match load {
        _ if found.is_empty() => {}
        Ok(_) => *load = Err(found),
        Err(findings) => findings.extend(found),
    }
}

/// Keys that only a relay reads; `[source]` is the sinks' where the file has one, and no relay.
fn relay_keys(sinks_read_source: bool) -> impl Iterator<Item = &'static str> {
    RELAY_KEYS.into_iter().filter(move |key| !sinks_read_source || *key != "source")
}

/// Keys of a relay in the shared layers where no pipeline has one. Errors: such a key on the command line.
fn unused(layers: &Layers, any_source: bool) -> Result<Vec<Finding>, Vec<Finding>> {
    let is_relays =
        |setting: &&Setting| setting.path.first().is_some_and(|first| relay_keys(any_source).any(|key| key == first));
    let what = match any_source {
        true => "has no effect: no pipeline has a [source] and an [output]",
        false => "has no effect: no pipeline has a [source]",
    };
    let finding = |key: &str| Finding::warning(layers.place(&path_of(key)), key, what, "remove it, or add a relay");
    let flags: Vec<Finding> = layers.flags.iter().filter(is_relays).map(|flag| finding(&flag.path.join("."))).collect();
    if !flags.is_empty() {
        let errors =
            flags.into_iter().map(|flag| Finding { severity: crate::config::finding::Severity::Error, ..flag });
        return Err(errors.collect());
    }
    let mut findings: Vec<Finding> =
        layers.environment.iter().filter(is_relays).map(|set| finding(&set.path.join("."))).collect();
    if let Some(shared) = &layers.shared {
        findings.extend(relay_keys(any_source).filter(|key| has_key(shared, key)).map(finding));
    }
    Ok(findings)
}

/// Variables that look as if they were meant for pressline and are not read. Not those that Kubernetes sets for a service
/// named `pressline-kafka`.
fn single_underscores() -> Vec<Finding> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut found: Vec<Finding> = names
        .filter_map(|name| {
            let key = name.strip_prefix("PRESSLINE_").filter(|key| !key.starts_with('_'))?;
            let kubernetes = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| key.contains(end));
            let tables = complaint::TOP.iter().chain(&PROCESS_TABLES).map(|table| table.to_uppercase());
            let table = tables.into_iter().find(|table| {
                key.strip_prefix(table.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
            })?;
            let rest = key.strip_prefix(table.as_str()).unwrap_or_default().trim_start_matches('_');
            let meant = if rest.is_empty() { format!("{PREFIX}{table}") } else { format!("{PREFIX}{table}__{rest}") };
            (!kubernetes).then(|| {
                Finding::warning(
                    format!("environment {name}"),
                    "",
                    "not read: two underscores stand behind PRESSLINE and for each dot of a key",
                    format!("did you mean {meant}?"),
                )
            })
        })
        .collect();
    found.sort_by(|one, other| one.place.cmp(&other.place));
    found
}

fn load_relay(layers: &Layers, file: &Path, need: Need) -> Result<PipelineConfig, Vec<Finding>> {
    let keeps = |key: &str| !PROCESS_TABLES.contains(&key) && key != "sink";
    let mut config = layers.extract::<PipelineConfig>(keeps)?;
    config.origin = layers.clone().into();
    name_and_instance(&mut config.name, &mut config.instance, file);
    let mut findings = validate::relay(&config, need.secrets());
    findings.retain(|finding| need != Need::Nothing || !is_of_service(finding));
    if findings.is_empty() { Ok(config) } else { Err(findings) }
}

fn load_sinks(layers: &Layers, file: &Path, need: Need, has_relay: bool) -> Result<LoadConfig, Vec<Finding>> {
    let keeps = |key: &str| !PROCESS_TABLES.contains(&key) && !relay_keys(!has_relay).any(|relays| relays == key);
    let mut config = layers.extract::<LoadConfig>(keeps)?;
    config.origin = layers.clone().into();
    config.name_tables();
    config.without_registry();
    name_and_instance(&mut config.name, &mut config.instance, file);
    let mut findings = config.faults_of_topics(need.secrets());
    findings.retain(|finding| need != Need::Nothing || !is_of_service(finding));
    if findings.is_empty() { Ok(config) } else { Err(findings) }
}

/// Whether it is about how brokers or registry are reached.
fn is_of_service(finding: &Finding) -> bool {
    ["kafka.", "registry."].iter().any(|table| finding.subject.starts_with(table))
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
    let default = [PathBuf::from(PIPELINES)];
    let given = if sources.pipelines.is_empty() { &default[..] } else { &sources.pipelines };
    let mut files = Vec::new();
    for path in given {
        if path.is_dir() {
            files.append(&mut files_in(path)?);
        } else if !is_fixtures(path) || given.len() == 1 {
            // `pipelines/*.toml` of a shell names fixtures, too.
            files.push(named(path).unwrap_or_else(|| path.clone()));
        }
    }
    Ok(files)
}

/// Whether a file holds fixtures of a pipeline, and no pipeline.
pub fn is_fixtures(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(FIXTURES))
}

/// The pipeline files of a directory.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, Vec<Finding>> {
    let entries = std::fs::read_dir(directory).map_err(|e| vec![unreadable(directory, &e)])?;
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    found.retain(|file| !is_fixtures(file));
    found.sort();
    if found.is_empty() {
        return Err(vec![Finding::error(
            directory.display().to_string(),
            "",
            "no pipeline file (*.toml) in this directory",
            "put a pipeline file there, or name one on the command line",
        )]);
    }
    Ok(found)
}

/// The file in `pipelines/` of a pipeline that is named instead of its file.
fn named(path: &Path) -> Option<PathBuf> {
    let name = path.to_str().filter(|name| !path.exists() && validate::is_id(name))?;
    let files = files_in(Path::new(PIPELINES)).ok()?;
    let own_name = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let document = ImDocument::parse(text).ok()?;
        document.get("name").and_then(|name| name.as_str()).filter(|name| !name.is_empty()).map(String::from)
    };
    let has_name = |file: &&PathBuf| match own_name(file) {
        Some(own) => own == name,
        None => file.file_stem().is_some_and(|stem| stem == name),
    };
    files.iter().find(has_name).cloned()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    let place = path.display().to_string();
    if error.kind() != std::io::ErrorKind::NotFound {
        return Finding::error(place, "", format!("cannot be read: {error}"), check_readable());
    }
    let folder = std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default();
    if path == Path::new(PIPELINES) {
        let cure = "start pressline in the folder that has pipelines/, or name a pipeline file";
        return Finding::error(place, "", format!("no such folder in {folder}"), cure);
    }
    let what = format!("no such file, and no pipeline of that name in {folder}/{PIPELINES}");
    if validate::is_id(&place) && path.extension().is_none() {
        return Finding::error(place, "", what, "name a pipeline or its file");
    }
    let what = if path.is_absolute() { "no such file".into() } else { format!("no such file in {folder}") };
    Finding::error(place, "", what, "name an existing file")
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

/// Refuses what is no pipeline's: tables of the process, fixtures.
fn refuse_others(file: &Path) -> Result<(), Vec<Finding>> {
    if is_fixtures(file) {
        let what = "holds fixtures of a pipeline, expected a pipeline";
        let cure = "name the pipeline's own file; `pressline test` reads both";
        return Err(vec![Finding::error(file.display().to_string(), "", what, cure)]);
    }
    let layers = Layers { file: Some(file.into()), ..Layers::default() };
    let findings: Vec<Finding> = PROCESS_TABLES
        .iter()
        .filter(|table| has_key(file, table))
        .map(|table| {
            Finding::error(
                layers.place(&path_of(table)),
                *table,
                "a setting of the whole process stands in one pipeline's file",
                "move it to pressline.toml",
            )
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// `section.key=value` of the command line.
fn flags(sets: &[String]) -> Result<Vec<Setting>, Vec<Finding>> {
    let (mut all, mut findings) = (Vec::new(), Vec::new());
    for set in sets {
        let (key, value) = match set.split_once('=') {
            Some((key, value)) if key.split('.').all(|part| !part.trim().is_empty()) => (key.trim(), value),
            Some(_) => {
                let cure = "write --set section.key=value";
                findings.push(Finding::error("command line", "--set", "a part of the key is empty", cure));
                continue;
            }
            None => {
                let cure = "write --set section.key=value";
                findings.push(Finding::error("command line", "--set", "no `=` in it", cure));
                continue;
            }
        };
        let secret = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
        if secret::ENVIRONMENT.contains(&secret.as_str()) {
            findings.push(Finding::error(
                "command line",
                key,
                "a secret on the command line can be read by every user of the machine",
                format!("use the environment variable {secret} or the password file"),
            ));
            continue;
        }
        all.push(Setting::flag(key, value));
    }
    if findings.is_empty() { Ok(all) } else { Err(findings) }
}
