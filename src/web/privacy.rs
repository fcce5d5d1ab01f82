//! What the running configuration says about visitors' data: the facts of the privacy statement.

use crate::config::sink::LoadConfig;
use crate::config::topic::TopicSettings;
use crate::config::{PipelineConfig, WebConfig};
use crate::runtime::terminal::counted;

/// What is stored where, for `/about`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Who answers for it.
    pub operator: String,
    /// Days of the cookie.
    pub cookie_days: u32,
    /// The topic with addresses.
    pub source: String,
    /// How long it keeps them, in words.
    pub source_kept: String,
    /// The topic without.
    pub output: String,
    /// How long it keeps records, in words; empty where it is not said.
    pub output_kept: String,
    /// How exact places are, one sentence each.
    pub places: Vec<String>,
    /// Databases that the output goes to.
    pub sinks: Vec<String>,
    /// Another service that is asked about places, in words; empty without one.
    pub geocoder: String,
    /// Credits that the place data asks for.
    pub credits: Vec<Credit>,
}

/// A credit, whose address is shown as a link: DB-IP's licence asks for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// What stands before the address.
    pub before: String,
    /// The address; empty where the credit has none.
    pub url: String,
    /// What stands after it.
    pub after: String,
}

impl Credit {
    /// From its text.
    fn of(text: &str) -> Self {
        let (before, rest) = text.split_at(text.find("https://").unwrap_or(text.len()));
        let (url, after) = rest.split_at(rest.find([' ', ',', ')']).unwrap_or(rest.len()));
        Self { before: before.into(), url: url.into(), after: after.into() }
    }
}

impl Facts {
    /// From the configuration of the page, the relay and its sinks.
    pub fn of(web: &WebConfig, relay: &PipelineConfig, load: Option<&LoadConfig>, credits: &[String]) -> Self {
        let place = &relay.place;
        let mut places = Vec::new();
        if place.min_addresses > 0 {
            places.push(format!(
                "A city with fewer than {} addresses is given as its region, and that as its country, so that nobody can be meant alone.",
                place.min_addresses
            ));
        }
        if place.round_coordinates > 0.0 {
            places.push(format!("Coordinates are rounded to {} degrees.", place.round_coordinates));
        }
        let kept = |settings: &TopicSettings| settings.0.get("retention.ms").and_then(|ms| ms.parse().ok()).map(span);
        let source_kept = match (kept(&relay.source.create.settings), relay.source.max_raw_retention_ms) {
            (_, Some(ms)) => format!("for at most {}", span(ms)),
            (Some(kept), None) => {
                format!("for {kept}, and for a few hours more where that is how the topic is cut into files")
            }
            (None, None) => "for as long as that topic is set to".into(),
        };
        let mut sinks = Vec::new();
        if let Some(load) = load {
            sinks.extend(load.sink.postgres.as_ref().map(|sink| format!("PostgreSQL, table {}", sink.table)));
            sinks.extend(load.sink.clickhouse.as_ref().map(|sink| format!("ClickHouse, table {}", sink.table)));
        }
        let geocoder = match &place.geocoder {
            Some(_) => "Names of cities without known coordinates are looked up with a geocoding service; your address is not part of the question.".into(),
            None => String::new(),
        };
        Self {
            operator: web.operator.clone().unwrap_or_default(),
            cookie_days: web.cookie_days,
            source: relay.source.topic.clone(),
            source_kept,
            output: relay.output.topic.clone(),
            output_kept: kept(&relay.output.create.settings).unwrap_or_default(),
            places,
            sinks,
            geocoder,
            credits: credits.iter().map(|credit| Credit::of(credit)).collect(),
        }
    }
}

/// A length of time in words.
fn span(ms: u64) -> String {
    match ms {
        ms if ms >= 86_400_000 && ms % 86_400_000 == 0 => counted(ms / 86_400_000, "day"),
        ms if ms >= 3_600_000 => counted(ms / 3_600_000, "hour"),
        ms => counted(ms / 60_000, "minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_a_credit_is_a_link() {
        let parts = |text: &str| {
            let Credit { before, url, after } = Credit::of(text);
            [before, url, after]
        };
        assert_eq!(
            parts("IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0"),
            ["IP Geolocation by DB-IP (", "https://db-ip.com", "), CC BY 4.0"]
        );
        assert_eq!(parts("available from https://www.maxmind.com"), ["available from ", "https://www.maxmind.com", ""]);
        assert_eq!(parts("nobody's"), ["nobody's", "", ""]);
    }

    #[test]
    fn spans_are_told_in_words() {
        assert_eq!(span(259_200_000), "3 days");
        assert_eq!(span(3_600_000), "1 hour");
        assert_eq!(span(90_000), "1 minute");
    }
}
