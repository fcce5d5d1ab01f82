//! Sinks: whether the topic's schemas fit the live tables, and whether the user may do what the load does.

use std::collections::BTreeSet;

use super::changes::Asked;
use super::offline::{self, registry_finding};
use super::output::Output;
use super::table_plan::{TablePlan, TopicSchema};
use super::{Report, Subject, clickhouse, data_flow, newest, postgres, sink_fields, sink_topics, source_database};
use crate::avro::Shape;
use crate::avro::format::debezium::Events;
use crate::avro::format::{Decoder, registered_shape};
use crate::avro::registry::{Registry, RegistryError, SchemaId, SubjectState, SubjectVersion};
use crate::avro::schema::record_name;
use crate::config::finding::{Finding, Severity};
use crate::config::sink::LoadConfig;
use crate::config::validate;
use crate::sink::{DatabaseKind, RecordTypes};

impl Report {
    /// Says what `auto_evolve` will add to a table; that columns are missing is no error then.
    pub(super) fn will_evolve(
        &mut self,
        subject: &Subject<'_, LoadConfig>,
        table: &str,
        ddl: &str,
        findings: &mut Vec<Finding>,
    ) {
        self.ok(subject.line(format_args!("auto_evolve will add columns to {table}:\n{ddl};")));
        findings.retain(|finding| !finding.is_error());
    }

    /// Takes over a plan and what does not fit in it.
    pub(super) fn compared(
        &mut self,
        subject: &Subject<'_, LoadConfig>,
        schema: &TopicSchema,
        plan: TablePlan,
        mut findings: Vec<Finding>,
    ) {
        if !schema.comes {
            for finding in findings.iter_mut().filter(|finding| finding.is_error()) {
                finding.severity = Severity::Warning;
                finding.what = format!("{}: {}, which none of the newest records has", finding.what, schema.says);
            }
        }
        if !findings.iter().any(Finding::is_error) {
            self.ok(subject.line(format_args!("table {} takes {}", plan.table, plan.schema)));
        }
        self.findings.extend(findings);
        self.plans.push(plan);
    }
}

/// Checks the sinks of one pipeline; `local`: the output of the relay in the same file. `alone`: there is no such relay, whose
/// check would have told of the settings that both share.
pub async fn check(
    subject: &Subject<'_, LoadConfig>,
    local: Option<&Output>,
    alone: bool,
    online: bool,
    report: &mut Report,
) {
    let config = subject.config;
    let kinds: Vec<String> = DatabaseKind::of(config).iter().map(|kind| format!("sink.{}", kind.name())).collect();
    report.ok(subject.line(format_args!("{} of {}", kinds.join(" and "), subject.file.display())));
    if alone {
        offline::properties(subject, &config.kafka, report);
        if let Err(error) = Registry::new(&config.registry) {
            report.findings.push(registry_finding(subject, &error));
        }
    }
    if let Some(pattern) = config.topics() {
        let line = format_args!("a pipeline for each topic of the form {pattern}; which there are, --online tells");
        report.ok(subject.line(line));
    }
    let read = match config.format().are_changes() {
        false => Decoder::new(&config.format()).map(drop),
        true => Events::of_values(&config.format())
            .and_then(|_| Events::of_keys(&config.key_format()).map_err(|what| format!("key: {what}")))
            .map(drop),
    };
    if let Err(what) = read {
        report.findings.push(subject.error("source", what, "correct [source]; docs/formats.md has the types"));
        return;
    }
    // The relay fills the topic only if it is the same one.
    let local = local.filter(|_| config.output.as_ref().is_some_and(|output| output.topic == config.topic()));
    data_flow::sinks(subject, local.map_or(&[], |output| output.origins.as_slice()), report);
    if !online {
        if let Some(output) = local {
            sink_fields::check(subject, output, report);
        }
        return;
    }
    let relay_fills_it = config.output.as_ref().is_some_and(|output| output.topic == config.topic());
    sink_topics::check(subject, !alone && relay_fills_it, report).await;
    if let Some(database) = config.source.as_ref().and_then(|source| source.database.as_ref()) {
        source_database::check(subject, database, report).await;
    }
    let schemas = schemas(subject, local, report).await;
    if let Some(sink) = &config.sink.postgres {
        let asked = Asked { sink: "postgres", config: sink.changes(), is_stamped: false, columns: &sink.columns };
        let (changes, key) = asked.of_values(subject, &schemas, &mut report.findings).await.unzip();
        let schemas = changes.as_ref().unwrap_or(&schemas);
        postgres::check(subject, sink, schemas, &key.unwrap_or_default(), report).await;
    }
    if let Some(sink) = &config.sink.clickhouse {
        let asked = Asked { sink: "clickhouse", config: sink.changes(), is_stamped: true, columns: &sink.columns };
        let (changes, key) = asked.of_values(subject, &schemas, &mut report.findings).await.unzip();
        let schemas = changes.as_ref().unwrap_or(&schemas);
        clickhouse::check(subject, sink, schemas, &key.unwrap_or_default(), report).await;
    }
}

