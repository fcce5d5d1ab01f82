//! One request to a geocoder, from question to judged answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};

use super::answer::{Answer, MOST_BYTES, judge};
use super::pace::retry_after;
use super::question::Question;
use crate::config::finding::with_causes;
use crate::config::{GeocoderConfig, GeocoderQuery};
use crate::runtime::http_client;
use crate::runtime::http_client::{ClientOptions, ClientPart};

/// A client of one server.
pub(super) struct GeocoderClient {
    client: Client,
    base: Url,
    style: GeocoderQuery,
}

impl GeocoderClient {
    /// Connects to nothing yet. Errors: key of the configuration, and what is wrong with it.
    pub(super) fn new(config: &GeocoderConfig) -> Result<Self, (&'static str, String)> {
        let base = http_client::base_url(&config.url).map_err(|what| ("place.geocoder.url", what))?;
        let ca = config.ca.as_ref().map(|file| file.relative());
        let options = ClientOptions {
            ca: ca.as_deref(),
            timeout: Duration::from_millis(config.timeout_ms),
            // Nominatim's usage policy asks for a name and a way to reach its owner.
            user_agent: format!("pressline/{} ({})", env!("CARGO_PKG_VERSION"), config.contact.trim()),
        };
        let client = http_client::client(&base, options).map_err(|(part, what)| match part {
            ClientPart::Ca => ("place.geocoder.ca", what),
            ClientPart::Client => ("place.geocoder", what),
        })?;
        Ok(Self { client, base, style: config.query })
    }

    /// `host:port`, or the host alone where the port is the scheme's own.
    pub(super) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Asks, and judges what comes back. Reads no more than an answer can have.
    pub(super) async fn ask(&self, question: &Question) -> Answer {
        match self.fetch(question).await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => Answer::Failed("no answer within timeout_ms".into(), None),
            // The address holds the names that were asked for.
            Err(error) => Answer::Failed(with_causes(&error.without_url()), None),
        }
    }

    async fn fetch(&self, question: &Question) -> Result<Answer, reqwest::Error> {
        let request = self.client.get(question.url(&self.base, self.style)).header("accept", "application/json");
        let mut response = request.send().await?;
        let status = response.status();
        let pause = asked_pause(response.headers());
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Ok(Answer::RateLimited(pause));
        }
        if status != StatusCode::OK {
            return Ok(Answer::Failed(format!("it answered {}", status.as_u16()), pause));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Ok(Answer::Unreadable("more than 256 KiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(judge(&body, question.country_code()))
    }
}

fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, seconds_now())
}

/// Seconds since 1970.
pub(super) fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
