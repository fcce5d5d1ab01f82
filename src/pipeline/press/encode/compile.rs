//! From a writer schema to the plan of an [`Encoder`], or to what is wrong with the schema.

use apache_avro::{
    Schema,
    schema::{RecordField, UuidSchema},
};
use serde_json::Value;

use super::{Branches, EncodeStep, Encoder, FieldOrigin, FragmentStep, HEADER_BYTES};
use crate::avro::format::datum;
use crate::config::finding::Finding;
use crate::pipeline::press::event::Actions;
use crate::place::Place;

impl Encoder {
    /// Compiles the plan for a writer schema that the registry knows as `schema_id`.
    ///
    /// The schema is a record. Its fields `session_id` (string), `timestamp` (long) and `action` (string or enum) must be
    /// there; `cohort` and the place fields may be left out, and then less is written. Every other field needs a default,
    /// which is what is written for it. `place_of_schema` says in the findings where the schema stands.
    ///
    /// # Errors
    /// Everything that is wrong with the schema, each finding naming the field, its type, the types expected and the cure.
    pub fn compile(
        schema: &Schema,
        schema_id: u32,
        actions: &Actions,
        place_of_schema: &str,
    ) -> Result<Encoder, Vec<Finding>> {
        compile(schema, schema_id, actions, place_of_schema)
    }
}

/// Fields without which an event makes no sense.
const REQUIRED: [&str; 3] = ["session_id", "timestamp", "action"];

fn compile(schema: &Schema, schema_id: u32, actions: &Actions, place_of_schema: &str) -> Result<Encoder, Vec<Finding>> {
    let mut compiler = Compiler {
        place_of_schema,
        allowed: actions,
        steps: Vec::new(),
        fragment: Vec::new(),
        fragment_closed: false,
        actions: Vec::new(),
        origins: Vec::new(),
        findings: Vec::new(),
    };
    let Schema::Record(record) = schema else {
        compiler.refuse(
            "",
            format!("the schema is of type {}, expected a record", name_of(schema)),
            "give a record schema",
        );
        return Err(compiler.findings);
    };
    for field in &record.fields {
        compiler.add(field);
    }
    for required in REQUIRED {
        if !record.fields.iter().any(|field| field.name == required) {
            compiler.refuse(required, "the schema has no such field".to_owned(), "add it: every event has it");
        }
    }
    compiler.finish(schema_id)
}

struct Compiler<'a> {
    place_of_schema: &'a str,
    allowed: &'a Actions,
    steps: Vec<EncodeStep>,
    fragment: Vec<FragmentStep>,
    /// An event field stands behind the place fields: no more of them may follow.
    fragment_closed: bool,
    actions: Vec<Box<[u8]>>,
    origins: Vec<(String, FieldOrigin)>,
    findings: Vec<Finding>,
}

