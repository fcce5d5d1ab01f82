//! What was expected beside what was found, field by field.

use jiff::{Timestamp, civil};
use serde_json::{Map, Value};

use super::fixture::ExpectConfig;
use crate::command::trial::{Outcome, RowOutcome, Written};
use crate::sink::DatabaseKind;

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key of the test that says what is expected, such as `expect.output.city_name`.
    pub key: String,
    /// What is expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// What nothing is called.
const NOTHING: &str = "(none)";

impl Difference {
    fn new(key: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { key: key.into(), expected: expected.into(), found: found.into() }
    }
}

/// What is not as expected of a relay's outcome.
pub fn outcome(expect: &ExpectConfig, found: &Outcome) -> Vec<Difference> {
    if expect.filtered && !matches!(found, Outcome::Filtered) {
        return vec![Difference::new("expect.filtered", "filtered", in_words(found))];
    }
    if let Some(reason) = &expect.dead {
        return match found {
            Outcome::Dead(reject) => dead(expect, reason, reject.reason.code(), reject.field),
            _ => vec![Difference::new("expect.dead", format!("a dead letter: {reason}"), in_words(found))],
        };
    }
    let about_output = [
        ("expect.output", expect.output.is_some()),
        ("expect.topic", expect.topic.is_some()),
        ("expect.key", expect.key.is_some()),
    ];
    let Some((key, _)) = about_output.into_iter().find(|(_, is_set)| *is_set) else { return Vec::new() };
    match found {
        Outcome::Written(written) => output(expect, written),
        _ => vec![Difference::new(key, "an output record", in_words(found))],
    }
}

fn output(expect: &ExpectConfig, written: &Written) -> Vec<Difference> {
    let mut differences = Vec::new();
    if let Some(topic) = expect.topic.as_ref().filter(|topic| **topic != written.topic) {
        differences.push(Difference::new("expect.topic", topic, &written.topic));
    }
    let key = written.key.as_deref().map(String::from_utf8_lossy);
    if let Some(expected) = expect.key.as_ref().filter(|expected| key.as_deref() != Some(expected.as_str())) {
        differences.push(Difference::new("expect.key", expected, key.as_deref().unwrap_or(NOTHING)));
    }
    if let Some(Value::Object(expected)) = &expect.output {
        fields("expect.output", expected, &written.fields, &mut differences);
    }
    differences
}

/// What is not as expected of the rows that sinks make.
pub fn rows(expect: &ExpectConfig, found: &[(DatabaseKind, RowOutcome)]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (kind, found) in found {
        let own = match kind {
            DatabaseKind::Postgres => ("expect.postgres", &expect.postgres),
            DatabaseKind::ClickHouse => ("expect.clickhouse", &expect.clickhouse),
        };
        let (key, row) = if own.1.is_some() { own } else { ("expect.row", &expect.row) };
        let before = differences.len();
        match (row, &expect.deleted, &expect.dead, found) {
            (_, _, Some(reason), RowOutcome::Dead(refusal)) => {
                differences.extend(dead(expect, reason, refusal.why.code(), refusal.field()));
            }
            (_, _, Some(reason), _) => {
                differences.push(Difference::new(
                    "expect.dead",
                    format!("a dead letter: {reason}"),
                    row_in_words(found),
                ));
            }
            (Some(Value::Object(expected)), None, None, RowOutcome::Row(columns)) => {
                fields(key, expected, columns, &mut differences);
            }
            (Some(_), None, None, _) => differences.push(Difference::new(key, "a row", row_in_words(found))),
            (_, Some(Value::Object(expected)), None, RowOutcome::Deleted(columns)) => {
                fields("expect.deleted", expected, columns, &mut differences);
            }
            (_, Some(_), None, _) => {
                differences.push(Difference::new("expect.deleted", "a row that is deleted", row_in_words(found)));
            }
            // Nothing is expected of this sink.
            (None, None, None, _) => {}
        }
        for difference in differences.iter_mut().skip(before) {
            difference.found = format!("{} ({})", difference.found, kind.name());
        }
    }
    differences
}

fn dead(expect: &ExpectConfig, reason: &str, code: &str, field: &str) -> Vec<Difference> {
    let mut differences = Vec::new();
    if reason != code {
        differences.push(Difference::new("expect.dead", reason, code));
    }
    if let Some(expected) = expect.field.as_ref().filter(|expected| *expected != field) {
        differences.push(Difference::new("expect.field", expected, if field.is_empty() { NOTHING } else { field }));
    }
    differences
}

