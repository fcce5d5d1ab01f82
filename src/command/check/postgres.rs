//! A PostgreSQL sink against its live tables. Nothing is changed there.

use super::table_plan::{TablePlan, TopicSchema, statement_to_add};
use super::{Report, Subject};
use crate::avro::Shape;
use crate::config::finding::Finding;
use crate::config::postgres_server::ServerRole;
use crate::config::sink::{LoadConfig, PostgresConfig};
use crate::sink::postgres::sink::SECTION;
use crate::sink::postgres::{
    Connection, CopyPlan, ErrorClass, Offsets, PgError, RowKey, Table, TableName, create_table_sql, with_primary_key,
};
use crate::sink::{Columns, DatabaseKind, make_table};

/// What is asked about one sink.
struct Inquiry<'a> {
    subject: &'a Subject<'a, LoadConfig>,
    config: &'a PostgresConfig,
    schemas: &'a [TopicSchema],
    /// In mode `upsert`, the columns of the key.
    key: &'a [String],
    connection: Connection,
}

/// Connects and looks at both tables.
pub async fn check(
    subject: &Subject<'_, LoadConfig>,
    config: &PostgresConfig,
    schemas: &[TopicSchema],
    key: &[String],
    report: &mut Report,
) {
    let connection = match Connection::open(config, subject.name).await {
        Ok(connection) => connection,
        Err(error) => return report.findings.push(trouble(subject, ServerRole::Sink, &error)),
    };
    report.ok(subject.line(format_args!("{}: connected as {}", connection.place(), config.user)));
    let inquiry = Inquiry { subject, config, schemas, key, connection };
    for answer in [inquiry.writable(report).await, inquiry.table(report).await, inquiry.positions(report).await] {
        if let Err(error) = answer {
            report.findings.push(trouble(subject, ServerRole::Sink, &error));
        }
    }
}

impl Inquiry<'_> {
    async fn writable(&self, report: &mut Report) -> Result<(), PgError> {
        if self.connection.is_read_only().await? {
            report.findings.push(self.subject.error(
                "sink.postgres.host",
                format!("{}: the server or the user may only read (a standby?)", self.connection.place()),
                "name the primary, or ALTER ROLE the user SET default_transaction_read_only = off",
            ));
        }
        Ok(())
    }

    async fn table(&self, report: &mut Report) -> Result<(), PgError> {
        let name = match TableName::parse(&self.config.table) {
            Ok(name) => name,
            Err(what) => {
                report.findings.push(self.subject.error("sink.postgres.table", what, "name a table"));
                return Ok(());
            }
        };
        let read = Table::read(&self.connection, &name).await?;
        let Some(mut table) = read else { return self.missing(&name, report).await };
        if !self.key.is_empty() {
            report.findings.extend(RowKey::read(&self.connection, &table, self.key).await?.1);
        }
        let columns = Columns::new(&self.config.columns, SECTION);
        table.read_defaults(&self.connection, &columns.with_defaults()).await?;
        for schema in self.schemas {
            let (lines, mut findings) = CopyPlan::examine(&schema.shape, &table, &columns);
            if let Some(ddl) = table.add_columns_sql(&schema.shape, &columns, self.key, &findings)
                && self.config.auto_evolve
            {
                report.will_evolve(self.subject, &table.title(), &ddl, &mut findings);
            }
            findings.extend(columns.unknown_fields(&schema.shape, &table.title()));
            report.compared(
                self.subject,
                schema,
                TablePlan::new(self.subject.name, DatabaseKind::Postgres, table.title(), schema, lines),
                findings,
            );
        }
        Ok(())
    }

    /// The table is not there: how to make it, or whether the load can.
    async fn missing(&self, name: &TableName, report: &mut Report) -> Result<(), PgError> {
        let (subject, place) = (self.subject, self.connection.place());
        let other = Table::in_other_case(&self.connection, name).await?;
        let no_table = format!("{place}: there is no table {name}{}", other.as_deref().unwrap_or_default());
        let Some(schema) = self.schemas.first() else {
            if self.config.auto_create {
                report.ok(subject.line(format_args!("{no_table}: auto_create makes it for the first record")));
                return Ok(());
            }
            let cure = "make it; this check prints the statement once the topic has a schema";
            report.findings.push(subject.error("sink.postgres.table", no_table, cure));
            return Ok(());
        };
        let columns = Columns::new(&self.config.columns, SECTION);
        let ddl = create_table_sql(&schema.shape, name, &columns);
        match ddl.map(|ddl| if self.key.is_empty() { ddl } else { with_primary_key(&ddl, self.key) }) {
            Err(findings) => report.findings.extend(findings),
            Ok(ddl) if !self.config.auto_create => {
                report.findings.push(subject.error("sink.postgres.table", no_table, make_table(SECTION, &ddl)));
            }
            Ok(_) if other.is_some() => report.findings.push(subject.warning(
                "sink.postgres.table",
                format!("{no_table}; auto_create will make another one beside it"),
                "write the name as the table has it, or leave it if both are meant",
            )),
            Ok(ddl) if self.connection.may_create(name).await? => {
                report.ok(subject.line(format_args!("{no_table}; it will be made at start:\n{ddl};")));
            }
            Ok(ddl) => {
                let what = format!("{no_table}, and the user may not make it (auto_create)");
                let cure = format!("GRANT CREATE ON SCHEMA to the user, or let an owner run:\n{ddl};");
                report.findings.push(subject.error("sink.postgres.auto_create", what, cure));
            }
        }
        Ok(())
    }

    /// The table of positions.
    async fn positions(&self, report: &mut Report) -> Result<(), PgError> {
        let (subject, key, shown) = (self.subject, "sink.postgres.offsets_table", &self.config.offsets_table);
        let parsed = TableName::parse(shown)
            .and_then(|name| Ok((name, Offsets::new(shown, subject.name, subject.config.topic(), "")?)));
        let (name, offsets) = match parsed {
            Ok(parsed) => parsed,
            Err(what) => {
                report.findings.push(subject.error(key, what, "name a table"));
                return Ok(());
            }
        };
        let Some(table) = offsets.table(&self.connection).await? else {
            if self.connection.may_create(&name).await? {
                report
                    .ok(subject.line(format_args!("table of positions {name} is not there, it will be made at start")));
            } else {
                let what = format!("there is no table of positions {name}, and the user may not make it");
                let cure = format!("let an owner run:\n{};", offsets.ddl());
                report.findings.push(subject.error(key, what, cure));
            }
            return Ok(());
        };
        let lacking = self.connection.lacks(&table, &["SELECT", "INSERT", "UPDATE"]).await?;
        if lacking.is_empty() {
            report.ok(subject.line(format_args!("table of positions {}", table.title())));
        } else {
            let lacking = lacking.join(", ");
            let what = format!("the user lacks {lacking} on the table of positions {}", table.title());
            report.findings.push(subject.error(key, what, format!("GRANT {lacking} ON {} TO the user", table.name)));
        }
        Ok(())
    }
}

