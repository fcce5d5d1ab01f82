//! The layers that a configuration comes from: which one a key was set in, and the value that it has in the end.
//!
//! A value of the environment or the command line is text. It is read as what the key takes: a number, true or false, a list,
//! or text as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use toml_edit::{ImDocument, Item, TableLike};

use super::complaint::{self, Complaint, KeyPath};
use super::secret;
use crate::config::finding::Finding;

/// Prefix of environment variables; `__` separates tables.
pub const PREFIX: &str = "PRESSLINE__";
/// Tables whose values are all text, whatever they look like.
const TEXTS: [&str; 3] = ["kafka.properties", "kafka.consumer", "kafka.producer"];
/// Findings of one part of the configuration; more than these are not worth reading.
const MOST_FINDINGS: usize = 100;

/// The path of a key such as `source.topic`.
pub fn path_of(key: &str) -> KeyPath {
    key.split('.').map(String::from).collect()
}

/// One key that was set in the environment or on the command line.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its path.
    pub path: KeyPath,
    /// The value as it was written.
    pub raw: String,
    /// The variable's name; empty for the command line.
    variable: String,
}

impl Setting {
    /// `section.key=value` of the command line.
    pub fn flag(key: &str, value: &str) -> Self {
        Self { path: path_of(key), raw: value.into(), variable: String::new() }
    }

    fn place(&self) -> String {
        if self.variable.is_empty() { "command line".into() } else { format!("environment {}", self.variable) }
    }

    /// The first way to read it: texts are not taken for numbers where every value is a text.
    fn first_form(&self) -> Form {
        let key = self.path.join(".");
        let in_texts = TEXTS.iter().any(|table| key.starts_with(&format!("{table}.")));
        if in_texts || key.contains(".create.settings.") { Form::Text } else { Form::Guess }
    }

    fn value(&self, form: Form) -> Value {
        let guess: Value = self.raw.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        match (form, guess) {
            (Form::Guess, guess) | (Form::Text, guess @ Value::String(..)) => guess,
            (Form::Text, _) => Value::from(self.raw.as_str()),
            (Form::Texts, Value::Array(_, items)) => items.iter().map(as_text).collect::<Vec<_>>().into(),
            (Form::Texts, _) => self.raw.split(',').map(|item| Value::from(item.trim())).collect::<Vec<_>>().into(),
        }
    }
}

