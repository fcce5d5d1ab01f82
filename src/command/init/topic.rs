//! A pipeline from what stands on a topic: its registered schema, else a sample of its newest records.

use serde_json::Value;

use super::draft::{Draft, Made, key, pipeline_name, quoted};
use super::sample::Seen;
use super::target::Postgres;
use super::{InitArgs, InitError};
use crate::avro::Shape;
use crate::avro::format::{Casts, wire_format};
use crate::avro::registry::{Registry, SchemaId};
use crate::avro::schema::SchemaText;
use crate::command::consume::read::{Next, Records};
use crate::command::consume::{ConsumeArgs, Start};
use crate::config::format::Format;
use crate::kafka::connection::{ClusterOptions, Connected};

/// Records of each partition that are looked at, from the end.
const LAST: i64 = 100;

/// What is known of the topic's records.
enum Found {
    /// A registered schema, and how it was found.
    Registered(Format, SchemaText, String),
    /// Connect's envelope.
    Connect,
    /// Declared fields.
    Json { fields: Vec<(String, String)>, left_out: Vec<String>, records: usize },
}

/// The pipeline. Errors: no database named; no topic; records of an unknown format.
pub(super) fn pipeline(
    args: &InitArgs,
    topic: &str,
    connected: &Connected,
    has_shared: bool,
) -> Result<Made, InitError> {
    if args.postgres.is_none() && args.clickhouse.is_none() {
        return Err(InitError::Refused("no database: name one with --postgres or --clickhouse".into()));
    }
    let found = find(topic, connected)?;
    let mut draft = Draft::new(&pipeline_name(topic));
    draft.head = vec![
        format!(
            "Loads topic {topic}; written by `pressline init`. Every key is explained in docs/configuration.md, the formats in"
        ),
        "docs/formats.md. Paths are relative to this file.".into(),
    ];
    let mut said = Vec::new();
    source(&mut draft, topic, &found, &mut said);
    if let Some(registry) = connected.registry.as_ref().filter(|_| !has_shared) {
        draft.table("registry").set("url", quoted(&registry.url), "");
    }
    sinks(&mut draft, args, topic);
    Ok(Made { draft, secrets: Vec::new(), said })
}

fn source(draft: &mut Draft, topic: &str, found: &Found, said: &mut Vec<String>) {
    let mut set = |format: Format, comment: &str| {
        let source = draft.table("source").set("topic", quoted(topic), "");
        source.set("format", quoted(format.name()), comment);
        said.push(format!("topic {topic}: format {}; {}", format.name(), comment.to_lowercase()));
    };
    match found {
        Found::Registered(format, schema, says) => {
            set(*format, says);
            if *format == Format::Avro {
                casts(draft, schema);
            }
        }
        Found::Connect => set(Format::ConnectJson, "Each record brings its schema"),
        Found::Json { fields, left_out, records } => {
            set(
                Format::Json,
                &format!("Read from a sample of {records} records: see that the types are what is meant"),
            );
            let table = draft.table("source.fields");
            for (name, of) in fields {
                table.set(name, of.clone(), "");
            }
            for name in left_out {
                said.push(format!("field {name} holds IP addresses, which are personal data: it is left out"));
                draft.head.push(format!("Left out, since it holds IP addresses: {name}"));
            }
        }
    }
}

/// Logical types that stand where readers do not see them are cast.
fn casts(draft: &mut Draft, schema: &SchemaText) {
    let Ok(Shape::Record(fields)) = Shape::registered(schema) else { return };
    for field in fields {
        let line = field.misplaced.as_ref().and_then(|logical| Casts::line(&field.name, logical, &field.shape));
        if let Some((key, value)) = line.as_ref().and_then(|line| line.split_once(" = ")) {
            let comment = "The schema has the logical type beside the field's type, where readers ignore it";
            draft.table("source.cast").set(key, value, comment);
        }
    }
}

