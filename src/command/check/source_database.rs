//! The database whose changes a topic has: what Debezium lacks there, and the statement that cures it. Nothing is changed there.

use super::postgres::trouble;
use super::source_facts::{Facts, Slot, Table};
use super::{Report, Subject};
use crate::config::changes::Toast;
use crate::config::finding::Severity;
use crate::config::sink::LoadConfig;
use crate::config::source_database::SourceDatabaseConfig;
use crate::sink::postgres::{Connection, TableName, quote_name, quote_text};

/// What is lacking: how bad it is, the key of `[source.database]`, what it is, what cures it.
type Lack = (Severity, &'static str, String, String);

/// What the pipeline makes of the changes, and so what they must hold.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// A row of each change, not a table that is kept equal.
    is_log: bool,
    /// A value that an update left as it was makes a dead letter.
    needs_all_values: bool,
    /// Truncates are applied or stop the sink.
    needs_truncates: bool,
}

/// Connects and looks.
pub async fn check(subject: &Subject<'_, LoadConfig>, config: &SourceDatabaseConfig, report: &mut Report) {
    let name = match table_of(config, subject.config.topic()) {
        Ok(name) => name,
        Err((what, cure)) => return report.findings.push(subject.error("source.database.table", what, cure)),
    };
    let server = config.server();
    let connection = match Connection::open_at(&server, subject.name).await {
        Ok(connection) => connection,
        Err(error) => return report.findings.push(trouble(subject, server.role, &error)),
    };
    let place = connection.place().to_string();
    let role = if config.role.is_empty() { &config.user } else { &config.role };
    let facts = match Facts::read(&connection, role, &name, &config.publication, &config.slot).await {
        Ok(facts) => facts,
        Err(error) => return report.findings.push(trouble(subject, server.role, &error)),
    };
    report.ok(subject.line(format_args!("{place}: the source, connected as {}", config.user)));
    let lacks = lacks(&facts, config, role, &name, uses(subject.config));
    if lacks.is_empty() {
        let slot = &config.slot;
        report.ok(subject
            .line(format_args!("{place}: slot {slot} follows table {name} by publication {}", config.publication)));
    }
    for (severity, key, what, cure) in lacks {
        let key = if key.is_empty() { "source.database".into() } else { format!("source.database.{key}") };
        let what = format!("{place}: {what}");
        report.findings.push(match severity {
            Severity::Error => subject.error(&key, what, cure),
            Severity::Warning => subject.warning(&key, what, cure),
        });
    }
}

/// The table that the configuration names, or the topic's name. Errors: neither does, and what to do.
fn table_of(config: &SourceDatabaseConfig, topic: &str) -> Result<TableName, (String, &'static str)> {
    let cure = "name it as schema.table";
    if !config.table.is_empty() {
        return TableName::parse(&config.table).map_err(|what| (what, cure));
    }
    let mut parts = topic.rsplit('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(table), Some(schema), Some(_)) => Ok(TableName { schema: Some(schema.into()), table: table.into() }),
        _ => Err((
            format!("not set, and the name of topic {topic} is not PREFIX.SCHEMA.TABLE, as Debezium writes it"),
            cure,
        )),
    }
}

fn uses(config: &LoadConfig) -> Use {
    let postgres = config.sink.postgres.as_ref().map(|sink| sink.changes());
    let clickhouse = config.sink.clickhouse.as_ref().map(|sink| sink.changes());
    let mut sinks = postgres.iter().chain(&clickhouse);
    Use {
        is_log: config.format().log.is_some(),
        needs_all_values: sinks.any(|sink| sink.toast == Toast::Refuse),
        needs_truncates: config.heeds_truncates(),
    }
}

