//! The configuration of a Kafka Connect sink as a pipeline file, with what became of each of its lines. Values that may be
//! secrets are never shown: passwords go into files of their own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::draft::{Draft, Made, SecretFile, Table, key, pipeline_name, quoted};

/// Which sink it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// Aiven's and Confluent's, which share their keys.
    Jdbc,
    Debezium,
    ClickHouse,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Taken,
    Default,
    NotNeeded,
    ByHand,
}

/// The lines of the configuration, and what is made of them.
struct Lines {
    config: BTreeMap<String, String>,
    fates: BTreeMap<String, (Fate, String)>,
}

/// One pipeline for each topic. Errors, in words: no JSON object, no sink that is known here, no topic.
pub(super) fn pipelines(text: &str, file: &str) -> Result<Vec<Made>, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| {
        format!("{file}:{}: not valid JSON at column {}; name the file of one connector", error.line(), error.column())
    })?;
    let (name, object) = match (&json, json.get("config")) {
        (_, Some(Value::Object(config))) => (json.get("name").and_then(Value::as_str), config),
        (Value::Object(config), _) => (None, config),
        _ => return Err(format!("{file}: not a JSON object; name the file of one connector")),
    };
    let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let config: BTreeMap<String, String> = object.iter().map(|(key, value)| (key.clone(), text_of(value))).collect();
    let class = config.get("connector.class").cloned().unwrap_or_default();
    let sink = match class.rsplit('.').next().unwrap_or_default() {
        "JdbcSinkConnector" if class.starts_with("io.debezium.") => Sink::Debezium,
        "JdbcSinkConnector" => Sink::Jdbc,
        "ClickHouseSinkConnector" => Sink::ClickHouse,
        _ => {
            return Err(format!(
                "{file}: connector.class is {}; expected Aiven's, Confluent's or Debezium's JdbcSinkConnector, or ClickHouse's \
                 ClickHouseSinkConnector",
                if class.is_empty() { "not set" } else { &class }
            ));
        }
    };
    let topics: Vec<String> = config
        .get("topics")
        .map(String::as_str)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|topic| !topic.is_empty())
        .map(String::from)
        .collect();
    if topics.is_empty() {
        return Err(format!(
            "{file}: names no topic; replace topics.regex by `topics`, each of them gets a pipeline file"
        ));
    }
    let name = name.map(String::from).or(config.get("name").cloned()).unwrap_or_default();
    let name = pipeline_name(if name.is_empty() { &topics[0] } else { &name });
    let of_topic = |topic: &String| {
        let name = if topics.len() == 1 { name.clone() } else { pipeline_name(&format!("{name}-{topic}")) };
        pipeline(sink, &name, topic, Lines { config: config.clone(), fates: BTreeMap::new() }, file)
    };
    Ok(topics.iter().map(of_topic).collect())
}

fn pipeline(sink: Sink, name: &str, topic: &str, mut lines: Lines, file: &str) -> Made {
    let mut draft = Draft::new(name);
    draft.head =
        vec![format!("Made from {file} by `pressline init`. Every key is explained in docs/configuration.md.")];
    let mut secrets = Vec::new();
    lines.note("name", Fate::Taken, "the pipeline's name");
    lines.note("connector.class", Fate::Taken, "the kind of sink");
    lines.note("topics", Fate::Taken, "source.topic");
    draft.table("source").set("topic", quoted(topic), "");
    converter(&mut draft, &mut lines, &mut secrets);
    match sink {
        Sink::Jdbc | Sink::Debezium => jdbc(sink, &mut draft, &mut lines, &mut secrets),
        Sink::ClickHouse => clickhouse(topic, &mut draft, &mut lines, &mut secrets),
    }
    consumer(sink, &mut draft, &mut lines);
    let said = lines.said(name, topic);
    Made { draft, secrets, said }
}

