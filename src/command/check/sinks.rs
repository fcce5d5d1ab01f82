//! Sinks: whether the topic's schemas fit the live tables, and whether the user may do what the load does.

use std::fmt;

use serde::Serialize;

use super::offline::{self, Output, registry_finding};
use super::{Report, Subject, clickhouse, data_flow, postgres, sink_topics};
use crate::avro::Shape;
use crate::avro::registry::{Registry, RegistryError, SubjectVersion};
use crate::avro::schema::SchemaFile;
use crate::config::finding::{Finding, Severity};
use crate::config::sink::LoadConfig;
use crate::sink::{Kind, PlanLine};

/// A schema beside a table: what becomes of each field, and where each column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TablePlan {
    /// Pipeline.
    pub pipeline: String,
    /// Sink: `postgres` or `clickhouse`.
    pub sink: &'static str,
    /// Table.
    pub table: String,
    /// Which schema, such as `subject button_presses-value, version 2 (id 7)`.
    pub schema: String,
    /// Fields in the record's order, then columns that no field fills.
    pub lines: Vec<PlanLine>,
}

impl TablePlan {
    /// A plan's lines and what they are about.
    pub fn new(pipeline: &str, sink: Kind, table: String, schema: &TopicSchema, lines: Vec<PlanLine>) -> Self {
        Self { pipeline: pipeline.into(), sink: sink.name(), table, schema: schema.says.clone(), lines }
    }
}

impl Report {
    /// Takes over a plan and what does not fit in it.
    pub(super) fn compared(&mut self, subject: &Subject<'_, LoadConfig>, plan: TablePlan, findings: Vec<Finding>) {
        if findings.iter().all(|finding| finding.severity != Severity::Error) {
            self.ok(subject.line(format_args!("table {} takes {}", plan.table, plan.schema)));
        }
        self.findings.extend(findings);
        self.plans.push(plan);
    }
}

impl fmt::Display for TablePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan: {}: {} table {}, {}", self.pipeline, self.sink, self.table, self.schema)?;
        let head = ["field", "Avro type", "column", "column type", "conversion"];
        let cells = |line: &PlanLine| {
            let PlanLine { field, avro_type, column, column_type, conversion } = line.clone();
            [field, avro_type, column, column_type, conversion]
                .map(|cell| if cell.is_empty() { "-".into() } else { cell })
        };
        let rows: Vec<[String; 5]> =
            std::iter::once(head.map(String::from)).chain(self.lines.iter().map(cells)).collect();
        let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| width(at).unwrap_or_default());
        for [field, avro_type, column, column_type, conversion] in &rows {
            writeln!(f, "    {field:a$}  {avro_type:b$}  {column:c$}  {column_type:d$}  {conversion}")?;
        }
        Ok(())
    }
}

/// A schema that records of the topic have, or will have.
pub struct TopicSchema {
    /// Which it is, for people.
    pub says: String,
    /// Its shape.
    pub shape: Shape,
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
    let kinds: Vec<String> = Kind::of(config).iter().map(|kind| format!("sink.{}", kind.name())).collect();
    report.ok(subject.line(format_args!("{} of {}", kinds.join(" and "), subject.file.display())));
    if alone {
        offline::properties(subject, &config.kafka, report);
        if let Err(error) = Registry::new(&config.registry) {
            report.findings.push(registry_finding(subject, &error));
        }
    }
    // The relay fills the topic only if it is the same one.
    let local = local.filter(|_| config.output.as_ref().is_some_and(|output| output.topic == config.topic()));
    data_flow::sinks(subject, local.map_or(&[], |output| output.origins.as_slice()), report);
    if !online {
        return;
    }
    let relay_fills_it = config.output.as_ref().is_some_and(|output| output.topic == config.topic());
    sink_topics::check(subject, !alone && relay_fills_it, report).await;
    let schemas = schemas(subject, local.map(|output| &output.schema), report).await;
    if let Some(sink) = &config.sink.postgres {
        postgres::check(subject, sink, &schemas, report).await;
    }
    if let Some(sink) = &config.sink.clickhouse {
        clickhouse::check(subject, sink, &schemas, report).await;
    }
}

/// The subject's newest schema, and the relay's own where that is another one.
async fn schemas(
    subject: &Subject<'_, LoadConfig>,
    local: Option<&SchemaFile>,
    report: &mut Report,
) -> Vec<TopicSchema> {
    let config = subject.config;
    let name = config.subject();
    let mut found = Vec::new();
    match latest(config, &name).await {
        Some(Ok(Some(version))) => {
            let says = format!("subject {name}, version {} (id {})", version.version, version.id.0);
            match Shape::parse(&version.schema) {
                Ok(shape) => found.push(TopicSchema { says, shape }),
                Err(why) => report.findings.push(subject.error(
                    "sink",
                    format!("{says} cannot be loaded: {why}"),
                    "load a topic whose schema pressline can read",
                )),
            }
        }
        Some(Ok(None)) if local.is_none() => report.findings.push(subject.warning(
            "sink",
            format!("subject {name} has no schema yet, so that the tables were compared with nothing"),
            "check again once the topic's producer has registered one",
        )),
        Some(Err(error)) => report.findings.push(registry_finding(subject, &error)),
        _ => {}
    }
    if let Some(file) = local
        && let Ok(shape) = Shape::parse(&file.compact)
        && found.iter().all(|known| known.shape != shape)
    {
        found.push(TopicSchema { says: format!("schema file {}, not registered yet", file.path.display()), shape });
    }
    found
}

/// `None`: the client cannot be made, which is a finding already.
async fn latest(config: &LoadConfig, subject: &str) -> Option<Result<Option<SubjectVersion>, RegistryError>> {
    Some(Registry::new(&config.registry).ok()?.latest(subject).await)
}
