//! Walks the raw JSON of a schema and says in words what readers would stumble over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::default::{self, Names};
use super::{is_name, logical, text};
use crate::config::finding::Finding;

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
const COMPLEX: [&str; 6] = ["record", "error", "enum", "array", "map", "fixed"];

/// Everything that is wrong or odd in a schema's JSON. `place` is the file, `source` its text.
pub fn lint(place: &str, source: &str, json: &Value) -> Vec<Finding> {
    let mut names = Names::new();
    collect_names(json, "", &mut names);
    let mut lint = Lint { place, source, names, seen: BTreeMap::new(), line: None, findings: Vec::new() };
    lint.schema(json, "", "");
    lint.findings
}

struct Lint<'a> {
    place: &'a str,
    source: &'a str,
    names: Names<'a>,
    /// How often a name was met: the nth `"name": "x"` in the file is the nth one met.
    seen: BTreeMap<String, usize>,
    /// Line of the field or type that is being looked at.
    line: Option<usize>,
    findings: Vec<Finding>,
}

impl Lint<'_> {
    fn error(&mut self, subject: &str, what: String, cure: String) {
        self.findings.push(Finding::error(self.here(), subject, what, cure));
    }

    fn warning(&mut self, subject: &str, what: String, cure: String) {
        self.findings.push(Finding::warning(self.here(), subject, what, cure));
    }

    fn here(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.place),
            None => self.place.to_string(),
        }
    }

    fn go_to(&mut self, name: &str) {
        let nth = self.seen.entry(name.to_string()).or_default();
        self.line = text::line_of_name(self.source, name, *nth).or(self.line);
        *nth += 1;
    }

    /// One type, wherever it stands. `at` is the path of the field it belongs to.
    fn schema(&mut self, schema: &Value, at: &str, namespace: &str) {
        match schema {
            Value::String(name) => self.name_of_type(name, at, namespace),
            Value::Array(branches) => self.union(branches, at, namespace),
            Value::Object(object) => self.object(object, at, namespace),
            other => self.error(
                at,
                format!("found {} where a type should stand", default::kind(other)),
                "write a type such as \"string\", [\"null\", \"int\"] or {\"type\": \"array\", \"items\": \"long\"}"
                    .into(),
            ),
        }
    }

    fn name_of_type(&mut self, name: &str, at: &str, namespace: &str) {
        let defined = self.names.contains_key(name) || self.names.contains_key(&format!("{namespace}.{name}"));
        if PRIMITIVES.contains(&name) || defined {
            return;
        }
        if COMPLEX.contains(&name) {
            let example = match name {
                "array" => "{\"type\": \"array\", \"items\": \"string\"}",
                "map" => "{\"type\": \"map\", \"values\": \"string\"}",
                "enum" => "{\"type\": \"enum\", \"name\": \"…\", \"symbols\": […]}",
                "fixed" => "{\"type\": \"fixed\", \"name\": \"…\", \"size\": 16}",
                _ => "{\"type\": \"record\", \"name\": \"…\", \"fields\": […]}",
            };
            return self.error(
                at,
                format!("`{name}` needs an object of its own"),
                format!("write \"type\": {example}"),
            );
        }
        let cure = match nearest(name) {
            Some(meant) => format!("the nearest Avro type is {meant}"),
            None => format!("use one of {}, or define the named type before", PRIMITIVES.join(", ")),
        };
        self.error(at, format!("unknown type `{name}`"), cure);
    }

    fn union(&mut self, branches: &[Value], at: &str, namespace: &str) {
        if branches.is_empty() {
            self.error(at, "an empty union".into(), "name its types, such as [\"null\", \"int\"]".into());
        }
        let mut kinds = BTreeSet::new();
        for branch in branches {
            if branch.is_array() {
                self.error(at, "a union directly inside a union".into(), "write all branches into one union".into());
            } else if !kinds.insert(kind_of_branch(branch)) {
                let what = format!("the union has `{}` twice", kind_of_branch(branch));
                self.error(at, what, "keep one of them; only named types may differ within a kind".into());
            }
            self.schema(branch, at, namespace);
        }
    }

    fn object(&mut self, object: &Map<String, Value>, at: &str, namespace: &str) {
        let Some(kind) = object.get("type") else {
            return self.error(at, "a type without `type`".into(), "add \"type\": …".into());
        };
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        match kind.as_str() {
            Some("record" | "error") => self.record(object, at, namespace),
            Some("enum") => self.enumeration(object, at),
            Some("fixed") => {
                self.type_name(object, at);
                if object.get("size").and_then(Value::as_u64).is_none() {
                    self.error(at, "`fixed` without a size".into(), "add \"size\": the number of bytes".into());
                }
            }
            Some("array") => self.part(object, "items", at, namespace),
            Some("map") => self.part(object, "values", at, namespace),
            _ => self.schema(kind, at, namespace),
        }
        self.logical_type(object, at);
    }

    fn part(&mut self, object: &Map<String, Value>, key: &str, at: &str, namespace: &str) {
        match object.get(key) {
            Some(inner) => self.schema(inner, at, namespace),
            None => self.error(at, format!("found no `{key}`"), format!("add \"{key}\": the type of what is inside")),
        }
    }

    fn record(&mut self, record: &Map<String, Value>, at: &str, namespace: &str) {
        self.type_name(record, at);
        let Some(fields) = record.get("fields").and_then(Value::as_array) else {
            return self.error(at, "a record without a list of `fields`".into(), "add \"fields\": […]".into());
        };
        let mut names = BTreeSet::new();
        for field in fields {
            let Some(name) = field.get("name").and_then(Value::as_str) else {
                self.error(at, "a field without `name`".into(), "add \"name\": …".into());
                continue;
            };
            let path = if at.is_empty() { name.to_string() } else { format!("{at}.{name}") };
            self.go_to(name);
            if !is_name(name) {
                let cure = "use A-Z a-z 0-9 _, not beginning with a digit";
                self.error(&path, "the field's name is no Avro name".into(), cure.into());
            }
            if !names.insert(name) {
                self.error(&path, "the record has this field twice".into(), "remove or rename one".into());
            }
            if let Value::Object(field) = field {
                self.field(field, &path, namespace);
            }
        }
    }

    fn field(&mut self, field: &Map<String, Value>, path: &str, namespace: &str) {
        let Some(written) = field.get("type") else {
            return self.error(path, "a field without `type`".into(), "add \"type\": …".into());
        };
        let mut meant = written.clone();
        if let Some(name) = field.get("logicalType") {
            meant = logical::moved_inside(field);
            let name = name.as_str().unwrap_or_default();
            self.error(
                path,
                format!(
                    "logicalType `{name}` stands beside `type`, where readers ignore it and see {}",
                    plain(written)
                ),
                format!("put it inside: \"type\": {}", logical::shown(&meant)),
            );
        }
        let line = self.line;
        self.schema(&meant, path, namespace);
        // A nested record moved on; the default belongs to this field.
        self.line = line;
        if let Some(value) = field.get("default")
            && !default::fits(written, value, &self.names)
        {
            let (what, cure) = self.misfit(written, value);
            self.error(path, what, cure);
        }
    }

    fn misfit(&self, schema: &Value, value: &Value) -> (String, String) {
        let found = default::kind(value);
        let Value::Array(branches) = schema else {
            let expected = kind_of_branch(schema);
            return (format!("the default is {found}, expected {expected}"), "fix the default or the type".into());
        };
        let first = branches.first().map(kind_of_branch).unwrap_or_default();
        let what =
            format!("the default is {found}, but the union's first branch is {first}; readers refuse the schema");
        let cure = if first == "null" && *value == "null" {
            "write \"default\": null, without quotation marks".to_string()
        } else if let Some(i) = branches.iter().position(|b| default::fits(b, value, &self.names)) {
            let mut order = branches.clone();
            let fitting = order.remove(i);
            order.insert(0, fitting);
            let keep = if first == "null" { ", or make the default null" } else { "" };
            format!("put the branch of the default first: \"type\": {}{keep}", logical::shown(&Value::Array(order)))
        } else {
            format!("give a default that is {first}")
        };
        (what, cure)
    }

    fn enumeration(&mut self, object: &Map<String, Value>, at: &str) {
        self.type_name(object, at);
        let symbols = object.get("symbols").and_then(Value::as_array);
        let Some(symbols) = symbols else {
            return self.error(at, "an enum without a list of `symbols`".into(), "add \"symbols\": […]".into());
        };
        let mut seen = BTreeSet::new();
        for symbol in symbols {
            let name = symbol.as_str().unwrap_or_default();
            if !is_name(name) {
                let what = format!("the enum's symbol {symbol} is no Avro name");
                self.error(at, what, "use A-Z a-z 0-9 _, not beginning with a digit".into());
            } else if !seen.insert(name) {
                self.error(at, format!("the enum has the symbol {symbol} twice"), "remove one".into());
            }
        }
        if object.get("default").is_some_and(|default| !symbols.contains(default)) {
            self.error(at, "the enum's default is not one of its symbols".into(), "name one of them".into());
        }
    }

    /// The name of a record, enum or fixed.
    fn type_name(&mut self, object: &Map<String, Value>, at: &str) {
        match object.get("name").and_then(Value::as_str) {
            None => self.error(at, "a named type without `name`".into(), "add \"name\": …".into()),
            Some(name) => {
                self.go_to(name);
                if !name.split('.').all(is_name) {
                    let what = format!("`{name}` is no Avro name");
                    self.error(at, what, "use A-Z a-z 0-9 _, not beginning with a digit".into());
                }
            }
        }
    }

    fn logical_type(&mut self, object: &Map<String, Value>, at: &str) {
        let Some(value) = object.get("logicalType") else { return };
        let base = kind_of_branch(object.get("type").unwrap_or(&Value::Null));
        let Some((name, bases)) = value.as_str().and_then(|name| Some((name, logical::bases(name)?))) else {
            let name = value.as_str().unwrap_or("(not text)");
            let what = format!("unknown logicalType `{name}`; readers see {base}");
            return self.warning(at, what, "remove it, or use one of the Avro specification".into());
        };
        if !bases.contains(&base.as_str()) {
            let (what, right) =
                (format!("logicalType `{name}` does not stand on {base}: readers ignore it"), bases.join(" or "));
            return self.error(at, what, format!("change the type to {right}, or remove the logicalType"));
        }
        let size = object.get("size").and_then(Value::as_u64);
        if base == "fixed"
            && let Some(expected) = logical::fixed_size(name)
            && size.is_some_and(|size| size != expected)
        {
            let what = format!("logicalType `{name}` needs a fixed of {expected} bytes: readers ignore it");
            self.error(at, what, format!("set \"size\": {expected}"));
        }
        if name == "decimal" {
            self.decimal(object, at);
        }
    }

    fn decimal(&mut self, object: &Map<String, Value>, at: &str) {
        let number = |key: &str| object.get(key).and_then(Value::as_u64);
        let precision = number("precision").unwrap_or(0);
        let scale_fits = object.get("scale").is_none() || number("scale").is_some_and(|scale| scale <= precision);
        if precision == 0 || !scale_fits {
            let what = "logicalType `decimal` needs a precision above 0 and a scale from 0 to it: readers ignore it";
            self.error(at, what.into(), "add \"precision\": digits in all, \"scale\": digits after the point".into());
        }
    }
}

