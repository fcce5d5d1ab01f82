//! What the sinks' tables of the configuration say about changes.

use super::changes::{ChangesConfig, Fault, WriteMode};
use super::sink::{ClickHouseConfig, ClickHouseDelivery, PostgresConfig};

impl PostgresConfig {
    /// What it says about changes.
    pub fn changes(&self) -> ChangesConfig {
        let Self { mode, deletes, pk_mode, pk_fields, key_format, .. } = self;
        let (mode, deletes, pk_mode, key_format) = (*mode, *deletes, *pk_mode, *key_format);
        ChangesConfig { mode, deletes, pk_mode, pk_fields: pk_fields.clone(), key_format }
    }
}

impl ClickHouseConfig {
    /// What it says about changes.
    pub fn changes(&self) -> ChangesConfig {
        let Self { mode, deletes, pk_mode, pk_fields, key_format, .. } = self;
        let (mode, deletes, pk_mode, key_format) = (*mode, *deletes, *pk_mode, *key_format);
        ChangesConfig { mode, deletes, pk_mode, pk_fields: pk_fields.clone(), key_format }
    }

    /// Whether the table tells which records are in it.
    pub fn is_told(&self) -> bool {
        self.delivery == ClickHouseDelivery::ExactlyOnce && self.mode == WriteMode::Insert
    }

    /// What of its other keys contradicts an upsert.
    pub fn faults_of_changes(&self) -> Vec<Fault> {
        let mut faults = self.changes().faults();
        if self.mode == WriteMode::Upsert {
            if self.delivery == ClickHouseDelivery::Deduplicated {
                let what = "has no effect in mode = \"upsert\", which rests on the version of each row";
                faults.push(("delivery", what, "remove it"));
            }
            if !self.order_by.is_empty() {
                faults.push(("order_by", "in mode = \"upsert\" a table is ordered by its key", "remove it"));
            }
        }
        faults
    }
}
