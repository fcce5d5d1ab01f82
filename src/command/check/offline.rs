//! What files alone can tell.

use std::path::Path;

use super::{Report, Subject, data_flow, place_chain, time_outs};
use crate::avro::registry::{Registry, RegistryError};
use crate::avro::schema::{self, SchemaFile};
use crate::config::KafkaConfig;
use crate::config::finding::Finding;
use crate::kafka::client;
use crate::kafka::client::Role;
use crate::pipeline::plan::schemas;
use crate::pipeline::press::encode::{Encoder, FieldOrigin};
use crate::pipeline::press::event::Actions;
use crate::place::{Places, reload};

/// Checks one pipeline; of the press kernel it gives the schema file, if that is sound, and where its fields come from.
pub fn check(subject: &Subject<'_>, report: &mut Report) -> Option<(SchemaFile, Vec<(String, FieldOrigin)>)> {
    report.ok(subject.line(format_args!("configuration {}", subject.file.display())));
    properties(subject, &subject.config.kafka, report);
    time_outs::check(subject, report);
    data_flow::check_headers(subject, report);
    if let Err(error) = Registry::new(&subject.config.registry) {
        report.findings.push(registry_finding(subject, &error));
    }
    if subject.config.uses_places() {
        places(subject, report);
        place_chain::check(subject, report);
    }
    if subject.config.is_press() { schema(subject, report) } else { None }
}

/// A registry's error under the key that it is about.
pub fn registry_finding<C>(subject: &Subject<'_, C>, error: &RegistryError) -> Finding {
    match error {
        RegistryError::Configuration { key, what } => subject.error(key, what, error.cure()),
        RegistryError::Incompatible { .. } => subject.error("output.schema", error.what(), error.cure()),
        RegistryError::MayNotRegister { .. } | RegistryError::NotRegistered { .. } => {
            subject.error("output.register", error.what(), error.cure())
        }
        RegistryError::Refused { status: 422, .. } => subject.error("output.schema", error.what(), error.cure()),
        _ => subject.error("registry.url", error.what(), error.cure()),
    }
}

/// Properties that librdkafka does not take.
pub fn properties<C>(subject: &Subject<'_, C>, tables: &KafkaConfig, report: &mut Report) {
    let before = report.findings.len();
    let mut told = Vec::new();
    for (role, own, table) in
        [(Role::Consumer, &tables.consumer, "consumer"), (Role::Producer, &tables.producer, "producer")]
    {
        // A secret that cannot be read is a finding of the configuration already.
        let Ok(mut client) = client::client_config(tables, role) else { continue };
        // librdkafka tells the first one only.
        while let Some((name, reason)) = client::invalid_property(&client) {
            let table = if own.0.contains_key(&name) { table } else { "properties" };
            let key = if name.is_empty() { "kafka".to_string() } else { format!("kafka.{table}.{name}") };
            if !told.contains(&key) {
                report.findings.push(subject.error(
                    &key,
                    format!("librdkafka does not take it: {reason}"),
                    "fix or remove it; librdkafka's CONFIGURATION.md lists names and values",
                ));
                told.push(key);
            }
            if client.get(&name).is_none() {
                break;
            }
            client.remove(&name);
        }
    }
    if report.findings.len() == before {
        report.ok(subject.line("librdkafka properties"));
    }
}

fn places(subject: &Subject<'_>, report: &mut Report) {
    let now = std::time::SystemTime::now();
    // One by one, so that each bad file is named.
    for file in subject.config.place_files() {
        match Places::open(std::slice::from_ref(&file)) {
            Ok(places) => {
                for database in places.databases() {
                    let (v4, v6) = (database.networks_v4, database.networks_v6);
                    let name = &database.file;
                    let line = format!("GeoIP file {name}: {v4} IPv4 and {v6} IPv6 networks");
                    report.ok(subject.line(line));
                    if let Some(days) = reload::stale_days(&database, subject.config.place.max_age_days, now) {
                        let what = format!("{} was built {days} days ago, longer than this allows", database.file);
                        report.findings.push(subject.warning(
                            "place.max_age_days",
                            what,
                            "put a newer file in its place",
                        ));
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                let (what, cure) = text.rsplit_once("; ").unwrap_or((&text, "name another file"));
                report.findings.push(subject.error("place.files", what, cure));
            }
        }
    }
}

fn schema(subject: &Subject<'_>, report: &mut Report) -> Option<(SchemaFile, Vec<(String, FieldOrigin)>)> {
    let path = subject.config.schema_file()?;
    let shown = shown(&path);
    let file = match schema::load(Path::new(&shown)) {
        Ok(file) => file,
        Err(findings) => {
            report.findings.extend(findings);
            return None;
        }
    };
    report.findings.extend(file.warnings.iter().cloned());
    report.findings.extend(schemas::is_named(subject.config, &file).err().unwrap_or_default());
    let actions = match Actions::new(subject.config.source.actions.clone()) {
        Ok(actions) => actions,
        Err(error) => {
            let text = error.to_string();
            let (what, cure) = text.rsplit_once(": ").unwrap_or((&text, "fix the list"));
            report.findings.push(subject.error("source.actions", what, cure));
            return Some((file, Vec::new()));
        }
    };
    // The id only goes into the first bytes of each record.
    match Encoder::compile(&file.schema, 0, &actions, &shown) {
        Ok(encoder) => {
            report.ok(subject.line(format_args!("schema {shown}")));
            data_flow::relay(subject, encoder.origins(), report);
            Some((file, encoder.origins().to_vec()))
        }
        Err(findings) => {
            report.findings.extend(findings);
            None
        }
    }
}

/// A path as people would write it from here.
fn shown(path: &Path) -> String {
    path.strip_prefix(std::env::current_dir().unwrap_or_default()).unwrap_or(path).display().to_string()
}