/// Types by the names under which others may refer to them.
fn collect_names<'a>(schema: &'a Value, namespace: &str, names: &mut Names<'a>) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| collect_names(branch, namespace, names)),
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str);
            let namespace = text("namespace").unwrap_or(namespace);
            if let (Some("record" | "error" | "enum" | "fixed"), Some(name)) = (text("type"), text("name")) {
                names.insert(name.to_string(), schema);
                names.insert(format!("{namespace}.{name}"), schema);
            }
            for key in ["type", "items", "values"] {
                if let Some(inner) = object.get(key) {
                    collect_names(inner, namespace, names);
                }
            }
            for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                if let Some(inner) = field.get("type") {
                    collect_names(inner, namespace, names);
                }
            }
        }
        _ => {}
    }
}

/// What a branch counts as in a union: the name of a named type, else the kind.
fn kind_of_branch(branch: &Value) -> String {
    let text = |key: &str| branch.get(key).and_then(Value::as_str);
    match (branch, text("type"), text("name")) {
        (Value::String(name), ..) => name.clone(),
        (Value::Array(_), ..) => "a union".into(),
        (_, Some("record" | "enum" | "error"), Some(name)) => name.into(),
        (_, Some("fixed"), Some(name)) if branch.get("logicalType").is_none() => name.into(),
        (_, Some(kind), _) => kind.into(),
        (Value::Object(object), ..) => object.get("type").map(kind_of_branch).unwrap_or_default(),
        _ => String::new(),
    }
}

