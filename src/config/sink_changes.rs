//! What the sinks' tables of the configuration say about changes.

use super::changes::{ChangesConfig, Contradiction, KeyFormat, PkMode, Toast, WriteMode};
use super::format::{Envelope, Format, KeyConfig, Truncate};
use super::postgres_server::{PostgresServer, ServerRole};
use super::sink::{ClickHouseConfig, ClickHouseDelivery, LoadConfig, PostgresConfig};

impl PostgresConfig {
    /// How the server is reached.
    pub fn server(&self) -> PostgresServer {
        PostgresServer {
            role: ServerRole::Sink,
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            sslmode: self.sslmode,
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            statement_timeout_ms: self.statement_timeout_ms,
            connect_timeout_ms: self.connect_timeout_ms,
        }
    }

    /// What it says about changes.
    pub fn changes(&self) -> ChangesConfig {
        let Self { mode, deletes, pk_mode, pk_fields, key_format, toast, .. } = self;
        let (mode, deletes, pk_mode, key_format, toast) = (*mode, *deletes, *pk_mode, *key_format, *toast);
        ChangesConfig { mode, deletes, pk_mode, pk_fields: pk_fields.clone(), key_format, toast }
    }
}

impl ClickHouseConfig {
    /// What it says about changes.
    pub fn changes(&self) -> ChangesConfig {
        let Self { mode, deletes, pk_mode, pk_fields, key_format, toast, .. } = self;
        let (mode, deletes, pk_mode, key_format, toast) = (*mode, *deletes, *pk_mode, *key_format, *toast);
        ChangesConfig { mode, deletes, pk_mode, pk_fields: pk_fields.clone(), key_format, toast }
    }

    /// Whether the table tells which records are in it.
    pub fn is_told(&self) -> bool {
        self.delivery == ClickHouseDelivery::ExactlyOnce && self.mode == WriteMode::Insert
    }

    /// What of its other keys contradicts an upsert.
    pub fn faults_of_changes(&self) -> Vec<Contradiction> {
        let mut faults = self.changes().faults();
        if self.mode == WriteMode::Upsert {
            if self.delivery == ClickHouseDelivery::Deduplicated {
                let what = "has no effect in mode = \"upsert\", which rests on the version of each row";
                faults.push(("delivery", what, "remove it"));
            }
            if self.toast == Toast::Skip {
                let what = "\"skip\", but ClickHouse writes whole rows, and can leave no column of one as it is";
                let cure =
                    "remove it; ALTER TABLE ... REPLICA IDENTITY FULL at the source puts all values into the changes";
                faults.push(("toast", what, cure));
            }
            if !self.order_by.is_empty() {
                faults.push(("order_by", "in mode = \"upsert\" a table is ordered by its key", "remove it"));
            }
        }
        faults
    }
}

impl LoadConfig {
    /// What contradicts itself about the envelope around rows: keys, what is wrong, what to do.
    pub fn faults_of_envelope(&self) -> Vec<(String, &'static str, &'static str)> {
        let of_sinks = self.sinks_changes().flat_map(|(sink, changes)| {
            let faults = match self.envelope() {
                Envelope::None => self.faults_of_rows(&changes),
                Envelope::Debezium => self.faults_of_events(&changes),
            };
            faults.into_iter().map(move |(key, what, cure)| (format!("sink.{sink}.{key}"), what, cure))
        });
        let of_source =
            self.faults_of_source().into_iter().map(|(key, what, cure)| (format!("source.{key}"), what, cure));
        let of_database = self.source.iter().filter_map(|source| source.database.as_ref()).flat_map(|database| {
            let faults = database.faults(self.topics().is_some()).into_iter();
            faults.map(|(key, what, cure)| (format!("source.database.{key}"), what, cure))
        });
        of_source.chain(of_database).chain(of_sinks).collect()
    }

    /// Whether a sink applies its records as changes.
    pub(super) fn upserts(&self) -> bool {
        self.sinks_changes().any(|(_, changes)| changes.is_upsert())
    }

    /// Whether a truncate at the source does something here.
    pub fn heeds_truncates(&self) -> bool {
        self.truncate() != Truncate::Ignore
    }

    /// Whether a record without a value deletes a row.
    pub fn deletes(&self) -> bool {
        self.sinks_changes().any(|(_, changes)| changes.is_upsert() && changes.deletes)
    }

    /// What each sink says about changes.
    fn sinks_changes(&self) -> impl Iterator<Item = (&'static str, ChangesConfig)> {
        let postgres = self.sink.postgres.as_ref().map(|sink| ("postgres", sink.changes()));
        postgres.into_iter().chain(self.sink.clickhouse.as_ref().map(|sink| ("clickhouse", sink.changes())))
    }