/// An item of a list as text.
fn as_text(value: &Value) -> Value {
    match value {
        Value::Bool(_, flag) => Value::from(flag.to_string()),
        Value::Num(_, number) => match (number.to_u128(), number.to_i128(), number.to_f64()) {
            (Some(whole), _, _) => Value::from(whole.to_string()),
            (_, Some(whole), _) => Value::from(whole.to_string()),
            (_, _, Some(fraction)) => Value::from(fraction.to_string()),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

/// How a setting's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As what it looks like.
    Guess,
    /// As text.
    Text,
    /// As a list of texts.
    Texts,
}

impl Form {
    fn next(self) -> Option<Self> {
        match self {
            Self::Guess => Some(Self::Text),
            Self::Text => Some(Self::Texts),
            Self::Texts => None,
        }
    }
}

/// Where the values of one pipeline, or of the process, come from; later ones win.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// What holds where nothing else says so.
    pub defaults: Vec<Setting>,
    /// The file that all pipelines share.
    pub shared: Option<PathBuf>,
    /// The pipeline's own.
    pub file: Option<PathBuf>,
    /// Variables.
    pub environment: Vec<Setting>,
    /// `--set`.
    pub flags: Vec<Setting>,
}

/// The layers behind a configuration, for findings about it.
#[derive(Clone, Debug, Default)]
pub struct ConfigOrigin(Arc<Layers>);

impl ConfigOrigin {
    /// `file:line` of a key such as `source.topic`, or the other layer that it was set in.
    pub fn place(&self, key: &str) -> String {
        self.0.place(&path_of(key))
    }
}

impl From<Layers> for ConfigOrigin {
    fn from(layers: Layers) -> Self {
        Self(Arc::new(layers))
    }
}

impl Layers {
    /// The layers with a pipeline's own file.
    pub fn with_file(&self, file: &Path) -> Self {
        Self { file: Some(file.into()), ..self.clone() }
    }

    /// The setting of the environment or the command line that a key comes from: it sets the key, a table around it, or a
    /// key in it.
    fn setting(&self, path: &[String]) -> Option<&Setting> {
        let wanted = plain(path);
        let is_it = |setting: &&Setting| {
            let set = plain(&setting.path);
            set == wanted || wanted.starts_with(&format!("{set}.")) || set.starts_with(&format!("{wanted}."))
        };
        self.flags.iter().rev().find(is_it).or_else(|| self.environment.iter().rev().find(is_it))
    }

    /// The layer that has a key; where none has it, the line of its table in the pipeline's file, or the file.
    pub fn place(&self, path: &[String]) -> String {
        if let Some(setting) = self.setting(path) {
            return setting.place();
        }
        let files: Vec<(&PathBuf, Option<(usize, usize)>)> = [&self.file, &self.shared]
            .into_iter()
            .flatten()
            .map(|file| (file, line_of(&std::fs::read_to_string(file).unwrap_or_default(), path)))
            .collect();
        // The file that has most of the path; of two with the same, the pipeline's.
        let best = files.iter().rev().max_by_key(|(_, found)| found.map_or(0, |(depth, _)| depth));
        match best {
            Some((file, Some((_, line)))) => format!("{}:{line}", shown(file)),
            Some((file, None)) => shown(file),
            None => "configuration".into(),
        }
    }

    /// A complaint with the layer that its key was set in.
    fn finding(&self, complaint: &Complaint) -> Finding {
        let Complaint { path, what, cure, .. } = complaint;
        Finding::error(self.place(path), path.join("."), what, cure)
    }

    /// The value of all layers together, restricted to the top-level keys that are kept. Errors: everything that is wrong.
    pub fn extract<T: DeserializeOwned>(&self, keeps: impl Fn(&str) -> bool) -> Result<T, Vec<Finding>> {
        let mut reading = Reading::of(self, &keeps);
        loop {
            match reading.figment().extract::<T>() {
                Ok(value) if reading.findings.is_empty() && reading.missing.is_empty() => return Ok(value),
                Ok(_) => return Err(reading.found()),
                // One at a time: each fault is reported, corrected or left out, and the rest is read again.
                Err(errors) => {
                    let error = errors.into_iter().next();
                    if !error.is_some_and(|error| reading.go_on_after(&error)) {
                        return Err(reading.found());
                    }
                }
            }
        }
    }
}

/// A path for comparisons: in variables, the dots of a librdkafka property are underscores.
fn plain(path: &[String]) -> String {
    path.join(".").to_lowercase().replace('_', ".")
}

fn shown(file: &Path) -> String {
    file.strip_prefix(std::env::current_dir().unwrap_or_default()).unwrap_or(file).display().to_string()
}

/// How much of a path stands in a file, and the line, counted from 1, of the last part that does.
fn line_of(text: &str, path: &[String]) -> Option<(usize, usize)> {
    let document = ImDocument::parse(text).ok()?;
    let mut item: &Item = document.as_item();
    let mut found = None;
    let mut element: Option<&dyn TableLike> = None;
    for (depth, part) in path.iter().enumerate() {
        // One of several tables of a name, such as the second of `[[transforms]]`.
        if let (None, Some(tables)) = (element, item.as_array_of_tables()) {
            let Some(table) = part.parse().ok().and_then(|index| tables.get(index)) else { break };
            found = table.span().map(|span| (depth + 1, line_at(text, span.start))).or(found);
            element = Some(table);
            continue;
        }
        let Some(table) = element.take().or_else(|| item.as_table_like()) else { break };
        // A librdkafka property may be written as one quoted key with dots in it.
        let whole = path.get(depth..).unwrap_or_default().join(".");
        let Some((key, next)) = table.get_key_value(part).or_else(|| table.get_key_value(&whole)) else { break };
        let whole = key.get() != part;
        if let Some(span) = key.span().or_else(|| next.span()) {
            found = Some((if whole { path.len() } else { depth + 1 }, line_at(text, span.start)));
        }
        item = next;
    }
    found
}

/// The line, counted from 1, of a byte.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The environment's settings. Errors: variables that are not text.
pub fn environment() -> Result<Vec<Setting>, Vec<Finding>> {
    let (mut settings, mut findings) = (Vec::new(), Vec::new());
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let Some(key) = name.strip_prefix(PREFIX).filter(|_| !secret::ENVIRONMENT.contains(&name.as_str())) else {
            continue;
        };
        match value.into_string() {
            Ok(raw) => settings.push(Setting {
                path: key.to_lowercase().split("__").map(String::from).collect(),
                raw,
                variable: name.clone(),
            }),
            Err(_) => findings.push(Finding::error(
                format!("environment {name}"),
                key.to_lowercase().replace("__", "."),
                "not UTF-8 text",
                "set it to text, or unset it",
            )),
        }
    }
    settings.sort_by(|one, other| one.variable.cmp(&other.variable));
    if findings.is_empty() { Ok(settings) } else { Err(findings) }
}

