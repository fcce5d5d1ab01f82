//! Where the statistics come from: a table that a sink fills, or what this process has read of the topic.

mod clickhouse;
mod memory;
mod postgres;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::hub::Hub;
use super::statistics::Statistics;
use crate::config::sink::LoadConfig;
use crate::config::web::StoreChoice;

use self::clickhouse::ClickHouse;
use self::postgres::Postgres;

/// How long a visitor waits, for the others before and for the database. Few ask it at once: one question at a time is enough.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what is the same for all visitors is shown before the database is asked again.
const KEEP: Duration = Duration::from_secs(5);

/// See the module.
pub enum Store {
    /// None: the page says so.
    Nothing,
    /// Of this process.
    Memory(Arc<Hub>),
    /// A database.
    Database(Box<Database>),
}

enum Sink {
    Postgres(Postgres),
    ClickHouse(ClickHouse),
}

/// A database, asked one question at a time.
pub struct Database {
    name: &'static str,
    inner: Mutex<Inner>,
}

struct Inner {
    sink: Sink,
    /// What is the same for all visitors, and when it was asked.
    common: Option<(Instant, Statistics)>,
}

/// The store does not answer; the reason is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent;

impl Store {
    /// What was chosen, of what the pipeline has. Errors: a sink was chosen that it has not, in words.
    pub fn of(choice: StoreChoice, load: Option<&LoadConfig>, hub: &Arc<Hub>) -> Result<Self, String> {
        let sinks = load.map(|load| &load.sink);
        let clickhouse = || {
            sinks.and_then(|sinks| sinks.clickhouse.as_ref()).map(|config| Sink::ClickHouse(ClickHouse::new(config)))
        };
        let postgres =
            || sinks.and_then(|sinks| sinks.postgres.as_ref()).map(|config| Sink::Postgres(Postgres::new(config)));
        let lacks = |sink: &str| {
            format!(
                "web.store = \"{sink}\", but the pipeline has no [sink.{sink}]\n    add that table, or set web.store = \"auto\""
            )
        };
        let sink = match choice {
            StoreChoice::None => return Ok(Self::Nothing),
            StoreChoice::Memory => None,
            StoreChoice::Auto => clickhouse().or_else(postgres),
            StoreChoice::Clickhouse => Some(clickhouse().ok_or_else(|| lacks("clickhouse"))?),
            StoreChoice::Postgres => Some(postgres().ok_or_else(|| lacks("postgres"))?),
        };
        Ok(match sink {
            None => Self::Memory(Arc::clone(hub)),
            Some(sink) => {
                let name = match sink {
                    Sink::Postgres(_) => "PostgreSQL",
                    Sink::ClickHouse(_) => "ClickHouse",
                };
                Self::Database(Box::new(Database { name, inner: Mutex::new(Inner { sink, common: None }) }))
            }
        })
    }

    /// Where the numbers come from, for people.
    pub fn source(&self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Memory(_) => "what this server has read of the topic since it started, and of the hour before",
            Self::Database(database) => database.name,
        }
    }

    /// The numbers for a session. `Ok(None)`: there is no store. Errors: it does not answer.
    pub async fn ask(&self, session: Option<&str>, now_ms: i64) -> Result<Option<Statistics>, Silent> {
        match self {
            Self::Nothing => Ok(None),
            Self::Memory(hub) => Ok(Some(hub.with_tally(|tally| memory::ask(tally, session, now_ms)))),
            Self::Database(database) => {
                let asked = tokio::time::timeout(PATIENCE, database.ask(session)).await;
                let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
                answer.map(Some).map_err(|reason| {
                    tracing::warn!(store = database.name, %reason, "the statistics cannot be asked for");
                    Silent
                })
            }
        }
    }
}

impl Database {
    async fn ask(&self, session: Option<&str>) -> Result<Statistics, String> {
        let inner = &mut *self.inner.lock().await;
        let common = match &inner.common {
            Some((at, common)) if at.elapsed() < KEEP => common.clone(),
            _ => {
                let asked = match &mut inner.sink {
                    Sink::Postgres(sink) => sink.common().await?,
                    Sink::ClickHouse(sink) => sink.common().await?,
                };
                inner.common = Some((Instant::now(), asked.clone()));
                asked
            }
        };
        let own = match (session, &mut inner.sink) {
            (None, _) => None,
            (Some(session), Sink::Postgres(sink)) => sink.own(session).await?,
            (Some(session), Sink::ClickHouse(sink)) => sink.own(session).await?,
        };
        Ok(Statistics { own, ..common })
    }
}
