//! A ClickHouse sink against its live table. No row is written there.

use super::table_plan::{TablePlan, TopicSchema, statement_to_add};
use super::{Report, Subject};
use crate::avro::Shape;
use crate::config::finding::Finding;
use crate::config::sink::{ClickHouseConfig, LoadConfig, WriteMode};
use crate::runtime::terminal::counted;
use crate::sink::clickhouse::session::SECTION;
use crate::sink::clickhouse::{BlockPlan, ChError, Client, ErrorClass, Grant, Table, Undefined, create_table};
use crate::sink::{Columns, DatabaseKind, clickhouse, make_table};

/// Connects and looks at the table.
pub async fn check(
    subject: &Subject<'_, LoadConfig>,
    config: &ClickHouseConfig,
    schemas: &[TopicSchema],
    key: &[String],
    report: &mut Report,
) {
    let looked = async {
        let client = Client::open(config).await?;
        report.ok(subject.line(format_args!("ClickHouse {}: connected as {}", client.address(), config.user)));
        let needed = clickhouse::needed(config);
        if let Some(lacking) = client.lacking(needed).await?.filter(|lacking| !lacking.is_empty()) {
            report.findings.push(without(subject, config, &lacking));
            // Without one of them the table cannot be asked about, or looks as if it were not there.
            return Ok(());
        }
        match Table::describe(&client, &config.database, &config.table).await? {
            Some(table) => look(subject, (config, key), schemas, &client, &table, report).await,
            None => missing(subject, (config, key), schemas, &client, report).await,
        }
    };
    if let Err(error) = looked.await {
        report.findings.push(trouble(subject, &error));
    }
}

fn without(subject: &Subject<'_, LoadConfig>, config: &ClickHouseConfig, lacking: &[Grant]) -> Finding {
    let what = format!("user {} lacks {}", config.user, counted(lacking.len(), "grant"));
    let cure = format!("let an administrator run:\n{}", clickhouse::statements(lacking, &config.user));
    subject.error("sink.clickhouse.user", what, cure)
}

async fn look(
    subject: &Subject<'_, LoadConfig>,
    (config, key): (&ClickHouseConfig, &[String]),
    schemas: &[TopicSchema],
    client: &Client,
    table: &Table,
    report: &mut Report,
) -> Result<(), ChError> {
    let title = format!("{}.{}", table.database, table.name);
    let columns = Columns::new(&config.columns, SECTION);
    report.findings.extend(match config.mode {
        WriteMode::Insert => table.refusals(config.delivery),
        WriteMode::Upsert => table.refusals_of_upserts(key),
    });
    for schema in schemas {
        let (lines, mut findings) = BlockPlan::examine(&schema.shape, table, &columns);
        if let Some(ddl) = clickhouse::add_lacking(table, &schema.shape, &columns, key, &findings)
            && config.auto_evolve
        {
            report.will_evolve(subject, &title, &ddl, &mut findings);
        }
        findings.extend(columns.unknown_fields(&schema.shape, &table.place()));
        report.compared(
            subject,
            schema,
            TablePlan::new(subject.name, DatabaseKind::ClickHouse, title.clone(), schema, lines),
            findings,
        );
    }
    client.try_empty_insert(table).await?;
    if config.is_told() {
        client.try_recovery(table, subject.config.topic()).await?;
    }
    report.ok(subject.line(format_args!("table {title}: the user may insert and read")));
    Ok(())
}

/// The table is not there: how to make it, or what the load will make.
async fn missing(
    subject: &Subject<'_, LoadConfig>,
    (config, columns): (&ClickHouseConfig, &[String]),
    schemas: &[TopicSchema],
    client: &Client,
    report: &mut Report,
) -> Result<(), ChError> {
    let key = "sink.clickhouse.table";
    let (database, table) = (&config.database, &config.table);
    let hint = clickhouse::another_name(database, table, &client.alike(database, table).await?);
    let no_table = format!("ClickHouse {}: there is no table {database}.{table}{hint}", client.address());
    let Some(schema) = schemas.first() else {
        if config.auto_create {
            report.ok(subject.line(format_args!("{no_table}: auto_create makes it for the first record")));
            return Ok(());
        }
        let cure = "make it; this check prints the statement once the topic has a schema";
        report.findings.push(subject.error(key, no_table, cure));
        return Ok(());
    };
    let definition = match create_table(&schema.shape, config, columns) {
        Ok(definition) => definition,
        Err(findings) => {
            report.findings.extend(findings);
            return Ok(());
        }
    };
    match client.try_define(&definition).await {
        Err(Undefined::Refused(words)) => {
            let cure = format!("fix sink.clickhouse.order_by and partition_by; the statement is:\n{};", definition.sql);
            report.findings.push(subject.error("sink.clickhouse.order_by", words, cure));
        }
        Err(Undefined::Failed(error)) => return Err(error),
        Ok(()) if config.auto_create => {
            report.ok(subject.line(format_args!("{no_table}; it will be made at start:\n{};", definition.sql)));
        }
        Ok(()) => report.findings.push(subject.error(key, no_table, make_table(SECTION, &definition.sql))),
    }
    Ok(())
}

/// The statement that adds what the live table lacks for a record; empty where it lacks nothing, `None` where there is no table. Errors:
/// anything else does not fit; the server cannot be asked.
pub(super) async fn lacks(
    subject: &Subject<'_, LoadConfig>,
    config: &ClickHouseConfig,
    (shape, key): (&Shape, &[String]),
) -> Result<Option<String>, Vec<Finding>> {
    let read = async { Table::describe(&Client::open(config).await?, &config.database, &config.table).await };
    let Some(table) = read.await.map_err(|error| vec![trouble(subject, &error)])? else { return Ok(None) };
    let columns = Columns::new(&config.columns, SECTION);
    let (_, findings) = BlockPlan::examine(shape, &table, &columns);
    statement_to_add(clickhouse::add_lacking(&table, shape, &columns, key, &findings), findings).map(Some)
}

/// An error of the server or the way to it, at the key that it is about.
fn trouble(subject: &Subject<'_, LoadConfig>, error: &ChError) -> Finding {
    let key = match (error.code, error.class) {
        // Its place is the key.
        (_, ErrorClass::Configuration) => return subject.error(&error.place, &error.what, error.cure),
        (Some(81), _) => "sink.clickhouse.database",
        (_, ErrorClass::Authentication) => "sink.clickhouse.user",
        (_, ErrorClass::Schema) => "sink.clickhouse.table",
        _ => "sink.clickhouse.url",
    };
    subject.error(key, format!("{}: {}", error.place, error.what), error.cure)
}