impl Lines {
    fn get(&self, key: &str) -> Option<String> {
        self.config.get(key).cloned()
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.config.get(key).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    /// Notes what became of a line, if it is there.
    fn note(&mut self, key: &str, fate: Fate, what: &str) {
        if self.config.contains_key(key) {
            self.fates.insert(key.into(), (fate, what.into()));
        }
    }

    /// Notes a line as not needed, or, with another value than this, as one to be seen to by hand.
    fn not_needed_if(&mut self, key: &str, values: &[&str], otherwise: &str) {
        let is_one = values.iter().any(|value| self.is(key, value));
        let (fate, what) = if is_one { (Fate::Default, "as pressline does it") } else { (Fate::ByHand, otherwise) };
        self.note(key, fate, what);
    }

    /// Takes a secret out into a file; gives the file's name in TOML.
    fn secret(
        &mut self,
        key: &str,
        name: &str,
        secrets: &mut Vec<SecretFile>,
        pipeline: &str,
        to: &str,
    ) -> Option<String> {
        let secret = self.get(key)?;
        let file = format!("{pipeline}.{name}");
        if secret.contains("${") {
            let what = format!("{to}; Connect reads it from elsewhere: put it into that file");
            self.note(key, Fate::ByHand, &what);
        } else {
            secrets.push(SecretFile { name: file.clone(), secret });
            self.note(key, Fate::Taken, &format!("{to}, a file that only you may read"));
        }
        Some(quoted(&file))
    }

    /// What became of each line, for people.
    fn said(mut self, pipeline: &str, topic: &str) -> Vec<String> {
        let unknown: Vec<String> = self.config.keys().filter(|key| !self.fates.contains_key(*key)).cloned().collect();
        for key in unknown {
            let (fate, what) = match key.as_str() {
                _ if key.starts_with("key.converter") => (Fate::NotNeeded, "keys are not read"),
                _ if key.contains("credentials.source") => (Fate::NotNeeded, "the registry's user says it"),
                _ if key.starts_with("errors.log") => (Fate::NotNeeded, "dead letters are logged"),
                _ if key.starts_with("errors.retry") => (Fate::NotNeeded, "what may pass is tried again without end"),
                _ if key.starts_with("header.converter") => (Fate::NotNeeded, "headers are not read"),
                _ if key.starts_with("transforms") || key.starts_with("predicates") => (
                    Fate::ByHand,
                    "a transform: write it with columns.rename, columns.ignore, source.cast or [[transforms]]",
                ),
                _ => (Fate::ByHand, "not known to pressline"),
            };
            self.fates.insert(key, (fate, what.into()));
        }
        let mut said = vec![format!("pipeline {pipeline}, topic {topic}:")];
        let mut fates: Vec<(&Fate, &String, &String)> =
            self.fates.iter().map(|(key, (fate, what))| (fate, key, what)).collect();
        fates.sort();
        said.extend(fates.into_iter().map(|(fate, key, what)| {
            let fate = match fate {
                Fate::Taken => "taken over",
                Fate::Default => "default",
                Fate::NotNeeded => "not needed",
                Fate::ByHand => "by hand",
            };
            format!("  {fate:<10}  {key}: {what}")
        }));
        said
    }
}

/// The format, and the registry that the converter asks.
fn converter(draft: &mut Draft, lines: &mut Lines, secrets: &mut Vec<SecretFile>) {
    let converter = lines.get("value.converter").unwrap_or_default();
    let schemas = !lines.is("value.converter.schemas.enable", "false");
    let (format, comment) = match converter.rsplit('.').next().unwrap_or_default() {
        "JsonConverter" if schemas => ("connect_json", ""),
        "JsonConverter" => ("json", "Declare the fields of the records under [source.fields]"),
        "JsonSchemaConverter" => ("json_schema", ""),
        "AvroConverter" => ("avro", ""),
        _ => ("avro", "The connector names no converter that pressline knows: see which format its worker has"),
    };
    draft.table("source").set("format", quoted(format), comment);
    if format == "json" {
        draft.table("source.fields").set("id", quoted("json?"), "An example: name -> type, as in docs/formats.md");
    }
    let fate = if comment.is_empty() { Fate::Taken } else { Fate::ByHand };
    lines.note("value.converter", fate, &format!("source.format = \"{format}\""));
    lines.note("value.converter.schemas.enable", Fate::Taken, &format!("source.format = \"{format}\""));
    let url_key = "value.converter.schema.registry.url";
    // Of several, the first: they are one registry.
    if let Some(url) = lines.get(url_key).and_then(|urls| urls.split(',').next().map(|url| url.trim().to_string())) {
        if url.contains('@') || !(url.starts_with("http://") || url.starts_with("https://")) {
            lines.note(url_key, Fate::ByHand, "registry.url: it has a login in it, or is no address");
        } else {
            draft.table("registry").set("url", quoted(&url), "");
            lines.note(url_key, Fate::Taken, "registry.url");
        }
    }
    for user_key in ["value.converter.schema.registry.basic.auth.user.info", "value.converter.basic.auth.user.info"] {
        let Some(info) = lines.get(user_key) else { continue };
        let (user, password) = info.split_once(':').unwrap_or((&info, ""));
        if info.contains("${") || password.is_empty() {
            lines.note(
                user_key,
                Fate::ByHand,
                "registry.username and registry.password_file: Connect reads it from elsewhere",
            );
            continue;
        }
        let file = format!("{}.registry-password", draft.name);
        secrets.push(SecretFile { name: file.clone(), secret: password.into() });
        draft.table("registry").set("username", quoted(user), "").set("password_file", quoted(&file), "");
        lines.note(
            user_key,
            Fate::Taken,
            "registry.username and registry.password_file, a file that only you may read",
        );
    }
}

fn jdbc(sink: Sink, draft: &mut Draft, lines: &mut Lines, secrets: &mut Vec<SecretFile>) {
    let name = draft.name.clone();
    let table = draft.table("sink.postgres");
    address(table, lines);
    let user_key = if sink == Sink::Debezium { "connection.username" } else { "connection.user" };
    let user = lines.get(user_key).filter(|user| !user.contains("${"));
    let comment = if user.is_some() { "" } else { "Not in the connector's configuration" };
    table.set("user", quoted(user.as_deref().unwrap_or("postgres")), comment);
    lines.note(user_key, if user.is_some() { Fate::Taken } else { Fate::ByHand }, "sink.postgres.user");
    if let Some(file) = lines.secret("connection.password", "password", secrets, &name, "sink.postgres.password_file") {
        table.set("password_file", file, "");
    }
    let format_key =
        ["table.name.format", "collection.name.format"].into_iter().find(|key| lines.config.contains_key(*key));
    let format = format_key.and_then(|key| lines.get(key)).unwrap_or_else(|| "${topic}".into());
    table.set("table", quoted(&format), "");
    if let Some(key) = format_key {
        lines.note(key, Fate::Taken, "sink.postgres.table");
    }
    // Debezium's puts underscores in the place of dots by itself.
    if lines.is("table.name.normalize", "true") || sink == Sink::Debezium {
        table.set("normalize_topic", "true", "");
    }
    lines.note("table.name.normalize", Fate::Taken, "sink.postgres.normalize_topic");
    for key in ["auto.create", "schema.evolution"] {
        match (lines.is(key, "true"), lines.is(key, "basic")) {
            (false, false) => lines.not_needed_if(key, &["false", "none"], "pressline makes no table so"),
            (_, evolves) => {
                table.set("auto_create", "true", "");
                if evolves {
                    table.set("auto_evolve", "true", "");
                }
                let what =
                    if evolves { "sink.postgres.auto_create and auto_evolve" } else { "sink.postgres.auto_create" };
                lines.note(key, Fate::Taken, what);
            }
        }
    }
    if lines.is("auto.evolve", "true") {
        table.set("auto_evolve", "true", "");
        lines.note("auto.evolve", Fate::Taken, "sink.postgres.auto_evolve");
    } else {
        lines.not_needed_if("auto.evolve", &["false"], "columns are added by you, as check --online says");
    }
    changes(table, lines);
    for key in ["dialect.name", "quote.sql.identifiers", "use.reduction.buffer", "max.retries", "retry.backoff.ms"] {
        lines.note(key, Fate::NotNeeded, "pressline sees to it by itself");
    }
    if let Some(fields) = lines.get("field.exclude.list") {
        for field in fields.split(',').map(|field| field.trim().rsplit(':').next().unwrap_or_default().to_string()) {
            draft.table("sink.postgres.columns").add("ignore", &field, "");
        }
        lines.note("field.exclude.list", Fate::Taken, "sink.postgres.columns.ignore");
    }
    let what = "fields that are not wanted go into sink.postgres.columns.ignore, as check --online says";
    ["fields.whitelist", "field.include.list"].into_iter().for_each(|key| lines.note(key, Fate::ByHand, what));
}

/// Whether records are inserted or change rows, and by which key. Upserts need Avro values: `sink.postgres.mode` refuses others.
fn changes(table: &mut Table, lines: &mut Lines) {
    let is_avro = lines.get("value.converter").is_some_and(|class| class.ends_with("AvroConverter"));
    let mode_key = ["pk.mode", "primary.key.mode"].into_iter().find(|key| lines.config.contains_key(*key));
    let pk_mode = mode_key.and_then(|key| lines.get(key)).unwrap_or_default();
    let fields_key = ["pk.fields", "primary.key.fields"].into_iter().find(|key| lines.config.contains_key(*key));
    let fields = fields_key.and_then(|key| lines.get(key)).unwrap_or_default();
    let fields: Vec<&str> = fields.split(',').map(str::trim).filter(|field| !field.is_empty()).collect();
    let is_key = pk_mode == "record_key";
    let is_text = is_key && lines.get("key.converter").is_some_and(|class| class.ends_with("StringConverter"));
    let has_fields = if is_text { fields.len() == 1 } else { is_key || !fields.is_empty() };
    if !lines.is("insert.mode", "upsert") || !is_avro || !(is_key || pk_mode == "record_value") || !has_fields {
        let what =
            "rows are only inserted; for upserts set sink.postgres.mode, pk_mode and pk_fields, which need Avro values";
        lines.not_needed_if("insert.mode", &["insert"], what);
        lines.not_needed_if("delete.enabled", &["false"], "tombstones are dead letters");
        for key in ["pk.mode", "primary.key.mode"] {
            let what = "for the key of a table that Connect makes, and for upserts: a record is inserted once as it is";
            lines.note(key, Fate::NotNeeded, what);
        }
        for key in ["pk.fields", "primary.key.fields"] {
            lines.note(key, Fate::NotNeeded, "the table's own primary key holds");
        }
        return;
    }
    table.set("mode", quoted("upsert"), "").set("pk_mode", quoted(&pk_mode), "");
    for field in fields {
        table.add("pk_fields", field, "");
    }
    if is_text {
        table.set("key_format", quoted("text"), "");
        lines.note("key.converter", Fate::Taken, "sink.postgres.key_format = \"text\"");
    } else if is_key {
        lines.note("key.converter", Fate::Taken, "sink.postgres.key_format = \"avro\"");
    }
    lines.note("insert.mode", Fate::Taken, "sink.postgres.mode");
    mode_key.into_iter().for_each(|key| lines.note(key, Fate::Taken, "sink.postgres.pk_mode"));
    fields_key.into_iter().for_each(|key| lines.note(key, Fate::Taken, "sink.postgres.pk_fields"));
    if is_key && lines.is("delete.enabled", "true") {
        table.set("deletes", "true", "");
        lines.note("delete.enabled", Fate::Taken, "sink.postgres.deletes");
    } else {
        lines.not_needed_if("delete.enabled", &["false"], "sink.postgres.deletes needs pk_mode = \"record_key\"");
    }
}

/// Host, port, database and TLS from `jdbc:postgresql://host:port/database?sslmode=...`.
fn address(table: &mut Table, lines: &mut Lines) {
    let url = lines.get("connection.url").unwrap_or_default();
    let Some(rest) = url.strip_prefix("jdbc:postgresql://") else {
        let comment = "The connector's connection.url is no jdbc:postgresql:// address: say where the database is";
        table.set("host", quoted("127.0.0.1"), comment).set("database", quoted("postgres"), "");
        lines.note(
            "connection.url",
            Fate::ByHand,
            "sink.postgres.host, port, database and sslmode: it is no jdbc:postgresql:// address",
        );
        return;
    };
    let (server, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, database) = server.split_once('/').unwrap_or((server, "postgres"));
    // Of several servers, the first.
    let server = server.split(',').next().unwrap_or_default();
    let (host, port) = server.rsplit_once(':').unwrap_or((server, "5432"));
    table.set("host", quoted(host), "");
    match port.parse::<u16>() {
        Ok(port) => table.set("port", port.to_string(), ""),
        Err(_) => table.set("port", "5432", "The connector's configuration has no number here"),
    };
    table.set("database", quoted(database), "");
    let mut left = Vec::new();
    for (name, value) in options.split('&').filter_map(|option| option.split_once('=')) {
        let modes = ["disable", "prefer", "require", "verify-ca", "verify-full"];
        match name {
            "sslmode" if modes.contains(&value) => drop(table.set("sslmode", quoted(value), "")),
            // libpq's `allow` would rather have none.
            "sslmode" if value == "allow" => drop(table.set("sslmode", quoted("prefer"), "")),
            "sslmode" => drop(table.set("sslmode", quoted("prefer"), "The connector's configuration has no mode here")),
            "sslrootcert" => drop(table.set("ca", quoted(value), "")),
            other => left.push(key(other)),
        }
    }
    let what = "sink.postgres.host, port, database and sslmode";
    match left.is_empty() {
        true => lines.note("connection.url", Fate::Taken, what),
        false => lines.note("connection.url", Fate::Taken, &format!("{what}; without {}", left.join(", "))),
    }
}

fn clickhouse(topic: &str, draft: &mut Draft, lines: &mut Lines, secrets: &mut Vec<SecretFile>) {
    let name = draft.name.clone();
    let tls = !lines.is("ssl", "false");
    let port = lines.get("port").filter(|port| port.parse::<u16>().is_ok());
    let port = port.unwrap_or_else(|| if tls { "8443".into() } else { "8123".into() });
    let host = lines.get("hostname").filter(|host| !host.is_empty() && !host.contains("${"));
    let url = format!("{}://{}:{port}", if tls { "https" } else { "http" }, host.as_deref().unwrap_or("127.0.0.1"));
    let sink = draft.table("sink.clickhouse");
    sink.set("url", quoted(&url), "");
    lines.note("hostname", if host.is_some() { Fate::Taken } else { Fate::ByHand }, "sink.clickhouse.url");
    for key in ["port", "ssl"] {
        lines.note(key, Fate::Taken, "sink.clickhouse.url");
    }
    for (key, to) in [("username", "user"), ("database", "database")] {
        if let Some(value) = lines.get(key).filter(|value| !value.contains("${")) {
            sink.set(to, quoted(&value), "");
            lines.note(key, Fate::Taken, &format!("sink.clickhouse.{to}"));
        }
    }
    if let Some(file) = lines.secret("password", "password", secrets, &name, "sink.clickhouse.password_file") {
        sink.set("password_file", file, "");
    }
    let pairs = lines.get("topic2TableMap").unwrap_or_default();
    let of_topic = pairs.split(',').filter_map(|pair| pair.split_once('=')).find(|(of, _)| of.trim() == topic);
    let table = of_topic.map_or_else(|| "${topic}".to_string(), |(_, table)| table.trim().to_string());
    sink.set("table", quoted(&table), "");
    lines.note("topic2TableMap", Fate::Taken, "sink.clickhouse.table");
    let comment = "Its table has no columns _topic, _partition and _offset; with them, exactly_once holds without end";
    sink.set("delivery", quoted("deduplicated"), comment);
    lines.note("exactlyOnce", Fate::Taken, "sink.clickhouse.delivery = \"deduplicated\"");
    for key in
        ["keeperOnCluster", "zkPath", "zkDatabase", "tableRefreshInterval", "clientVersion", "hostnameVerification"]
    {
        lines.note(key, Fate::NotNeeded, "pressline keeps its positions in Kafka, and reads the table at start");
    }
    for key in ["customInsertFormat", "insertFormat", "schemas.enable", "tolerateStateMismatch"] {
        lines.note(key, Fate::NotNeeded, "blocks are sent in ClickHouse's own format");
    }
    let what = "columns that the schema does not fill are told by check --online";
    lines.note("bypassSchemaValidation", Fate::NotNeeded, what);
}

/// What all sinks of Connect have.
fn consumer(sink: Sink, draft: &mut Draft, lines: &mut Lines) {
    let section = if sink == Sink::ClickHouse { "sink.clickhouse" } else { "sink.postgres" };
    let table = draft.table(&format!("{section}.consumer"));
    let workers = lines.get("tasks.max").and_then(|tasks| tasks.parse::<usize>().ok());
    match workers {
        Some(1) | None => lines.note("tasks.max", Fate::Default, &format!("{section}.consumer.workers")),
        Some(count) => {
            table.set("workers", count.clamp(1, 64).to_string(), "");
            lines.note("tasks.max", Fate::Taken, &format!("{section}.consumer.workers"));
        }
    }
    if let Some(topic) = lines.get("errors.deadletterqueue.topic.name").filter(|topic| !topic.is_empty()) {
        table.set("dead_letter_topic", quoted(&topic), "");
        lines.note("errors.deadletterqueue.topic.name", Fate::Taken, &format!("{section}.consumer.dead_letter_topic"));
    }
    if lines.is("errors.tolerance", "all") {
        let comment = "However many records cannot be written, the sink goes on, as with errors.tolerance = all";
        table.set("max_dead_share", "1.0", comment);
        lines.note("errors.tolerance", Fate::Taken, &format!("{section}.consumer.max_dead_share"));
    } else {
        let what = "records that cannot be written go to the dead letter queue; too many of them stop the sink";
        lines.note("errors.tolerance", Fate::Default, what);
    }
    if let Some(copies) =
        lines.get("errors.deadletterqueue.topic.replication.factor").and_then(|n| n.parse::<u16>().ok())
    {
        draft.table("sink.dead_letter.create").set("replication", copies.to_string(), "");
        lines.note(
            "errors.deadletterqueue.topic.replication.factor",
            Fate::Taken,
            "sink.dead_letter.create.replication",
        );
    }
    lines.note("errors.deadletterqueue.context.headers.enable", Fate::NotNeeded, "dead letters have headers");
    if let Some(rows) = lines.get("batch.size").and_then(|rows| rows.parse::<u64>().ok()).filter(|rows| *rows > 0) {
        draft.table(&format!("{section}.batch")).set("max_rows", rows.clamp(1, 10_000_000).to_string(), "");
        lines.note("batch.size", Fate::Taken, &format!("{section}.batch.max_rows"));
    }
    let what = "pressline has a group of its own: `pressline offsets` shows and sets where it begins";
    lines.note("consumer.override.group.id", Fate::NotNeeded, what);
    let start = lines.get("consumer.override.auto.offset.reset");
    if start.as_deref() == Some("latest") {
        draft.table(&format!("{section}.consumer")).set("start", quoted("end"), "");
    }
    lines.note("consumer.override.auto.offset.reset", Fate::Taken, &format!("{section}.consumer.start"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::load::{self, Sources};

    /// The connectors of the talk, with other names.
    const JSON_SINK: &str = r#"{"name":"sink_fish_chips_json_schema", "connector.class": "io.aiven.connect.jdbc.JdbcSinkConnector",
        "topics": "demo5-cod-and-chips", "table.name.normalize": "true",
        "connection.url": "jdbc:postgresql://DB_HOST:DB_PORT/DB_NAME?sslmode=DB_SSL_MODE", "connection.user": "DB_USERNAME",
        "connection.password": "DB_PASSWORD", "tasks.max":"1", "auto.create": "false", "auto.evolve": "false",
        "insert.mode": "insert", "delete.enabled": "false", "pk.mode": "record_value", "pk.fields": "order_time",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter"}"#;
    const AVRO_SINK: &str = r#"{"name":"sink_fish_chips_avro", "connector.class": "io.aiven.connect.jdbc.JdbcSinkConnector",
        "topics": "demo6_cod_and_chips", "connection.url": "DB_CONNECTION_URL", "connection.user": "DB_USERNAME",
        "connection.password": "DB_PASSWORD", "tasks.max":"1", "auto.create": "false", "auto.evolve": "false",
        "insert.mode": "insert", "delete.enabled": "false", "pk.mode": "record_key", "pk.fields": "order_time",
        "key.converter": "io.confluent.connect.avro.AvroConverter",
        "key.converter.schema.registry.url": "https://APACHE_KAFKA_HOST:SCHEMA_REGISTRY_PORT",
        "key.converter.basic.auth.credentials.source": "USER_INFO",
        "key.converter.schema.registry.basic.auth.user.info": "SCHEMA_REGISTRY_USER:SCHEMA_REGISTRY_PASSWORD",
        "value.converter": "io.confluent.connect.avro.AvroConverter",
        "value.converter.schema.registry.url": "https://APACHE_KAFKA_HOST:SCHEMA_REGISTRY_PORT",
        "value.converter.basic.auth.credentials.source": "USER_INFO",
        "value.converter.schema.registry.basic.auth.user.info": "SCHEMA_REGISTRY_USER:SCHEMA_REGISTRY_PASSWORD"}"#;
    const PRESSES_SINK: &str = r#"{"name":"sink_presses", "connector.class": "io.aiven.connect.jdbc.JdbcSinkConnector",
        "topics": "button_presses", "connection.url": "jdbc:postgresql://db.example.org:12691/defaultdb?sslmode=require",
        "connection.user": "writer", "connection.password": "hunter2", "tasks.max":"3", "auto.create": "true",
        "pk.mode": "none", "errors.tolerance": "all", "errors.deadletterqueue.topic.name": "presses.dlq",
        "value.converter": "io.confluent.connect.avro.AvroConverter", "transforms": "rename",
        "transforms.rename.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
        "value.converter.schema.registry.url": "https://registry.example.org:12698"}"#;
    const DEBEZIUM: &str = r#"{"name": "jdbc-sink", "config": {"connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "topics": "shop.public.orders", "connection.url": "jdbc:postgresql://db/shop", "connection.username": "u",
        "connection.password": "${secrets:db:password}", "insert.mode": "upsert", "primary.key.mode": "record_key",
        "schema.evolution": "basic", "value.converter": "org.apache.kafka.connect.json.JsonConverter"}}"#;
    const CLICKHOUSE: &str = r#"{"name": "ch", "config": {"connector.class": "com.clickhouse.kafka.connect.ClickHouseSinkConnector",
        "topics": "presses,orders", "hostname": "ch.example.org", "port": "8443", "ssl": "true", "username": "default",
        "password": "hunter3", "database": "shop", "exactlyOnce": "false", "topic2TableMap": "orders=sold",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "false"}}"#;

    struct Loaded {
        config: crate::config::sink::LoadConfig,
        said: String,
    }

    /// Written into a folder as `pressline init` does, and loaded.
    fn loaded(text: &str) -> Vec<Loaded> {
        let folder = tempfile::tempdir().unwrap();
        let load = |mut made: Made| {
            made.draft.table("kafka").set("bootstrap_servers", quoted("127.0.0.1:9092"), "");
            let path = folder.path().join("pipeline.toml");
            let written = made.draft.text();
            std::fs::write(&path, &written).unwrap();
            for secret in &made.secrets {
                std::fs::write(folder.path().join(&secret.name), &secret.secret).unwrap();
                assert!(!written.contains(&secret.secret), "{written}");
                assert!(!made.said.iter().any(|line| line.contains(&secret.secret)), "{:?}", made.said);
            }
            // Where Connect reads a password from elsewhere, its user puts it there.
            if written.contains("jdbc-sink.password") {
                std::fs::write(folder.path().join("jdbc-sink.password"), "x").unwrap();
            }
            let sources = Sources { pipelines: vec![path], ..Sources::default() };
            let Ok(mut loaded) = load::load(&sources) else { panic!("{written}") };
            assert!(loaded.pipelines.is_empty());
            let config = match loaded.loads.remove(0).1 {
                Ok(config) => config,
                Err(findings) => panic!("{findings:?}\n{written}"),
            };
            Loaded { config, said: made.said.join("\n") }
        };
        pipelines(text, "sink.json").unwrap_or_else(|error| panic!("{error}")).into_iter().map(load).collect()
    }

    #[test]
    fn the_talks_connectors_give_pipelines_that_load() {
        let json = loaded(JSON_SINK).remove(0);
        let sink = json.config.sink.postgres.as_ref().unwrap();
        assert_eq!((sink.table.as_str(), sink.host.as_str(), sink.port), ("demo5_cod_and_chips", "DB_HOST", 5432));
        assert_eq!(json.config.format().format.name(), "connect_json");
        for line in [
            "taken over  topics: source.topic",
            "taken over  table.name.normalize: sink.postgres.normalize_topic",
            "default     insert.mode: as pressline does it",
            "not needed  pk.fields: the table's own primary key holds",
        ] {
            assert!(json.said.contains(line), "{}", json.said);
        }
        let avro = loaded(AVRO_SINK).remove(0);
        assert_eq!(avro.config.format().format.name(), "avro");
        assert!(avro.said.contains("by hand     connection.url: "), "{}", avro.said);
        assert!(avro.said.contains("not needed  key.converter: keys are not read"), "{}", avro.said);
    }

    #[test]
    fn what_a_connector_says_is_taken_over() {
        let presses = loaded(PRESSES_SINK).remove(0);
        let sink = presses.config.sink.postgres.as_ref().unwrap();
        assert_eq!((sink.host.as_str(), sink.port, sink.database.as_str()), ("db.example.org", 12691, "defaultdb"));
        assert!(sink.auto_create && sink.consumer.workers == 3 && sink.consumer.max_dead_share == 1.0);
        assert_eq!(sink.consumer.dead_letter_topic, "presses.dlq");
        assert_eq!(presses.config.registry.url, "https://registry.example.org:12698");
        assert!(presses.said.contains("by hand     transforms.rename.type: a transform"), "{}", presses.said);
        let changes = loaded(DEBEZIUM).remove(0);
        assert_eq!(changes.config.sink.postgres.as_ref().unwrap().table, "shop_public_orders");
        assert!(changes.said.contains("by hand     insert.mode: rows are only inserted"), "{}", changes.said);
        assert!(changes.said.contains("by hand     connection.password: "), "{}", changes.said);
        let upserts = loaded(
            &AVRO_SINK
                .replace("\"insert.mode\": \"insert\"", "\"insert.mode\": \"upsert\"")
                .replace("\"delete.enabled\": \"false\"", "\"delete.enabled\": \"true\""),
        );
        let changes = upserts[0].config.sink.postgres.as_ref().unwrap().changes();
        assert!(changes.is_upsert() && changes.deletes && changes.reads_keys(), "{changes:?}");
        assert_eq!(changes.pk_fields, ["order_time"]);
        assert!(upserts[0].said.contains("taken over  pk.mode: sink.postgres.pk_mode"), "{}", upserts[0].said);
        let clickhouse = loaded(CLICKHOUSE);
        let tables: Vec<&str> =
            clickhouse.iter().map(|one| one.config.sink.clickhouse.as_ref().unwrap().table.as_str()).collect();
        assert_eq!(tables, ["presses", "sold"]);
        assert_eq!(clickhouse[0].config.sink.clickhouse.as_ref().unwrap().url, "https://ch.example.org:8443");
        assert!(
            clickhouse[0].said.contains("by hand     value.converter: source.format = \"json\""),
            "{}",
            clickhouse[0].said
        );
        for (text, what) in [
            ("[]", "sink.json: not a JSON object; name the file of one connector"),
            (
                r#"{"connector.class": "x.S3SinkConnector", "topics": "a"}"#,
                "sink.json: connector.class is x.S3SinkConnector; expected",
            ),
            (r#"{"connector.class": "x.JdbcSinkConnector", "topics.regex": "a.*"}"#, "sink.json: names no topic"),
        ] {
            let error = pipelines(text, "sink.json").err().unwrap();
            assert!(error.starts_with(what), "{error}");
        }
    }
}