fn lacks(facts: &Facts, config: &SourceDatabaseConfig, role: &str, name: &TableName, used: Use) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if facts.wal_level != "logical" {
        lacks.push((
            Severity::Error,
            "",
            format!("wal_level is {}, so that the log does not hold what the connector reads", facts.wal_level),
            "ALTER SYSTEM SET wal_level = 'logical', and start the server again".into(),
        ));
    }
    of_role(facts, role, &mut lacks);
    let shown = name.to_string();
    if facts.tables.is_none() {
        let what = format!("there is no table {shown} in the database");
        lacks.push((Severity::Error, "table", what, "correct source.database.table or database".into()));
    }
    for table in facts.tables.iter().flatten() {
        of_table(table, role, used, &mut lacks);
    }
    of_publication(facts, config, name, used, &mut lacks);
    of_slot(facts, config, &mut lacks);
    lacks
}

fn of_role(facts: &Facts, role: &str, lacks: &mut Vec<Lack>) {
    let quoted = quote_name(role);
    match facts.may_replicate {
        None => lacks.push((
            Severity::Error,
            "role",
            format!("there is no role {quoted}, or it may not log in"),
            format!("CREATE ROLE {quoted} LOGIN REPLICATION PASSWORD '...', or correct source.database.role"),
        )),
        Some(false) => lacks.push((
            Severity::Error,
            "role",
            format!("role {quoted} has not the right REPLICATION, without which the connector gets no slot"),
            format!("ALTER ROLE {quoted} REPLICATION"),
        )),
        Some(true) => {}
    }
}

fn of_table(table: &Table, role: &str, used: Use, lacks: &mut Vec<Lack>) {
    let name = &table.name;
    let full = format!("ALTER TABLE {name} REPLICA IDENTITY FULL");
    if table.is_unlogged {
        let what = format!("table {name} is unlogged: its changes are in no log");
        lacks.push((Severity::Error, "table", what, format!("ALTER TABLE {name} SET LOGGED")));
    }
    if !table.has_key && !used.is_log {
        lacks.push((
            Severity::Error,
            "table",
            format!("table {name} has no primary key, so that its records have no key, which mode = \"upsert\" needs"),
            format!(
                "ALTER TABLE {name} ADD PRIMARY KEY (...); or name unique columns in the connector's message.key.columns; or load a \
                 log of the changes by mode = \"insert\""
            ),
        ));
    }
    if !table.has_identity {
        let why = if table.identity == "n" {
            "REPLICA IDENTITY NOTHING"
        } else {
            "no primary key and REPLICA IDENTITY DEFAULT"
        };
        lacks.push((
            Severity::Error,
            "table",
            format!("table {name} has {why}: once it is published, PostgreSQL refuses its updates and deletes"),
            full.clone(),
        ));
    } else if used.is_log && table.identity != "f" {
        lacks.push((
            Severity::Warning,
            "table",
            format!("a delete from table {name} brings only the columns of its replica identity, the others as null or as their default"),
            full.clone(),
        ));
    }
    if used.needs_all_values && table.identity != "f" && !table.large.is_empty() {
        lacks.push((
            Severity::Warning,
            "table",
            format!(
                "an update that leaves a large value of {} in table {name} as it is does not bring it (TOAST): a dead letter \
                 (unavailable_value)",
                table.large
            ),
            format!("{full}; or see the sink's `toast`"),
        ));
    }
    if !table.is_readable {
        let what = format!("role {} may not read table {name}, as a snapshot does", quote_name(role));
        let quoted = quote_name(role);
        let cure = format!("GRANT USAGE ON SCHEMA {} TO {quoted}; GRANT SELECT ON {name} TO {quoted}", table.schema);
        lacks.push((Severity::Error, "role", what, cure));
    }
}

