//! The statistics from the table of `[sink.postgres]`.

use crate::config::sink::PostgresConfig;
use crate::sink::postgres::{Connection, TableName, quote_name, quote_text};

use super::super::statistics::{COUNTRIES, Own, SamePlace, Statistics, place_name};

/// A question may take no longer: the page must come, and the sink has the same server.
const STATEMENT_MS: u64 = 4_000;

/// One connection, opened when it is needed.
pub struct Postgres {
    config: PostgresConfig,
    connection: Option<Connection>,
}

impl Postgres {
    /// Connects to nothing yet.
    pub fn new(config: &PostgresConfig) -> Self {
        let mut config = config.clone();
        config.statement_timeout_ms = config.statement_timeout_ms.min(STATEMENT_MS);
        config.connect_timeout_ms = config.connect_timeout_ms.min(STATEMENT_MS);
        Self { config, connection: None }
    }

    fn column(&self, field: &str) -> String {
        quote_name(self.config.columns.rename.get(field).map_or(field, String::as_str))
    }

    fn table(&self) -> Result<String, String> {
        Ok(TableName::parse(&self.config.table)?.to_string())
    }

    /// Rows as texts, null as the empty one. What PostgreSQL says of an error can hold values and stays out of it.
    async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let open = self.connection.take().filter(|connection| !connection.is_closed());
        let connection = match open {
            Some(connection) => connection,
            None => Connection::open(&self.config, "web").await.map_err(|error| error.to_string())?,
        };
        // Not kept when it fails or is not awaited to its end.
        let rows = connection.rows(sql).await.map_err(|error| error.to_string())?;
        self.connection = Some(connection);
        let texts = |row: &tokio_postgres::SimpleQueryRow| {
            (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_string()).collect()
        };
        Ok(rows.iter().map(texts).collect())
    }

    /// What is the same for all visitors.
    pub async fn common(&mut self) -> Result<Statistics, String> {
        let (table, action, cohort) = (self.table()?, self.column("action"), self.column("cohort"));
        let (country, time, zone) = (self.column("country_name"), self.column("timestamp"), self.column("time_zone"));
        let longitude = self.column("longitude");
        let pressed = format!("FROM {table} WHERE {action} = 'PressButton'");
        let all = self.rows(&format!("SELECT count(*), count(*) FILTER (WHERE {cohort} IS NULL) {pressed}")).await?;
        let top = format!("SELECT {country}, count(*) {pressed} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {COUNTRIES}");
        let countries = self.rows(&top).await?;
        // As in sql/questions: a zone that the server does not know counts as none, for which the longitude stands.
        let by_hour = format!(
            "WITH zones(known_zone) AS MATERIALIZED (SELECT name FROM pg_timezone_names) \
             SELECT CASE WHEN known_zone IS NOT NULL THEN extract(hour FROM {time} AT TIME ZONE known_zone) \
             ELSE extract(hour FROM {time} AT TIME ZONE 'UTC' + {longitude} / 15 * interval '1 hour') END::int, count(*) \
             FROM {table} LEFT JOIN zones ON known_zone = {zone} WHERE {action} = 'PressButton' GROUP BY 1"
        );
        let mut hours = vec![0; 24];
        for row in self.rows(&by_hour).await? {
            // Null where neither is known.
            if let Some(count) = text(&row, 0).parse().ok().and_then(|hour: usize| hours.get_mut(hour)) {
                *count = number(&row, 1);
            }
        }
        let totals = all.first().map(Vec::as_slice).unwrap_or_default();
        Ok(Statistics {
            own: None,
            presses: number(totals, 0),
            generated: number(totals, 1),
            countries: countries.iter().map(|row| (place_name(text(row, 0)), number(row, 1))).collect(),
            hours,
        })
    }

    /// One session. `Ok(None)`: nothing of it has come through yet.
    pub async fn own(&mut self, session: &str) -> Result<Option<Own>, String> {
        let (table, time, action) = (self.table()?, self.column("timestamp"), self.column("action"));
        let of_session = format!("FROM {table} WHERE {} = {}", self.column("session_id"), quote_text(session));
        let began = format!(
            "SELECT to_char(min({time}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), \
             count(*) FILTER (WHERE {action} = 'PressButton') {of_session}"
        );
        let began = self.rows(&began).await?;
        let began = began.first().map(Vec::as_slice).unwrap_or_default();
        if text(began, 0).is_empty() {
            return Ok(None);
        }
        let (code, country) = (self.column("country_code"), self.column("country_name"));
        let (subdivision, city) = (self.column("subdivision_name"), self.column("city_name"));
        let last = format!(
            "SELECT {code}, {country}, {subdivision}, {city} {of_session} AND {action} = 'PressButton' ORDER BY {time} DESC LIMIT 1"
        );
        let last = self.rows(&last).await?;
        let mut places = Vec::new();
        if let Some(row) = last.first() {
            let is = |column: &str, at: usize| format!("{column} = {}", quote_text(text(row, at)));
            let mut depth = format!("{action} = 'PressButton' AND {}", is(&code, 0));
            let deeper = [(1, None), (2, Some(is(&subdivision, 2))), (3, Some(is(&city, 3)))];
            for (at, condition) in deeper {
                if at > 1 && text(row, at).is_empty() {
                    continue;
                }
                if let Some(condition) = condition {
                    depth = format!("{depth} AND {condition}");
                }
                let count = format!(
                    "SELECT count(*) FILTER (WHERE {time} > now() - interval '1 hour'), count(*) FROM {table} WHERE {depth}"
                );
                let counted = self.rows(&count).await?;
                let counted = counted.first().map(Vec::as_slice).unwrap_or_default();
                places.push(SamePlace {
                    name: place_name(text(row, at)),
                    hour: number(counted, 0),
                    all: number(counted, 1),
                });
            }
        }
        Ok(Some(Own { since: text(began, 0).into(), presses: number(began, 1), places }))
    }
}

fn text(row: &[String], at: usize) -> &str {
    row.get(at).map(String::as_str).unwrap_or_default()
}

fn number(row: &[String], at: usize) -> u64 {
    text(row, at).parse().unwrap_or_default()
}