/// The schema of the relay in the same file, those that the topic's newest records have, and the newest of the subject; the one
/// that a missing table would be made for comes first.
async fn schemas(subject: &Subject<'_, LoadConfig>, local: Option<&Output>, report: &mut Report) -> Vec<TopicSchema> {
    if !subject.config.format().format.has_registered_schemas() {
        return of_records(subject, report).await;
    }
    // A client that cannot be made is a finding already.
    let Ok(registry) = Registry::new(&subject.config.registry) else { return Vec::new() };
    let name = subject.config.subject();
    let record_types = RecordTypes::of(subject.config);
    let local = local.filter(|output| record_types.hold(&output.schema));
    let mut found: Vec<TopicSchema> = own(&registry, &name, local).await.into_iter().collect();
    let newest_records = newest::look(subject).await.unwrap_or_default();
    report.findings.extend(newest_records.finding(subject));
    let mut types = BTreeSet::new();
    for id in newest_records.schemas.keys().rev() {
        match add_of_records(&registry, *id, subject, &mut found, report).await {
            Ok(name) => types.extend(name),
            Err(error) => {
                report.findings.push(registry_finding(subject, &error));
                return found;
            }
        }
    }
    report.findings.extend(several_types(subject, &types));
    match registry.latest(&name).await {
        Ok(Some(version)) if !record_types.hold(&version.schema) => {}
        Ok(Some(version)) => add_newest(&version, local.is_some(), subject, &mut found, report),
        Ok(None) if found.is_empty() => report.findings.push(subject.warning(
            "sink",
            format!("subject {name} has no schema yet, so that the tables were compared with nothing"),
            "check again once the topic's producer has registered one",
        )),
        Ok(None) => {}
        Err(error) => report.findings.push(registry_finding(subject, &error)),
    }
    found
}

/// The schemas of a format that keeps them elsewhere than in the registry.
async fn of_records(subject: &Subject<'_, LoadConfig>, report: &mut Report) -> Vec<TopicSchema> {
    let topic = subject.config.topic();
    let newest_records = newest::look(subject).await.unwrap_or_default();
    report.findings.extend(newest_records.finding(subject));
    match unregistered(subject).await {
        Ok(found) if found.is_empty() => {
            let what = format!("topic {topic} has no record yet, so that the tables were compared with nothing");
            report.findings.push(subject.warning(
                "source.topic",
                what,
                "check again once its producer has written one",
            ));
            found
        }
        Ok(found) => found,
        Err(findings) => {
            report.findings.extend(findings);
            Vec::new()
        }
    }
}

/// The schema that the pipeline file declares, or those that the newest records bring.
pub async fn unregistered(subject: &Subject<'_, LoadConfig>) -> Result<Vec<TopicSchema>, Vec<Finding>> {
    let format = subject.config.format();
    let declared = match format.are_changes() {
        false => Decoder::new(&format).map(|decoder| decoder.declared().map(|shape| shape.as_ref().clone())),
        true => Events::of_values(&format).map(|events| events.declared().cloned()),
    };
    let declared = declared
        .map_err(|what| vec![subject.error("source", what, "correct [source]; docs/formats.md has the types")])?;
    if let Some(shape) = declared {
        let says = format!("the fields that {} declares", subject.file.display());
        return Ok(vec![TopicSchema { says, shape, comes: true }]);
    }
    let missing = validate::missing_for_kafka(subject.config);
    if !missing.is_empty() {
        return Err(missing);
    }
    let newest_records = newest::look(subject).await.unwrap_or_default();
    let says = format!("the schema of the newest records of topic {}", subject.config.topic());
    let schema = |shape| TopicSchema { says: says.clone(), shape, comes: true };
    Ok(newest_records.shapes.into_iter().map(schema).collect())
}

