//! What the tests of this module share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::config::sink::PostgresConfig;

/// A configuration with nothing but the address.
pub fn config(host: &str, port: u16, database: &str, user: &str) -> PostgresConfig {
    let text =
        format!("host = \"{host}\"\nport = {port}\ndatabase = \"{database}\"\nuser = \"{user}\"\ntable = \"t\"\n");
    figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(&text)).extract().unwrap()
}