/// Field by field, in the order in which they are written; then those that are expected and not there.
fn fields(key: &str, expected: &Map<String, Value>, found: &[(String, Value)], differences: &mut Vec<Difference>) {
    for (name, value) in found {
        compare(&format!("{key}.{name}"), expected.get(name), Some(value), differences);
    }
    for (name, value) in expected.iter().filter(|(name, _)| !found.iter().any(|(there, _)| there == *name)) {
        compare(&format!("{key}.{name}"), Some(value), None, differences);
    }
}

fn compare(key: &str, expected: Option<&Value>, found: Option<&Value>, differences: &mut Vec<Difference>) {
    match (expected, found) {
        (Some(Value::Object(expected)), Some(Value::Object(found))) => {
            let found: Vec<(String, Value)> = found.clone().into_iter().collect();
            fields(key, expected, &found, differences);
        }
        _ if is_same(expected.unwrap_or(&Value::Null), found.unwrap_or(&Value::Null))
            && !is_unknown(expected, found) => {}
        _ => differences.push(Difference::new(key, shown(expected), shown(found))),
    }
}

/// Something is expected of a field that there is not: not even null.
fn is_unknown(expected: Option<&Value>, found: Option<&Value>) -> bool {
    expected.is_some() && found.is_none()
}

fn is_same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::String(one), Value::String(other)) => one == other || is_same_time(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let mut names = one.keys().chain(other.keys());
            let of = |object: &Map<String, Value>, name: &String| object.get(name).cloned().unwrap_or_default();
            names.all(|name| is_same(&of(one, name), &of(other, name)))
        }
        _ => expected == found,
    }
}

/// One moment may be written in several ways.
fn is_same_time(one: &str, other: &str) -> bool {
    let moments = one.parse::<Timestamp>().ok().zip(other.parse::<Timestamp>().ok());
    let locals = || one.parse::<civil::DateTime>().ok().zip(other.parse::<civil::DateTime>().ok());
    let times = || one.parse::<civil::Time>().ok().zip(other.parse::<civil::Time>().ok());
    match moments {
        Some((one, other)) => one == other,
        None => match (one.contains(['-', 'T']), one.contains(':')) {
            (true, true) => locals().is_some_and(|(one, other)| one == other),
            (false, true) => times().is_some_and(|(one, other)| one == other),
            _ => false,
        },
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| NOTHING.into(), Value::to_string)
}

fn in_words(found: &Outcome) -> String {
    match found {
        Outcome::Written(written) => format!("an output record in {}", written.topic),
        Outcome::Filtered => "filtered".into(),
        Outcome::Dead(reject) => of_letter(reject.reason.code(), reject.field, &reject.to_string()),
    }
}

fn row_in_words(found: &RowOutcome) -> String {
    match found {
        RowOutcome::Row(_) => "a row".into(),
        RowOutcome::Deleted(_) => "a row that is deleted".into(),
        RowOutcome::Dead(refusal) => of_letter(refusal.why.code(), refusal.field(), &refusal.to_string()),
    }
}

fn of_letter(code: &str, field: &str, message: &str) -> String {
    let field = if field.is_empty() { String::new() } else { format!(", field {field}") };
    format!("a dead letter: {code}{field} ({message})")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(expected: Value, found: Value) -> Vec<String> {
        let mut differences = Vec::new();
        compare("x", Some(&expected), Some(&found), &mut differences);
        differences.into_iter().map(|difference| difference.key).collect()
    }

    #[test]
    fn a_difference_is_told_by_its_field() {
        let none: [&str; 0] = [];
        assert_eq!(differences(json!({"a": 1, "b": null}), json!({"a": 1.0, "c": null})), ["x.b"]);
        assert_eq!(differences(json!({"a": 1}), json!({"a": 1.0, "c": null})), none);
        assert_eq!(
            differences(json!({"a": {"b": 1, "c": [1, 2]}}), json!({"a": {"b": 2, "c": [1]}})),
            ["x.a.b", "x.a.c"]
        );
        assert_eq!(differences(json!({}), json!({"new": 1})), ["x.new"]);
        assert_eq!(differences(json!("2026-06-01T12:00:00Z"), json!("2026-06-01T12:00:00.000000Z")), none);
        assert_eq!(differences(json!("2026-06-01T14:00:00+02:00"), json!("2026-06-01T12:00:00.000000Z")), none);
        assert_eq!(differences(json!("2026-06-01T12:00:00Z"), json!("2026-06-01T12:00:00.000001Z")), ["x"]);
        assert_eq!(differences(json!("2026-06-01"), json!("2026-06-02")), ["x"]);
        assert_eq!(differences(json!("12:00:00"), json!("12:00:00.000")), none);
        assert_eq!(differences(json!("1"), json!(1)), ["x"]);
    }
}
