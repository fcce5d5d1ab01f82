//! Sinks without a database: whether the settings of a sink fit what the relay in the same file writes.

use super::changes::Asked;
use super::output::Output;
use super::{Report, Subject};
use crate::avro::Shape;
use crate::config::finding::Finding;
use crate::config::sink::{ClickHouseConfig, LoadConfig, PostgresConfig};
use crate::sink::changes::plain_key;
use crate::sink::postgres::sink::SECTION as POSTGRES;
use crate::sink::postgres::{TableName, create_table_sql};
use crate::sink::{Columns, RecordTypes, clickhouse};

/// Compares each sink with the output's schema.
pub fn check(subject: &Subject<'_, LoadConfig>, output: &Output, report: &mut Report) {
    if !RecordTypes::of(subject.config).hold(&output.schema) {
        return;
    }
    // One that cannot be read is a finding of the relay.
    let Ok(shape) = Shape::registered(&output.schema) else { return };
    let postgres = subject.config.sink.postgres.as_ref().map(|sink| ("postgres", of_postgres(subject, sink, &shape)));
    let clickhouse =
        subject.config.sink.clickhouse.as_ref().map(|sink| ("clickhouse", of_clickhouse(subject, sink, &shape)));
    for (sink, findings) in postgres.into_iter().chain(clickhouse) {
        if !findings.iter().any(Finding::is_error) {
            report.ok(subject.line(format_args!("sink.{sink}: settings fit {}", output.says)));
        }
        report.findings.extend(findings);
    }
}

fn of_postgres(subject: &Subject<'_, LoadConfig>, sink: &PostgresConfig, value: &Shape) -> Vec<Finding> {
    let asked = Asked { sink: "postgres", config: sink.changes(), is_stamped: false, columns: &sink.columns };
    // A name that is none is a finding of the configuration.
    let Ok(name) = TableName::parse(&sink.table) else { return Vec::new() };
    let columns = Columns::new(&sink.columns, POSTGRES);
    let mut findings = columns.unknown_fields(value, &name.to_string());
    match written(&asked, subject, value) {
        Err(finding) => findings.push(finding),
        Ok((shape, _)) if sink.auto_create => {
            findings.extend(create_table_sql(&shape, &name, &columns).err().unwrap_or_default());
        }
        Ok((shape, _)) => findings.extend(columns.assign(&shape, &name.to_string(), |_, _| None).1),
    }
    findings
}

fn of_clickhouse(subject: &Subject<'_, LoadConfig>, sink: &ClickHouseConfig, value: &Shape) -> Vec<Finding> {
    let asked = Asked { sink: "clickhouse", config: sink.changes(), is_stamped: true, columns: &sink.columns };
    let table = format!("{}.{}", sink.database, sink.table);
    let columns = Columns::new(&sink.columns, clickhouse::session::SECTION);
    let mut findings = columns.unknown_fields(value, &table);
    match written(&asked, subject, value) {
        Err(finding) => findings.push(finding),
        Ok((shape, key)) if sink.auto_create => {
            findings.extend(clickhouse::create_table(&shape, sink, &key).err().unwrap_or_default());
        }
        Ok((shape, _)) => findings.extend(columns.assign(&shape, &table, |_, _| None).1),
    }
    findings
}

/// What goes into the table, and the columns of its key. A key in Avro has a schema that only the registry knows: without it, the
/// value alone is looked at.
fn written(
    asked: &Asked<'_>,
    subject: &Subject<'_, LoadConfig>,
    value: &Shape,
) -> Result<(Shape, Vec<String>), Finding> {
    let key = plain_key(asked.config.key_format).filter(|_| asked.config.reads_keys());
    if !asked.config.is_upsert() || asked.config.reads_keys() && key.is_none() {
        return Ok((value.clone(), Vec::new()));
    }
    let change = asked.change(subject, key.as_ref(), value)?;
    Ok((change.shape, change.key))
}