/// The schema that the relay in the same file writes.
async fn own(registry: &Registry, name: &str, local: Option<&Output>) -> Option<TopicSchema> {
    let Output { says, schema, .. } = local?;
    let shape = Shape::registered(schema).ok()?;
    // Nothing is registered by this question.
    let says = match registry.examine(name, &schema.text, true).await {
        Ok(SubjectState::Registered(id)) => format!("{says} (id {})", id.0),
        Ok(SubjectState::Compatible) => format!("{says}, not registered yet"),
        Err(_) => says.clone(),
    };
    Some(TopicSchema { says, shape, comes: true })
}

/// Records of several types, of which a table mostly takes one.
fn several_types(subject: &Subject<'_, LoadConfig>, types: &BTreeSet<String>) -> Option<Finding> {
    let is_told = !RecordTypes::of(subject.config).are_all();
    if types.len() < 2 || is_told {
        return None;
    }
    let names: Vec<&str> = types.iter().map(String::as_str).collect();
    Some(subject.warning(
        "sink.records",
        format!("the newest records of topic {} are of several types: {}", subject.config.topic(), names.join(", ")),
        "name those that are to be loaded, such as sink.records = [\"one\"]; a record of a type that the table does not take stops \
         the sink",
    ))
}

/// A schema that records have; the name of their type. Errors: the registry does not answer.
async fn add_of_records(
    registry: &Registry,
    id: u32,
    subject: &Subject<'_, LoadConfig>,
    found: &mut Vec<TopicSchema>,
    report: &mut Report,
) -> Result<Option<String>, RegistryError> {
    let topic = subject.config.topic();
    let says = format!("schema id {id} of the newest records of topic {topic}");
    let schema = registry.schema_by_id(SchemaId(id)).await;
    let name = schema.as_ref().ok().and_then(record_name);
    match schema {
        Ok(schema) if !RecordTypes::of(subject.config).hold(&schema) => {
            let type_name = name.as_deref().unwrap_or("no record");
            report.ok(subject.line(format_args!("{says}: of type {type_name}, which sink.records leaves out")));
        }
        Ok(schema) => match registered_shape(&subject.config.format(), &schema) {
            Ok(shape) if found.iter().any(|known| known.shape == shape) => {}
            Ok(shape) => found.push(TopicSchema { says, shape, comes: true }),
            Err(why) => report.findings.push(subject.warning(
                "sink",
                format!("{says} cannot be read: {why}"),
                "such records go to the dead letter queue; load a topic whose schemas pressline reads",
            )),
        },
        Err(error) if error.is_absent() => report.findings.push(subject.error(
            "registry.url",
            format!("the registry has no {says}, so that the sink waits at such a record"),
            error.cure(),
        )),
        Err(error) => return Err(error),
    }
    Ok(name)
}

/// The subject's newest version, unless it is there already.
fn add_newest(
    version: &SubjectVersion,
    has_own: bool,
    subject: &Subject<'_, LoadConfig>,
    found: &mut Vec<TopicSchema>,
    report: &mut Report,
) {
    let says = format!("subject {}, version {} (id {})", subject.config.subject(), version.version, version.id.0);
    match registered_shape(&subject.config.format(), &version.schema) {
        Ok(shape) => match found.iter().position(|known| known.shape == shape) {
            Some(at) => found.iter_mut().skip(at).take(1).for_each(|known| known.says = says.clone()),
            // The sink makes its table for the newest schema if that takes all records.
            None if !has_own && found.iter().all(|known| shape.extends(&known.shape)) => {
                found.insert(0, TopicSchema { says, shape, comes: found.is_empty() });
            }
            None => found.push(TopicSchema { says, shape, comes: false }),
        },
        Err(why) => report.findings.push(subject.warning(
            "sink",
            format!("{says} cannot be read: {why}"),
            "records of it would go to the dead letter queue; load a topic whose schemas pressline reads",
        )),
    }
}
