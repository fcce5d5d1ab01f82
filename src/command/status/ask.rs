//! The daemons and their answers.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DaemonArgs, StatusError};
use crate::config::finding::with_causes;
use crate::config::load::{self, Sources};
use crate::daemon::http::RELOAD_HEADER;
use crate::daemon::reload::ReloadReport;
use crate::daemon::report::{FORM, ProcessReport};
use crate::runtime::http_client::{self, ClientOptions};

/// How long a daemon may take; all of its answer is in its memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to read its configuration, with brokers that are asked for the topics of a pattern.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon that can be asked.
#[derive(Clone)]
pub struct Daemon {
    /// Its address, for people.
    pub url: String,
    base: Url,
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
pub fn daemons(args: &DaemonArgs) -> Result<Vec<Daemon>, StatusError> {
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
        Ok(Self { url: base.as_str().trim_end_matches('/').to_string(), base, client })
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

    /// Has it read its configuration again, and says what came of it. Errors: it cannot be asked, or does not do it.
    pub async fn reload(&self) -> Result<ReloadReport, String> {
        let request = self.client.request(Method::POST, self.page("/reload")?).header(RELOAD_HEADER, "1");
        self.answer("/reload", request.timeout(RELOAD_TIMEOUT)).await
    }

    fn page(&self, path: &str) -> Result<Url, String> {
        self.base.join(path).map_err(|error| error.to_string())
    }

    async fn answer<T: DeserializeOwned>(&self, path: &str, request: RequestBuilder) -> Result<T, String> {
        let failed = |error: reqwest::Error| {
            let cure =
                if error.is_timeout() { "see what holds it up" } else { "is it running, and is that its http.listen?" };
            format!("no pressline answers: {}; {cure}", with_causes(&error.without_url()))
        };
        let answer = request.send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(format!("it has no {path}: another server, or an older pressline")),
            StatusCode::SERVICE_UNAVAILABLE => return Err("it stops, or is a process that reads no pipelines".into()),
            other => return Err(format!("it answers {other}")),
        }
        answer
            .json()
            .await
            .map_err(|error| format!("its answer is not pressline's: {}", with_causes(&error.without_url())))
    }

    async fn report(&self) -> Result<ProcessReport, String> {
        let report: ProcessReport = self.answer("/status", self.client.get(self.page("/status")?)).await?;
        if report.form != FORM {
            return Err(format!(
                "its /status has form {}, this pressline knows form {FORM}; use the pressline of the daemon's version, {}",
                report.form, report.version
            ));
        }
        Ok(report)
    }
}