/// The statement that adds what the live table lacks for a record; empty where it lacks nothing, `None` where there is no table. Errors:
/// anything else does not fit; the database cannot be asked.
pub(super) async fn lacks(
    subject: &Subject<'_, LoadConfig>,
    config: &PostgresConfig,
    name: &TableName,
    (shape, key): (&Shape, &[String]),
) -> Result<Option<String>, Vec<Finding>> {
    let read = async { Table::read(&Connection::open(config, subject.name).await?, name).await };
    let Some(table) = read.await.map_err(|error| vec![trouble(subject, ServerRole::Sink, &error)])? else {
        return Ok(None);
    };
    let columns = Columns::new(&config.columns, SECTION);
    let (_, findings) = CopyPlan::examine(shape, &table, &columns);
    statement_to_add(table.add_columns_sql(shape, &columns, key, &findings), findings).map(Some)
}

/// An error of the database or the way to it, at the key that it is about.
pub(super) fn trouble(subject: &Subject<'_, LoadConfig>, role: ServerRole, error: &PgError) -> Finding {
    let (section, variable) = (role.section(), role.password_variable());
    let password =
        || format!("set the right password in {section}.password_file or the environment variable {variable}");
    let (key, cure) = match (error.sqlstate.as_deref(), error.class) {
        (Some("28P01"), _) => ("password_file", password()),
        (Some("28000"), _) => ("user", "let the user in (pg_hba.conf), with TLS or without (sslmode)".into()),
        (Some("42501"), _) => ("user", "let an owner GRANT it: USAGE on the schema, INSERT on the table".into()),
        (Some("3D000"), _) => ("database", format!("CREATE DATABASE, or fix {section}.database")),
        (Some("3F000"), _) => ("table", "CREATE SCHEMA, or fix the schema's name".into()),
        (Some("08P01"), ErrorClass::Authentication) => ("user", "see the pooler's configuration".into()),
        (Some("08P01"), ErrorClass::Schema) => ("host", "see the pooler's configuration".into()),
        (None, ErrorClass::Authentication) if error.what.starts_with(&format!("{section}.password_file")) => (
            "password_file",
            "name a file with the password in one line, which the user who runs pressline may read".into(),
        ),
        (None, ErrorClass::Authentication) if error.what.starts_with("authentication") => ("password_file", password()),
        (None, ErrorClass::Authentication) => ("sslmode", format!("see {section}.sslmode, ca, certificate and key")),
        (None, ErrorClass::Transient) => {
            ("host", format!("start the server, fix {section}.host and port, or open the port"))
        }
        (_, ErrorClass::Schema) if role == ServerRole::Sink => {
            ("offsets_table", "name another table, or make it as expected".into())
        }
        _ => ("host", "see to the server".into()),
    };
    subject.error(&format!("{section}.{key}"), error.to_string(), cure)
}
