//! The grants that a sink needs, and which of them its user lacks.

use std::fmt;

use serde::Deserialize;

use super::types::quoted;
use super::{ChError, Client};
use crate::config::sink::ClickHouseConfig;

/// `SYNTAX_ERROR`: a server before 24.11, which does not know CHECK GRANT.
const SYNTAX_ERROR: u32 = 62;

/// A grant, as it stands between `GRANT` and `TO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant(String);

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the load does: it inserts, asks whether a predecessor's insert still runs, and reads which offsets it left behind;
/// before that it reads the table's deduplication window. The two system tables are closed by
/// `select_from_system_db_requires_grant`, which the configuration that comes with the server switches on.
pub fn needed(config: &ClickHouseConfig) -> Vec<Grant> {
    let table = format!("{}.{}", quoted(&config.database), quoted(&config.table));
    let mut grants = vec![format!("INSERT ON {table}"), "SELECT ON system.merge_tree_settings".into()];
    if config.is_told() {
        grants.push(format!("SELECT(_topic, _partition, _offset) ON {table}"));
        grants.push("SELECT ON system.processes".into());
    }
    if config.auto_evolve {
        grants.push(format!("ALTER ADD COLUMN ON {table}"));
    }
    grants.into_iter().map(Grant).collect()
}

/// The statements that give them, one a line.
pub fn statements(grants: &[Grant], user: &str) -> String {
    let user = quoted(user).to_string();
    grants.iter().map(|grant| format!("GRANT {grant} TO {user};")).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
struct Checked {
    result: u8,
}

impl Client {
    /// Those that the user lacks; `None` where the server cannot be asked. Errors: any [`ChError`].
    pub async fn lacking(&self, grants: Vec<Grant>) -> Result<Option<Vec<Grant>>, ChError> {
        let mut lacking = Vec::new();
        for grant in grants {
            let checked: Vec<Checked> = match self.answer(&format!("CHECK GRANT {grant}")).await {
                Err(error) if error.code == Some(SYNTAX_ERROR) => return Ok(None),
                answer => answer?,
            };
            if checked.first().is_none_or(|checked| checked.result == 0) {
                lacking.push(grant);
            }
        }
        Ok(Some(lacking))
    }
}