/// What readers take a field for whose logical type they ignore.
fn plain(schema: &Value) -> String {
    match schema {
        Value::String(name) => format!("a plain {name}"),
        _ => "the plain type".into(),
    }
}

/// The Avro type that an unknown name most likely means.
fn nearest(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let known = match lower.as_str() {
        "integer" | "int32" | "i32" | "short" | "smallint" | "byte" => "int",
        "bigint" | "int64" | "i64" | "number" => "long",
        "text" | "varchar" | "char" => "string",
        "bool" => "boolean",
        "binary" | "blob" => "bytes",
        "float32" | "real" => "float",
        "float64" => "double",
        "nil" | "none" => "null",
        "struct" | "object" => "record",
        "list" => "array",
        "uuid" => return Some("{\"type\": \"string\", \"logicalType\": \"uuid\"}".into()),
        "date" => return Some("{\"type\": \"int\", \"logicalType\": \"date\"}".into()),
        "timestamp" | "datetime" | "timestamp-micros" => {
            return Some("{\"type\": \"long\", \"logicalType\": \"timestamp-micros\"}".into());
        }
        _ => {
            let all = PRIMITIVES.iter().chain(&COMPLEX).map(|t| (distance(&lower, t), *t));
            return all.min().filter(|(d, _)| *d <= 2).map(|(_, t)| format!("`{t}`"));
        }
    };
    Some(format!("`{known}`"))
}

/// Letters to insert, remove or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((j, y), above) in b.iter().enumerate().zip(row.iter().skip(1)) {
            let diagonal = row.get(j).copied().unwrap_or(0) + usize::from(x != *y);
            let left = next.last().copied().unwrap_or(0) + 1;
            next.push(diagonal.min(left).min(above + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