fn of_publication(facts: &Facts, config: &SourceDatabaseConfig, name: &TableName, used: Use, lacks: &mut Vec<Lack>) {
    let quoted = quote_name(&config.publication);
    let Some(publication) = &facts.publication else {
        return lacks.push((
            Severity::Error,
            "publication",
            format!("there is no publication {quoted}"),
            format!("CREATE PUBLICATION {quoted} FOR TABLE {name}, or correct source.database.publication"),
        ));
    };
    if facts.tables.is_some() && !publication.lacking.is_empty() {
        let tables = publication.lacking.join(", ");
        let what = format!("publication {quoted} has not table {tables}");
        lacks.push((Severity::Error, "publication", what, format!("ALTER PUBLICATION {quoted} ADD TABLE {name}")));
    }
    if publication.is_filtered {
        lacks.push((
            Severity::Warning,
            "publication",
            format!("publication {quoted} has a WHERE for table {name}: rows that it leaves out, and changes that move a row there, do not come"),
            format!("ALTER PUBLICATION {quoted} SET TABLE {name}, unless that is meant"),
        ));
    }
    let needed = [("insert", true), ("update", true), ("delete", true), ("truncate", used.needs_truncates)];
    let missing = needed.iter().filter(|(what, is_needed)| *is_needed && !publication.publishes.contains(what));
    let missing: Vec<&str> = missing.map(|(what, _)| *what).collect();
    if !missing.is_empty() {
        lacks.push((
            Severity::Error,
            "publication",
            format!("publication {quoted} does not publish {}", missing.join(", ")),
            format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate')"),
        ));
    }
}

fn of_slot(facts: &Facts, config: &SourceDatabaseConfig, lacks: &mut Vec<Lack>) {
    let name = quote_name(&config.slot);
    let drop = format!("SELECT pg_drop_replication_slot({})", quote_text(&config.slot));
    let Some(slot) = &facts.slot else {
        let cure = match facts.free_slots {
            0 => {
                "first make room: ALTER SYSTEM SET max_replication_slots, and start the server again; then start the connector"
            }
            _ => "start the connector, which makes it; or correct source.database.slot",
        };
        return lacks.push((
            Severity::Warning,
            "slot",
            format!("there is no replication slot {name} yet"),
            cure.into(),
        ));
    };
    if let Some(what) = of_another(slot) {
        let cure = format!("give the connector another slot.name, and source.database.slot the same; or {drop}");
        return lacks.push((Severity::Error, "slot", format!("replication slot {name} {what}"), cure));
    }
    let kept = slot.retained_bytes >> 20;
    if slot.wal_status == "lost" {
        lacks.push((
            Severity::Error,
            "slot",
            format!("replication slot {name} is lost: WAL that it needs was removed (max_slot_wal_keep_size)"),
            format!("{drop}, and have the connector take a new snapshot, into a new table: rows that were deleted meanwhile are told by nobody"),
        ));
    } else if !slot.is_active {
        lacks.push((
            Severity::Warning,
            "slot",
            format!(
                "replication slot {name} is inactive: no connector reads it, and {kept} MiB of WAL are kept for it"
            ),
            format!("start the connector; if the slot is of no use any more: {drop}"),
        ));
    }
    if slot.wal_status != "lost" && kept >= config.max_retained_wal_mb {
        let limit = config.max_retained_wal_mb;
        lacks.push((
            Severity::Warning,
            "slot",
            format!("replication slot {name} holds back {kept} MiB of WAL (source.database.max_retained_wal_mb: {limit}), which fills the disk"),
            "see why the connector does not confirm: one that is stopped, or a quiet table beside busy ones, which \
             heartbeat.interval.ms with heartbeat.action.query cures; ALTER SYSTEM SET max_slot_wal_keep_size bounds it, at the price \
             of a lost slot"
                .into(),
        ));
    }
}