    fn faults_of_source(&self) -> Vec<Contradiction> {
        let mut faults = Vec::new();
        if self.envelope() == Envelope::None && self.source.as_ref().is_some_and(|source| source.database.is_some()) {
            let cure = "set source.envelope = \"debezium\", or remove it";
            faults.push(("database", "has no effect: only of changes in an envelope the source is looked at", cure));
        }
        let keys = self.source.as_ref().map(|source| &source.key);
        if self.envelope() == Envelope::None {
            if self.truncate() != Truncate::default() {
                let cure = "set source.envelope = \"debezium\", or remove it";
                faults.push(("truncate", "has no effect: records have no envelope", cure));
            }
            let is_read = self.sinks_changes().any(|(_, changes)| changes.reads_keys());
            if keys.is_some_and(|keys| *keys != KeyConfig::default()) && !is_read {
                let cure = "set mode = \"upsert\" and pk_mode = \"record_key\"; or remove it";
                faults.push(("key", "has no effect: no sink reads the records' keys", cure));
            } else {
                faults.extend(self.faults_of_key());
            }
            return faults;
        }
        if self.format().log.is_some() {
            if keys.is_some_and(|keys| *keys != KeyConfig::default()) {
                let cure = "remove it; or set mode = \"upsert\" and pk_mode = \"record_key\", which keeps the table equal to its source";
                faults.push((
                    "key",
                    "has no effect: in mode = \"insert\" a log of the changes is written, and no key is read",
                    cure,
                ));
            }
        } else {
            faults.extend(self.faults_of_key());
        }
        if self.format().format == Format::JsonSchema {
            let cure = "set it to avro, connect_json or json, as the connector's value.converter has it";
            faults.push(("format", "\"json_schema\", which Debezium does not write", cure));
        }
        let keys = self.key_format();
        if self.format().are_changes() && keys.format == Format::Json && keys.fields.is_empty() {
            let what = "required and not set: JSON without its schema does not say what the keys are";
            faults.push((
                "key",
                what,
                "declare the primary key, such as key = { format = \"json\", fields = { id = \"long\" } }",
            ));
        }
        faults
    }

    /// Of `[source.key]`.
    fn faults_of_key(&self) -> Option<Contradiction> {
        let keys = &self.source.as_ref()?.key;
        let cure = match self.envelope() {
            Envelope::None => {
                "set it, such as source.key.format = \"json\"; unset, the sink's key_format says how keys are written"
            }
            Envelope::Debezium => {
                "set it, such as source.key.format = \"json\"; unset, keys are read as the values are"
            }
        };
        let what = "not set, so that source.key.fields and source.key.cast have no effect";
        (keys.format.is_none() && *keys != KeyConfig::default()).then_some(("key.format", what, cure))
    }

    fn faults_of_rows(&self, changes: &ChangesConfig) -> Vec<Contradiction> {
        let is_double = self.key_reader().is_some() && changes.key_format != KeyFormat::Avro;
        let cure = "remove it; source.key.format says how keys are written";
        let key_format = is_double.then_some(("key_format", "has no effect beside source.key.format", cure));
        let is_skipped = changes.is_upsert() && changes.toast == Toast::Skip;
        let cure = "set source.envelope = \"debezium\", or remove it";
        let toast = is_skipped.then_some(("toast", "has no effect: only changes in an envelope lack values", cure));
        key_format.into_iter().chain(toast).collect()
    }

    /// Of a sink of changes in an envelope.
    fn faults_of_events(&self, changes: &ChangesConfig) -> Vec<Contradiction> {
        match (changes.is_upsert(), self.format().log) {
            (true, _) => faults_of_changes(changes),
            (false, Some(_)) => Vec::new(),
            (false, None) => vec![(
                "mode",
                "\"insert\", a log of the changes, beside a sink that keeps its table equal to the source",
                "give the log a pipeline file of its own; or set mode = \"upsert\", pk_mode = \"record_key\" and deletes = true",
            )],
        }
    }
}

/// Of a sink that applies changes in an envelope.
fn faults_of_changes(changes: &ChangesConfig) -> Vec<Contradiction> {
    let mut faults = Vec::new();
    if changes.pk_mode == PkMode::RecordValue {
        let what = "\"record_value\", but a change says by its key which row it is about";
        faults.push(("pk_mode", what, "set it to \"record_key\""));
    }
    if changes.pk_mode == PkMode::RecordKey && !changes.deletes {
        faults.push(("deletes", "not set, so that rows deleted at the source would stay", "set deletes = true"));
    }
    if changes.key_format != KeyFormat::Avro {
        let cure = "remove it; source.key says how keys are written where it is not as the values";
        faults.push(("key_format", "has no effect beside source.envelope", cure));
    }
    faults
}