/// One part of the configuration while it is read.
struct Reading<'a> {
    layers: &'a Layers,
    keeps: &'a dyn Fn(&str) -> bool,
    /// How each setting is read: of the defaults, the environment, the command line.
    forms: Vec<Form>,
    /// Keys that are wrong and left out of further attempts.
    dropped: BTreeSet<KeyPath>,
    /// Keys that are missing, and which stand-in they have.
    filled: BTreeMap<KeyPath, usize>,
    /// What is wrong.
    findings: Vec<Finding>,
    /// What is missing; a table gives way to the keys in it.
    missing: BTreeMap<KeyPath, Finding>,
    /// What was said of a setting that is being read in other forms.
    first: BTreeMap<usize, Complaint>,
}

impl<'a> Reading<'a> {
    fn of(layers: &'a Layers, keeps: &'a dyn Fn(&str) -> bool) -> Self {
        let settings = layers.defaults.iter().chain(&layers.environment).chain(&layers.flags);
        Self {
            layers,
            keeps,
            forms: settings.map(Setting::first_form).collect(),
            dropped: BTreeSet::new(),
            filled: BTreeMap::new(),
            findings: Vec::new(),
            missing: BTreeMap::new(),
            first: BTreeMap::new(),
        }
    }

    fn settings(&self) -> impl Iterator<Item = &'a Setting> {
        self.layers.defaults.iter().chain(&self.layers.environment).chain(&self.layers.flags)
    }

    fn figment(&self) -> Figment {
        let mut dicts = vec![Dict::new(); 3];
        let counts = [self.layers.defaults.len(), self.layers.environment.len(), self.layers.flags.len()];
        let layer = counts.iter().enumerate().flat_map(|(layer, count)| std::iter::repeat_n(layer, *count));
        for ((setting, form), layer) in self.settings().zip(&self.forms).zip(layer) {
            if let Some(dict) = dicts.get_mut(layer) {
                insert(dict, &setting.path, setting.value(*form));
            }
        }
        let mut stand_ins = Dict::new();
        for (path, number) in &self.filled {
            let value = STAND_INS.get(*number).map_or_else(|| Value::from(""), |make| make());
            insert(&mut stand_ins, path, value);
        }
        let mut dicts = dicts.into_iter();
        let mut next = |name: &'static str| Fixed { name, dict: dicts.next().unwrap_or_default() };
        let mut figment = Figment::new().merge(self.part(next("defaults")));
        for path in [&self.layers.shared, &self.layers.file].into_iter().flatten() {
            figment = figment.merge(self.part(Toml::file_exact(path)));
        }
        figment
            .merge(self.part(next("environment")))
            .merge(self.part(next("command line")))
            .merge(Fixed { name: "stand-ins", dict: stand_ins })
    }

    fn part<P: Provider>(&self, inner: P) -> KeptKeys<'_, P> {
        KeptKeys { inner, keeps: self.keeps, dropped: &self.dropped }
    }

    /// Takes note of an error; whether reading can go on.
    fn go_on_after(&mut self, error: &figment::Error) -> bool {
        let complaint = complaint::of(error, |path| self.figment().find_value(&path.join(".")).is_ok());
        if let Some(stand_in) = self.filled.keys().rev().find(|path| complaint.path.starts_with(path)).cloned() {
            // A table: the keys that it needs are named instead.
            if complaint.is_missing && complaint.path.len() > stand_in.len() {
                self.missing.remove(&stand_in);
                return self.fill(complaint);
            }
            return self.filled.get_mut(&stand_in).is_some_and(|number| {
                *number += 1;
                *number < STAND_INS.len()
            });
        }
        if complaint.is_missing {
            return self.fill(complaint);
        }
        if let Some(number) = self.setting_of(&complaint.path)
            && complaint.is_of_value
            && let Some(form) = self.forms.get_mut(number)
        {
            self.first.entry(number).or_insert_with(|| complaint.clone());
            if let Some(next) = form.next() {
                *form = next;
                return true;
            }
            let first = self.first.remove(&number).unwrap_or(complaint);
            return self.drop_key(first);
        }
        self.drop_key(complaint)
    }

    /// The setting that the value of a key was written in.
    fn setting_of(&self, path: &[String]) -> Option<usize> {
        let all: Vec<&Setting> = self.settings().collect();
        all.iter().rposition(|setting| path.starts_with(&setting.path))
    }

    fn fill(&mut self, complaint: Complaint) -> bool {
        let known = self.dropped.iter().any(|dropped| dropped.starts_with(&complaint.path));
        if !known {
            let finding = self.layers.finding(&complaint);
            self.missing.insert(complaint.path.clone(), finding);
        }
        self.filled.insert(complaint.path, 0).is_none()
    }

    fn drop_key(&mut self, mut complaint: Complaint) -> bool {
        let empty = self.setting_of(&complaint.path).and_then(|number| self.settings().nth(number));
        if complaint.is_of_value && empty.is_some_and(|setting| setting.raw.is_empty()) {
            complaint.what = "empty".into();
            complaint.cure = "set it to a value, or unset the variable".into();
        }
        self.findings.push(self.layers.finding(&complaint));
        // An item of a list goes with its list.
        while complaint.path.len() > 1 && complaint.path.last().is_some_and(|part| part.parse::<usize>().is_ok()) {
            complaint.path.pop();
        }
        let is_new = !complaint.path.is_empty() && self.dropped.insert(complaint.path);
        is_new && self.findings.len() < MOST_FINDINGS
    }

    fn found(self) -> Vec<Finding> {
        self.findings.into_iter().chain(self.missing.into_values()).collect()
    }
}