impl Compiler<'_> {
    fn refuse(&mut self, field: &str, what: String, cure: &str) {
        self.findings.push(Finding::error(self.place_of_schema, field, what, cure));
    }

    /// A field of ours whose type does not fit.
    fn refuse_type(&mut self, field: &RecordField, expected: &str) {
        let what = format!("the field is of type {}, expected {expected}", name_of(&field.schema));
        self.refuse(&field.name, what, &format!("declare it as {expected}"));
    }

    fn add(&mut self, field: &RecordField) {
        match field.name.as_str() {
            "session_id" => self.add_session_id(field),
            "timestamp" => self.add_timestamp(field),
            "cohort" => self.add_cohort(field),
            "action" => self.add_action(field),
            "country_name" => self.add_place_text(field, |place| &place.country_name),
            "country_code" => self.add_place_text(field, |place| &place.country_code),
            "subdivision_name" => self.add_place_text(field, |place| &place.subdivision_name),
            "subdivision_code" => self.add_place_text(field, |place| &place.subdivision_code),
            "city_name" => self.add_place_text(field, |place| &place.city_name),
            "latitude" => self.add_degrees(field, |place| place.latitude),
            "longitude" => self.add_degrees(field, |place| place.longitude),
            "accuracy_km" => self.add_accuracy(field),
            "time_zone" => self.add_time_zone(field),
            _ => self.add_constant(field),
        }
    }

    fn add_step(&mut self, field: &RecordField, step: EncodeStep) {
        self.origins.push((field.name.clone(), step.origin()));
        self.fragment_closed = !self.fragment.is_empty();
        self.steps.push(step);
    }

    fn add_session_id(&mut self, field: &RecordField) {
        match field.schema {
            Schema::String | Schema::Uuid(UuidSchema::String) => self.add_step(field, EncodeStep::SessionId),
            _ => self.refuse_type(field, r#"{"type":"string","logicalType":"uuid"} or "string""#),
        }
    }

    fn add_timestamp(&mut self, field: &RecordField) {
        match field.schema {
            Schema::TimestampMicros | Schema::Long => self.add_step(field, EncodeStep::TimestampMicros),
            Schema::TimestampMillis => self.add_step(field, EncodeStep::TimestampMillis),
            _ => self.refuse_type(
                field,
                r#"{"type":"long","logicalType":"timestamp-micros"}, the same with timestamp-millis, or "long" (microseconds)"#,
            ),
        }
    }

    fn add_cohort(&mut self, field: &RecordField) {
        match nullable(&field.schema) {
            Some((branches, Schema::Int | Schema::Long)) => self.add_step(field, EncodeStep::Cohort(branches)),
            _ => self.refuse_type(field, r#"["null","int"] or ["null","long"] (it is null for generated data)"#),
        }
    }

    fn add_action(&mut self, field: &RecordField) {
        let allowed = self.allowed;
        match &field.schema {
            Schema::String => self.actions = allowed.names().iter().map(|name| text_bytes(name)).collect(),
            Schema::Enum(symbols) => {
                for name in allowed.names() {
                    match symbols.symbols.iter().position(|symbol| symbol == name) {
                        // An enum with more symbols than i64 has numbers cannot be read into memory.
                        Some(index) => self.actions.push(bytes(|out| datum::long(index as i64, out))),
                        None => self.refuse(
                            &field.name,
                            format!("the enum has no symbol {name:?}, which the pipeline's `actions` allow"),
                            "add the symbol to the enum, or take the action off the pipeline's list",
                        ),
                    }
                }
            }
            _ => return self.refuse_type(field, r#""string" or an enum with every action of the pipeline"#),
        }
        self.add_step(field, EncodeStep::Action);
    }

    fn add_place(&mut self, field: &RecordField, step: FragmentStep) {
        if self.fragment_closed {
            return self.refuse(
                &field.name,
                "an event field stands between this place field and the ones before it".to_owned(),
                "put all place fields side by side: their bytes are written as one piece",
            );
        }
        if self.fragment.is_empty() {
            self.steps.push(EncodeStep::Fragment);
        }
        self.origins.push((field.name.clone(), step.origin()));
        self.fragment.push(step);
    }

    fn add_place_text(&mut self, field: &RecordField, text: fn(&Place) -> &str) {
        match (&field.schema, nullable(&field.schema)) {
            (Schema::String, _) => self.add_place(field, FragmentStep::Text(text, None)),
            (_, Some((branches, Schema::String))) => self.add_place(field, FragmentStep::Text(text, Some(branches))),
            _ => self.refuse_type(field, r#""string" or ["null","string"]"#),
        }
    }

    fn add_degrees(&mut self, field: &RecordField, degrees: fn(&Place) -> Option<f64>) {
        match nullable(&field.schema) {
            Some((branches, Schema::Double)) => self.add_place(field, FragmentStep::Degrees(degrees, branches)),
            _ => self.refuse_type(field, r#"["null","double"] (it is null where the place is unknown)"#),
        }
    }

    fn add_accuracy(&mut self, field: &RecordField) {
        match nullable(&field.schema) {
            Some((branches, Schema::Int | Schema::Long)) => {
                self.add_place(field, FragmentStep::Kilometres(|place| place.accuracy_km, branches));
            }
            _ => self.refuse_type(field, r#"["null","int"] or ["null","long"] (it is null where it is unknown)"#),
        }
    }

    fn add_time_zone(&mut self, field: &RecordField) {
        match nullable(&field.schema) {
            Some((branches, Schema::String)) => {
                let text: fn(&Place) -> &str = |place| place.time_zone.as_deref().unwrap_or_default();
                self.add_place(field, FragmentStep::Text(text, Some(branches)));
            }
            _ => self.refuse_type(field, r#"["null","string"] (it is null where it is unknown)"#),
        }
    }

    /// A field that is not ours: its default, within the fragment where the fragment is still open.
    fn add_constant(&mut self, field: &RecordField) {
        let Some(default) = &field.default else {
            return self.refuse(
                &field.name,
                format!(
                    "pressline has no value for this field of type {}, and it has no default",
                    name_of(&field.schema)
                ),
                "give the field a default, which is then written, or take it out of the schema",
            );
        };
        match constant(&field.schema, default) {
            Some(bytes) => {
                self.origins.push((field.name.clone(), FieldOrigin::Constant));
                if self.fragment.is_empty() || self.fragment_closed {
                    self.steps.push(EncodeStep::Constant(bytes));
                } else {
                    self.fragment.push(FragmentStep::Constant(bytes));
                }
            }
            None => self.refuse(
                &field.name,
                format!("the default of this field of type {} cannot be written", name_of(&field.schema)),
                "give it a default of null, true, false, a number or text that fits its type",
            ),
        }
    }

    fn finish(self, schema_id: u32) -> Result<Encoder, Vec<Finding>> {
        if !self.findings.is_empty() {
            return Err(self.findings);
        }
        let mut header = [0; HEADER_BYTES];
        header[1..].copy_from_slice(&schema_id.to_be_bytes());
        Ok(Encoder { header, steps: self.steps, fragment: self.fragment, actions: self.actions, origins: self.origins })
    }
}

fn bytes(put: impl FnOnce(&mut Vec<u8>)) -> Box<[u8]> {
    let mut out = Vec::new();
    put(&mut out);
    out.into_boxed_slice()
}

fn text_bytes(text: &str) -> Box<[u8]> {
    bytes(|out| datum::bytes(text.as_bytes(), out))
}

/// The branches of a union of exactly null and one more type, in either order, and that type.
fn nullable(schema: &Schema) -> Option<(Branches, &Schema)> {
    let Schema::Union(union) = schema else { return None };
    // Zigzag doubles the index.
    match union.variants() {
        [Schema::Null, value] => Some((Branches { null: 0, value: 2 }, value)),
        [value, Schema::Null] => Some((Branches { null: 2, value: 0 }, value)),
        _ => None,
    }
}

/// The bytes of a default, where it is a scalar that fits the type.
pub fn constant(schema: &Schema, default: &Value) -> Option<Box<[u8]>> {
    match schema {
        Schema::Null => default.is_null().then(Box::default),
        Schema::Boolean => default.as_bool().map(|truth| bytes(|out| out.push(u8::from(truth)))),
        Schema::Int | Schema::Date | Schema::TimeMillis => {
            let number = i32::try_from(default.as_i64()?).ok()?;
            Some(bytes(|out| datum::long(i64::from(number), out)))
        }
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => {
            let number = default.as_i64()?;
            Some(bytes(|out| datum::long(number, out)))
        }
        // Avro's float is the nearest one to the number that stands in the schema.
        Schema::Float => default.as_f64().map(|number| Box::from((number as f32).to_le_bytes())),
        Schema::Double => default.as_f64().map(|number| Box::from(number.to_le_bytes())),
        Schema::String | Schema::Uuid(UuidSchema::String) => default.as_str().map(text_bytes),
        // A default of bytes is text whose characters are the bytes.
        Schema::Bytes => {
            let text: Option<Vec<u8>> = default.as_str()?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            text.map(|text| bytes(|out| datum::bytes(&text, out)))
        }
        Schema::Enum(symbols) => {
            let index = symbols.symbols.iter().position(|symbol| Some(symbol.as_str()) == default.as_str())?;
            Some(bytes(|out| datum::long(index as i64, out)))
        }
        // The first branch that the default fits (Avro 1.12; before, it had to be the first of all).
        Schema::Union(union) => union.variants().iter().enumerate().find_map(|(index, branch)| {
            let value = constant(branch, default)?;
            Some(bytes(|out| {
                datum::long(index as i64, out);
                out.extend_from_slice(&value);
            }))
        }),
        _ => None,
    }
}

/// A type as it stands in a schema file, as far as it can be said in a few words.
fn name_of(schema: &Schema) -> String {
    match schema {
        Schema::Union(union) => format!("[{}]", union.variants().iter().map(name_of).collect::<Vec<_>>().join(", ")),
        Schema::TimestampMillis => "long (timestamp-millis)".to_owned(),
        Schema::TimestampMicros => "long (timestamp-micros)".to_owned(),
        Schema::TimestampNanos => "long (timestamp-nanos)".to_owned(),
        Schema::LocalTimestampMillis => "long (local-timestamp-millis)".to_owned(),
        Schema::LocalTimestampMicros => "long (local-timestamp-micros)".to_owned(),
        Schema::LocalTimestampNanos => "long (local-timestamp-nanos)".to_owned(),
        Schema::TimeMicros => "long (time-micros)".to_owned(),
        Schema::TimeMillis => "int (time-millis)".to_owned(),
        Schema::Date => "int (date)".to_owned(),
        Schema::Uuid(UuidSchema::String) => "string (uuid)".to_owned(),
        Schema::Uuid(UuidSchema::Bytes) => "bytes (uuid)".to_owned(),
        Schema::Uuid(UuidSchema::Fixed(_)) => "fixed (uuid)".to_owned(),
        Schema::Decimal(_) | Schema::BigDecimal => "decimal".to_owned(),
        Schema::Duration(_) => "fixed (duration)".to_owned(),
        Schema::Null => "null".to_owned(),
        Schema::Boolean => "boolean".to_owned(),
        Schema::Int => "int".to_owned(),
        Schema::Long => "long".to_owned(),
        Schema::Float => "float".to_owned(),
        Schema::Double => "double".to_owned(),
        Schema::Bytes => "bytes".to_owned(),
        Schema::String => "string".to_owned(),
        Schema::Array(_) => "array".to_owned(),
        Schema::Map(_) => "map".to_owned(),
        Schema::Record(_) => "record".to_owned(),
        Schema::Enum(_) => "enum".to_owned(),
        Schema::Fixed(_) => "fixed".to_owned(),
        Schema::Ref { name } => format!("{name} (a reference)"),
    }
}