fn sinks(draft: &mut Draft, args: &InitArgs, topic: &str) {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let table = args.table.clone().unwrap_or_else(|| topic.chars().map(plain).collect());
    let password = args.password_file.as_ref().map(|file| quoted(&file.display().to_string()));
    let made = "Makes the table where it is missing";
    if let Some(Postgres { user, host, port, database }) = &args.postgres {
        let sink = draft.table("sink.postgres");
        sink.set("host", quoted(host), "").set("port", port.to_string(), "").set("database", quoted(database), "");
        sink.set("user", quoted(user), "");
        if let Some(password) = &password {
            sink.set("password_file", password.clone(), "");
        }
        sink.set("table", quoted(&table), "").set("auto_create", "true", made);
    }
    if let Some(url) = &args.clickhouse {
        let sink = draft.table("sink.clickhouse");
        sink.set("url", quoted(url), "").set("user", quoted(&args.clickhouse_user), "");
        if let Some(password) = &password {
            sink.set("password_file", password.clone(), "");
        }
        sink.set("database", quoted(&args.clickhouse_database), "").set("table", quoted(&table), "");
        sink.set("auto_create", "true", made);
    }
}

fn find(topic: &str, connected: &Connected) -> Result<Found, InitError> {
    let refused = |what: String| InitError::Refused(what);
    let registry = connected.registry.as_ref().map(Registry::new).transpose().map_err(|e| refused(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| refused(error.to_string()))?;
    let kind = |schema: SchemaText, says: String| match schema.other_kind.as_deref() {
        None => Ok(Found::Registered(Format::Avro, schema, says)),
        Some("JSON") => Ok(Found::Registered(Format::JsonSchema, schema, says)),
        Some(kind) => Err(refused(format!("{says} is of type {kind}, which pressline does not read"))),
    };
    let subject = format!("{topic}-value");
    if let Some(registry) = &registry
        && let Some(version) = runtime.block_on(registry.latest(&subject)).map_err(|e| refused(e.to_string()))?
    {
        return kind(version.schema, format!("The schema is version {} of subject {subject}", version.version));
    }
    let values = sample(topic, connected)?;
    let ids: Vec<u32> = values.iter().filter_map(|value| wire_format(value)).map(|(id, _)| id).collect();
    if let (Some(id), true) = (ids.last(), ids.len() * 2 > values.len()) {
        let registry = registry.as_ref().ok_or_else(|| {
            refused(format!("the records of topic {topic} have schemas in a registry: name it with --registry"))
        })?;
        let schema = runtime.block_on(registry.schema_by_id(SchemaId(*id))).map_err(|e| refused(e.to_string()))?;
        return kind(schema, format!("The schema of the newest records has id {id}"));
    }
    of_json(topic, &values)
}

fn of_json(topic: &str, values: &[Vec<u8>]) -> Result<Found, InitError> {
    let parsed: Vec<Value> = values.iter().filter_map(|value| serde_json::from_slice(value).ok()).collect();
    let is_envelope =
        |value: &&Value| value.get("schema").is_some_and(Value::is_object) && value.get("payload").is_some();
    // Some may be junk.
    if parsed.iter().filter(|value| is_envelope(value)).count() * 2 > values.len() {
        return Ok(Found::Connect);
    }
    let mut seen = Seen::default();
    parsed.iter().filter(|value| value.is_object()).for_each(|value| seen.add(value));
    match seen.fields() {
        Some(fields) if parsed.len() * 2 > values.len() => Ok(Found::Json {
            fields,
            left_out: seen.addresses().iter().map(|name| key(name)).collect(),
            records: parsed.len(),
        }),
        _ if values.is_empty() => Err(InitError::Refused(format!(
            "topic {topic} has no records and no schema under subject {topic}-value: run this again once its producer has written"
        ))),
        _ => Err(InitError::Refused(format!(
            "of {} records of topic {topic}, {} are JSON objects and none has a schema id: pressline reads Avro and JSON",
            values.len(),
            parsed.iter().filter(|value| value.is_object()).count()
        ))),
    }
}

/// The newest values.
fn sample(topic: &str, connected: &Connected) -> Result<Vec<Vec<u8>>, InitError> {
    let args = ConsumeArgs {
        topic: topic.into(),
        from_beginning: false,
        from: Some(Start::Last(LAST)),
        max: None,
        follow: false,
        partition: Vec::new(),
        group: None,
        pace: None,
        json: false,
        uncommitted: false,
        show_addresses: false,
        connection: ClusterOptions::default(),
    };
    let refused = |error: crate::command::consume::ConsumeError| InitError::Refused(error.to_string());
    let mut records = Records::open(&args, connected).map_err(refused)?;
    let mut values = Vec::new();
    loop {
        match records.poll().map_err(refused)? {
            Next::Record(record) => {
                use rdkafka::message::Message;
                values.extend(record.payload().map(<[u8]>::to_vec));
            }
            Next::Idle | Next::Skipped => {}
            Next::End => return Ok(values),
        }
    }
}
