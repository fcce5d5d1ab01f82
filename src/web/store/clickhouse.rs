//! The statistics from the table of `[sink.clickhouse]`.

use serde_json::{Map, Value};

use crate::config::sink::ClickHouseConfig;
use crate::sink::clickhouse::{Client, literal, quoted};

use super::super::statistics::{COUNTRIES, Own, SamePlace, Statistics, place_name};

/// A question may take no longer: the page must come.
const REQUEST_MS: u64 = 4_000;

type Row = Map<String, Value>;

/// A client, made when it is needed.
pub struct ClickHouse {
    config: ClickHouseConfig,
    client: Option<Client>,
}

impl ClickHouse {
    /// Connects to nothing yet.
    pub fn new(config: &ClickHouseConfig) -> Self {
        let mut config = config.clone();
        config.timeout_ms = config.timeout_ms.min(REQUEST_MS);
        config.connect_timeout_ms = config.connect_timeout_ms.min(REQUEST_MS);
        Self { config, client: None }
    }

    fn column(&self, field: &str) -> String {
        quoted(self.config.columns.rename.get(field).map_or(field, String::as_str)).to_string()
    }

    fn table(&self) -> String {
        format!("{}.{}", quoted(&self.config.database), quoted(&self.config.table))
    }

    async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        if self.client.is_none() {
            self.client = Some(Client::open(&self.config).await.map_err(|error| error.to_string())?);
        }
        let Some(client) = &self.client else { return Ok(Vec::new()) };
        client.rows(sql).await.map_err(|error| error.to_string())
    }

    /// What is the same for all visitors.
    pub async fn common(&mut self) -> Result<Statistics, String> {
        let (table, action, cohort) = (self.table(), self.column("action"), self.column("cohort"));
        let (country, time, zone) = (self.column("country_name"), self.column("timestamp"), self.column("time_zone"));
        let longitude = self.column("longitude");
        let pressed = format!("FROM {table} WHERE {action} = 'PressButton'");
        let all = self.rows(&format!("SELECT count() AS n, countIf(isNull({cohort})) AS generated {pressed}")).await?;
        let top = format!(
            "SELECT {country} AS name, count() AS n {pressed} GROUP BY name ORDER BY n DESC, name LIMIT {COUNTRIES}"
        );
        let countries = self.rows(&top).await?;
        // As in sql/questions: a zone that the server does not know counts as none, for which the longitude stands. A setting
        // would be refused to a user who may only read.
        let by_hour = format!(
            "SELECT multiIf(is_known, toInt32(formatDateTime(pressed_at, '%H', known_zone)), east IS NOT NULL, \
             toInt32(toHour(addMicroseconds(pressed_at, toInt64(round(ifNull(east, 0) / 15 * 3600000000))), 'UTC')), NULL) \
             AS hour, count() AS n FROM (SELECT {time} AS pressed_at, {longitude} AS east, \
             ifNull(toString({zone}), '') AS own_zone, own_zone IN (SELECT time_zone FROM system.time_zones) AS is_known, \
             if(is_known, own_zone, 'UTC') AS known_zone {pressed}) WHERE hour IS NOT NULL GROUP BY hour"
        );
        let mut hours = vec![0; 24];
        for row in self.rows(&by_hour).await? {
            if let Some(count) = hours.get_mut(usize::try_from(number(&row, "hour")).unwrap_or(24)) {
                *count = number(&row, "n");
            }
        }
        let none = Row::new();
        let totals = all.first().unwrap_or(&none);
        Ok(Statistics {
            own: None,
            presses: number(totals, "n"),
            generated: number(totals, "generated"),
            countries: countries.iter().map(|row| (place_name(text(row, "name")), number(row, "n"))).collect(),
            hours,
        })
    }

    /// One session. `Ok(None)`: nothing of it has come through yet.
    pub async fn own(&mut self, session: &str) -> Result<Option<Own>, String> {
        let (table, time, action) = (self.table(), self.column("timestamp"), self.column("action"));
        let of_session = format!("FROM {table} WHERE {} = {}", self.column("session_id"), literal(session));
        let began = format!(
            "SELECT formatDateTime(min({time}), '%Y-%m-%d %H:%i:%S UTC', 'UTC') AS since, count() AS events, \
             countIf({action} = 'PressButton') AS n {of_session}"
        );
        let began = self.rows(&began).await?;
        let Some(began) = began.first().filter(|row| number(row, "events") > 0) else { return Ok(None) };
        let (code, country) = (self.column("country_code"), self.column("country_name"));
        let (subdivision, city) = (self.column("subdivision_name"), self.column("city_name"));
        let last = format!(
            "SELECT toString({code}) AS code, {country} AS p1, {subdivision} AS p2, {city} AS p3 {of_session} AND \
             {action} = 'PressButton' ORDER BY {time} DESC LIMIT 1"
        );
        let last = self.rows(&last).await?;
        let mut places = Vec::new();
        if let Some(row) = last.first() {
            let is = |column: &str, name: &str| format!("{column} = {}", literal(text(row, name)));
            let mut depth = format!("{action} = 'PressButton' AND {}", is(&code, "code"));
            for (name, condition) in [("p1", None), ("p2", Some(is(&subdivision, "p2"))), ("p3", Some(is(&city, "p3")))]
            {
                if condition.is_some() && text(row, name).is_empty() {
                    continue;
                }
                if let Some(condition) = condition {
                    depth = format!("{depth} AND {condition}");
                }
                let count = format!(
                    "SELECT countIf({time} > now() - INTERVAL 1 HOUR) AS hour, count() AS n FROM {table} WHERE {depth}"
                );
                let counted = self.rows(&count).await?;
                let none = Row::new();
                let counted = counted.first().unwrap_or(&none);
                let (hour, all) = (number(counted, "hour"), number(counted, "n"));
                places.push(SamePlace { name: place_name(text(row, name)), hour, all });
            }
        }
        Ok(Some(Own { since: text(began, "since").into(), presses: number(began, "n"), places }))
    }
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Numbers of 64 bits are texts in some versions' JSON.
fn number(row: &Row, name: &str) -> u64 {
    let value = row.get(name);
    value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())).unwrap_or_default()
}
