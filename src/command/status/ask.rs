//! The daemons and their answers.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Serialize;

use super::{StatusArgs, StatusError};
use crate::config::finding::with_causes;
use crate::config::load::{self, Sources};
use crate::daemon::report::{FORM, ProcessReport};
use crate::runtime::http_client::{self, ClientOptions};

/// How long a daemon may take; all of its answer is in its memory.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon that can be asked.
#[derive(Clone)]
pub struct Daemon {
    /// Its address, for people.
    pub url: String,
    page: Url,
    client: Client,
}

/// What a daemon answered.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Its address.
    pub url: String,
    /// What it reports; `None`: see `error`.
    pub status: Option<ProcessReport>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The daemons that the arguments name, else the one of the configuration.
pub fn daemons(args: &StatusArgs) -> Result<Vec<Daemon>, StatusError> {
    if !args.url.is_empty() {
        return args.url.iter().map(|url| Daemon::at(url)).collect();
    }
    let sources = Sources { shared: args.config.clone(), sets: args.sets.clone(), ..Sources::default() };
    let mut listen = load::process(&sources).map_err(StatusError::Findings)?.http.listen;
    if listen.port() == 0 {
        return Err(StatusError::Address(
            "http.listen: port 0 is a free one that nobody knows here\n    name the address that the daemon's log tells with --url"
                .into(),
        ));
    }
    if listen.ip().is_unspecified() {
        // Every address of the machine is also this one.
        listen.set_ip(if listen.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    Ok(vec![Daemon::at(&format!("http://{listen}"))?])
}

impl Daemon {
    fn at(text: &str) -> Result<Self, StatusError> {
        let bad = |what: String| StatusError::Address(format!("--url {text}: {what}"));
        // A password in an address must not be repeated.
        let base = http_client::base_url(text).map_err(|what| StatusError::Address(format!("--url: {what}")))?;
        let options = ClientOptions {
            ca: None,
            timeout: TIMEOUT,
            user_agent: format!("pressline-status/{}", env!("CARGO_PKG_VERSION")),
        };
        let client = http_client::client(&base, options).map_err(|(_, what)| bad(what))?;
        let page = base.join("/status").map_err(|error| bad(error.to_string()))?;
        Ok(Self { url: base.as_str().trim_end_matches('/').to_string(), page, client })
    }

    /// Asks it. What goes wrong is in the answer.
    pub async fn ask(self) -> Answer {
        match self.report().await {
            Ok(report) => Answer { url: self.url, status: Some(report), error: None },
            Err(error) => self.failed(error),
        }
    }

    /// It could not be asked.
    pub fn failed(&self, error: String) -> Answer {
        Answer { url: self.url.clone(), status: None, error: Some(error) }
    }

    async fn report(&self) -> Result<ProcessReport, String> {
        let failed = |error: reqwest::Error| {
            let cure =
                if error.is_timeout() { "see what holds it up" } else { "is it running, and is that its http.listen?" };
            format!("no pressline answers: {}; {cure}", with_causes(&error.without_url()))
        };
        let answer = self.client.get(self.page.clone()).send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err("it has no /status: another server, or an older pressline".into()),
            other => return Err(format!("it answers {other}")),
        }
        let report: ProcessReport = answer
            .json()
            .await
            .map_err(|error| format!("its answer is not pressline's: {}", with_causes(&error.without_url())))?;
        if report.form != FORM {
            return Err(format!(
                "its /status has form {}, this pressline knows form {FORM}; use the pressline of the daemon's version, {}",
                report.form, report.version
            ));
        }
        Ok(report)
    }
}
