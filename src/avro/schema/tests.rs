#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn record(fields: &str) -> String {
    format!("{{\n\"type\": \"record\", \"name\": \"r\", \"fields\": [\n{fields}\n]}}")
}

/// What a user reads about a record with these fields; empty where it is fine.
fn read(fields: &str) -> String {
    let text = record(fields);
    let findings = match parse(Path::new("schemas/r.avsc"), text) {
        Ok(file) => file.warnings,
        Err(findings) => findings,
    };
    findings.iter().map(|f| format!("{f}\n")).collect()
}

#[track_caller]
fn says(fields: &str, expected: &str) {
    let found = read(fields);
    assert!(found.contains(expected), "expected:\n{expected}\nfound:\n{found}");
}

#[test]
fn our_own_schema_is_clean_and_compacts_to_the_same_schema() {
    let file = load(Path::new("schemas/button_presses.avsc")).unwrap();
    assert_eq!(file.warnings, []);
    assert_eq!(Schema::parse_str(&file.compact).unwrap(), file.schema);
    assert!(file.compact.starts_with(r#"{"type":"record","name":"button_presses","doc":"A press of a button on"#));
    assert!(!file.compact.contains('\n'));
}

#[test]
fn logical_type_beside_the_type() {
    says(
        "{\"name\": \"a\", \"type\": \"int\"},\n{\"name\": \"session_id\", \"type\": \"string\", \"logicalType\": \"uuid\"}",
        "error: schemas/r.avsc:4: session_id: logicalType `uuid` stands beside `type`, where readers ignore it and see a \
         plain string\n    put it inside: \"type\": {\"type\": \"string\", \"logicalType\": \"uuid\"}",
    );
    says(
        r#"{"name": "at", "type": ["null", "long"], "default": null, "logicalType": "timestamp-micros"}"#,
        r#"put it inside: "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]"#,
    );
    says(
        r#"{"name": "d", "type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
    );
}

#[test]
fn defaults_that_do_not_fit() {
    says(
        r#"{"name": "cohort", "type": ["null", "int"], "default": "null"}"#,
        "error: schemas/r.avsc:3: cohort: the default is the text \"null\", but the union's first branch is null; readers \
         refuse the schema\n    write \"default\": null, without quotation marks",
    );
    says(
        r#"{"name": "cohort", "type": ["int", "null"], "default": null}"#,
        "cohort: the default is null, but the union's first branch is int; readers refuse the schema\n    put the branch \
         of the default first: \"type\": [\"null\", \"int\"]",
    );
    says(
        r#"{"name": "cohort", "type": ["null", "int"], "default": 0}"#,
        "\"type\": [\"int\", \"null\"], or make the default null",
    );
    says(r#"{"name": "n", "type": "int", "default": "0"}"#, "n: the default is text, expected int");
    says(r#"{"name": "n", "type": "int", "default": 2147483648}"#, "the default is a whole number, expected int");
    says(r#"{"name": "n", "type": "long", "default": 1.5}"#, "the default is a number with a fraction, expected long");
    says(r#"{"name": "b", "type": "boolean", "default": null}"#, "the default is null, expected boolean");
    says(
        r#"{"name": "l", "type": {"type": "array", "items": "int"}, "default": ["x"]}"#,
        "the default is a list, expected array",
    );
    says(
        r#"{"name": "o", "type": {"type": "record", "name": "p", "fields": [{"name": "x", "type": "int"}]}, "default": {}}"#,
        "the default is an object, expected p",
    );
}

#[test]
fn logical_types_on_the_wrong_base() {
    says(
        r#"{"name": "at", "type": {"type": "int", "logicalType": "timestamp-micros"}}"#,
        "error: schemas/r.avsc:3: at: logicalType `timestamp-micros` does not stand on int: readers ignore it\n    change \
         the type to long, or remove the logicalType",
    );
    says(r#"{"name": "id", "type": {"type": "long", "logicalType": "uuid"}}"#, "`uuid` does not stand on long");
    says(
        r#"{"name": "at", "type": "int", "logicalType": "timestamp-micros"}"#,
        "`timestamp-micros` does not stand on int",
    );
    says(
        r#"{"name": "x", "type": {"type": "long", "logicalType": "epoch"}}"#,
        "warning: schemas/r.avsc:3: x: unknown logicalType",
    );
    says(
        r#"{"name": "id", "type": {"type": "fixed", "name": "f", "size": 12, "logicalType": "uuid"}}"#,
        "needs a fixed of 16 bytes",
    );
    says(r#"{"name": "d", "type": {"type": "bytes", "logicalType": "decimal"}}"#, "needs a precision above 0");
}

#[test]
fn unknown_types_and_names() {
    says(
        r#"{"name": "cohort", "type": "integer"}"#,
        "error: schemas/r.avsc:3: cohort: unknown type `integer`\n    the nearest Avro type is `int`",
    );
    says(r#"{"name": "a", "type": "sting"}"#, "the nearest Avro type is `string`");
    says(r#"{"name": "a", "type": "String"}"#, "the nearest Avro type is `string`");
    says(r#"{"name": "a", "type": "uuid"}"#, r#"{"type": "string", "logicalType": "uuid"}"#);
    says(r#"{"name": "a", "type": "xyzzy"}"#, "use one of null, boolean, int");
    says(r#"{"name": "a", "type": "array", "items": "int"}"#, "a: `array` needs an object of its own");
    says(
        "{\"name\": \"a\", \"type\": \"int\"},\n{\"name\": \"a\", \"type\": \"int\"}",
        "r.avsc:4: a: the record has this field twice",
    );
    says(r#"{"name": "a-b", "type": "int"}"#, "a-b: the field's name is no Avro name");
    says(r#"{"name": "a"}"#, "a: a field without `type`");
    says(r#"{"name": "a", "type": ["int", "int"]}"#, "the union has `int` twice");
    says(r#"{"name": "a", "type": ["null", ["int"]]}"#, "a union directly inside a union");
    says(r#"{"name": "a", "type": {"type": "enum", "name": "e", "symbols": ["A", "A"]}}"#, "the symbol \"A\" twice");
}

#[test]
fn nested_types_are_walked() {
    let inner =
        r#"{"type": "record", "name": "p", "fields": [{"name": "id", "type": "string", "logicalType": "uuid"}]}"#;
    says(&format!(r#"{{"name": "o", "type": {inner}}}"#), "o.id: logicalType `uuid` stands beside");
    says(&format!(r#"{{"name": "o", "type": {{"type": "array", "items": {inner}}}}}"#), "o.id: logicalType");
    says(&format!(r#"{{"name": "o", "type": {{"type": "map", "values": ["null", {inner}]}}}}"#), "o.id: logicalType");
}

#[test]
fn good_schemas_are_left_alone() {
    for good in [
        r#"{"name": "next", "type": ["null", "r"], "default": null}"#,
        r#"{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}"#,
        r#"{"name": "u", "type": ["null", {"type": "fixed", "name": "f", "size": 16, "logicalType": "uuid"}], "default": null}"#,
        r#"{"name": "m", "type": {"type": "map", "values": "long"}, "default": {"a": 1}}"#,
        r#"{"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A"]}, "default": "A"}, {"name": "e2", "type": "e"}"#,
        r#"{"name": "o", "type": {"type": "record", "name": "p", "fields": [{"name": "x", "type": "int", "default": 1}]}, "default": {}}"#,
        r#"{"name": "f", "type": "float", "default": 1}, {"name": "b", "type": "bytes", "default": "\u00ff"}"#,
    ] {
        assert_eq!(read(good), "", "{good}");
    }
}

#[test]
fn files_that_are_no_schema() {
    let message = load(Path::new("schemas/none.avsc")).unwrap_err().remove(0).to_string();
    assert!(message.starts_with("error: schemas/none.avsc: cannot be read: "), "{message}");
    let message = parse(Path::new("a.avsc"), "{\n\"type\": }".into()).unwrap_err().remove(0).to_string();
    assert!(message.starts_with("error: a.avsc:2: not valid JSON at column 9: expected value\n"), "{message}");
    let deep = format!("{}{}", "{\"type\":\n".repeat(65), "}".repeat(65));
    let message = parse(Path::new("a.avsc"), deep).unwrap_err().remove(0).to_string();
    assert!(message.starts_with("error: a.avsc:65: nested deeper than 64 levels"), "{message}");
    // Brackets inside text do not count.
    let flat = record(&format!(r#"{{"name": "a", "type": "int", "doc": "{}\" {{"}}"#, "[".repeat(100)));
    assert!(parse(Path::new("a.avsc"), flat).is_ok());
}

#[test]
fn differences_name_fields_of_both_versions() {
    let a = record(
        r#"{"name": "cohort", "type": ["null", "int"], "default": null}, {"name": "x", "type": "int"},
           {"name": "same", "type": {"logicalType": "uuid", "type": "string"}, "doc": "one"}"#,
    );
    let b = record(
        r#"{"name": "y", "type": "long"}, {"name": "cohort", "type": "int"},
           {"name": "same", "type": {"type": "string", "logicalType": "uuid"}, "doc": "two"}"#,
    );
    assert_eq!(
        diff("version 3", &a, &b),
        [
            "field `cohort`: version 3 has [null, int], ours has int",
            "field `cohort`: version 3 has default null, ours has no default",
            "field `x`: only in version 3",
            "field `y`: only in ours, without a default",
        ]
    );
    assert_eq!(diff("version 3", &a, &a), [] as [String; 0]);
}

proptest::proptest! {
    /// Whatever stands in the file, the answer is findings, never a panic, and compacting keeps the JSON.
    #[test]
    fn any_text_is_answered(text in "[\\[\\]{}:,\"\\\\a-z 0-9\n]{0,200}") {
        let _ = parse(Path::new("a.avsc"), text.clone());
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) {
            let compact: serde_json::Value = serde_json::from_str(&text::compact(&text)).unwrap();
            proptest::prop_assert_eq!(compact, json);
        }
    }
}