/// What stands in for a key that is missing, until it is of a kind that the key takes.
const STAND_INS: [fn() -> Value; 5] = [
    || Value::from(Dict::new()),
    || Value::from("x"),
    || Value::from(1),
    || Value::from(false),
    || Value::from(Vec::<Value>::new()),
];

/// Puts a value into nested tables; what stood in the way is replaced.
fn insert(dict: &mut Dict, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        dict.insert(first.clone(), value);
        return;
    }
    let inner = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    if !matches!(inner, Value::Dict(..)) {
        *inner = Value::from(Dict::new());
    }
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

fn remove(dict: &mut Dict, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        dict.remove(first);
    } else if let Some(Value::Dict(_, inner)) = dict.get_mut(first) {
        // A librdkafka property may be one key with dots in it.
        inner.remove(&rest.join("."));
        remove(inner, rest);
    }
}

/// Values that come from no file.
struct Fixed {
    name: &'static str,
    dict: Dict,
}

impl Provider for Fixed {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// A provider with the keys of one part: one file may hold all kinds.
struct KeptKeys<'a, P> {
    inner: P,
    keeps: &'a dyn Fn(&str) -> bool,
    dropped: &'a BTreeSet<KeyPath>,
}

impl<P: Provider> Provider for KeptKeys<'_, P> {
    fn metadata(&self) -> Metadata {
        self.inner.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.inner.data()?;
        for dict in data.values_mut() {
            dict.retain(|key, _| (self.keeps)(key));
            self.dropped.iter().for_each(|path| remove(dict, path));
        }
        Ok(data)
    }
}