/// Why the slot is none of the connector's.
fn of_another(slot: &Slot) -> Option<String> {
    if slot.kind != "logical" {
        Some("is a physical one".into())
    } else if !slot.is_here {
        Some("is of another database".into())
    } else if slot.plugin != "pgoutput" {
        Some(format!("has the plugin {}, expected pgoutput", slot.plugin))
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::source_facts::Publication;
    use super::*;

    fn config(more: &str) -> SourceDatabaseConfig {
        let text = format!("database = \"shop\"\nuser = \"u\"\n{more}");
        let figment = figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(&text));
        figment.extract().unwrap()
    }

    /// Nothing is lacking.
    fn facts() -> Facts {
        let table = Table {
            name: "s.t".into(),
            identity: "f".into(),
            has_identity: true,
            has_key: true,
            is_readable: true,
            ..Table::default()
        };
        let publishes = vec!["insert", "update", "delete", "truncate"];
        let slot = Slot {
            kind: "logical".into(),
            plugin: "pgoutput".into(),
            is_here: true,
            is_active: true,
            wal_status: "reserved".into(),
            retained_bytes: 1 << 20,
        };
        Facts {
            wal_level: "logical".into(),
            may_replicate: Some(true),
            tables: Some(vec![table]),
            publication: Some(Publication { publishes, ..Publication::default() }),
            slot: Some(slot),
            free_slots: 1,
        }
    }

    fn said(facts: &Facts, used: Use) -> Vec<(&'static str, String, String)> {
        let name = TableName { schema: Some("s".into()), table: "t".into() };
        let lacks = lacks(facts, &config(""), "debezium", &name, used);
        lacks.into_iter().map(|(_, key, what, cure)| (key, what, cure)).collect()
    }

    #[test]
    fn what_no_test_makes_a_server_lack_is_said() {
        assert_eq!(said(&facts(), Use::default()), []);
        let found = said(&Facts { wal_level: "replica".into(), ..facts() }, Use::default());
        assert!(found.len() == 1 && found[0].1.starts_with("wal_level is replica"), "{found:?}");
        assert_eq!(found[0].2, "ALTER SYSTEM SET wal_level = 'logical', and start the server again");
        let slot = |change: fn(&mut Slot)| {
            let mut facts = facts();
            change(facts.slot.as_mut().unwrap());
            said(&facts, Use::default())
        };
        let lost = slot(|slot| slot.wal_status = "lost".into());
        assert!(lost.len() == 1 && lost[0].1.contains("is lost") && lost[0].2.contains("new snapshot"), "{lost:?}");
        let full = slot(|slot| slot.retained_bytes = 5 << 30);
        assert!(full.len() == 1 && full[0].1.contains("holds back 5120 MiB of WAL"), "{full:?}");
        let other = slot(|slot| slot.plugin = "decoderbufs".into());
        assert!(other.len() == 1 && other[0].1.contains("plugin decoderbufs, expected pgoutput"), "{other:?}");
        let crowded = said(&Facts { slot: None, free_slots: 0, ..facts() }, Use::default());
        assert!(crowded.len() == 1 && crowded[0].2.starts_with("first make room"), "{crowded:?}");
    }

    #[test]
    fn what_is_lacking_depends_on_what_is_made_of_the_changes() {
        let mut facts = facts();
        let table = &mut facts.tables.as_mut().unwrap()[0];
        (table.identity, table.large) = ("d".into(), "note".into());
        let keys =
            |used: Use| said(&facts, used).into_iter().map(|(_, what, _)| what).collect::<Vec<String>>().join("; ");
        assert_eq!(keys(Use::default()), "");
        assert!(keys(Use { needs_all_values: true, ..Use::default() }).contains("a large value of note"));
        assert!(
            keys(Use { is_log: true, ..Use::default() }).contains("brings only the columns of its replica identity")
        );
        let mut facts = self::facts();
        facts.publication.as_mut().unwrap().publishes.pop();
        assert_eq!(said(&facts, Use::default()), []);
        assert!(
            said(&facts, Use { needs_truncates: true, ..Use::default() })[0].1.contains("does not publish truncate")
        );
    }

    #[test]
    fn the_table_is_named_by_the_topic_unless_by_the_file() {
        let name = |config: &SourceDatabaseConfig, topic| table_of(config, topic).map(|name| name.to_string());
        assert_eq!(name(&config(""), "shop.eu.public.orders").unwrap(), "\"public\".\"orders\"");
        assert_eq!(name(&config("table = \"a.b\""), "orders").unwrap(), "\"a\".\"b\"");
        assert!(name(&config(""), "public.orders").unwrap_err().0.contains("is not PREFIX.SCHEMA.TABLE"));
    }
}
