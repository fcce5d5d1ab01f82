//! HTTP clients for services of others: certificate authority, time-out, name, no redirects.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};

use crate::config::finding::with_causes;
use crate::runtime::pem;

/// What can be set about a client.
pub struct ClientOptions<'a> {
    /// Certificate authority of the server, PEM, trusted besides the system's.
    pub ca: Option<&'a Path>,
    /// How long one request may take, with its answer.
    pub timeout: Duration,
    /// Who asks.
    pub user_agent: String,
}

/// Why there is no client: which setting it is about, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPart {
    /// The authority's file.
    Ca,
    /// All together.
    Client,
}

/// A client for the server at `base`; connects to nothing yet. A redirect is an answer, never followed: another host would
/// receive what was meant for this one. Errors: in words.
pub fn client(base: &Url, options: ClientOptions<'_>) -> Result<Client, (ClientPart, String)> {
    // Needed once a process, and reqwest panics without it; `Err` only says that it was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder =
        Client::builder().timeout(options.timeout).user_agent(options.user_agent).redirect(redirect::Policy::none());
    if base.scheme() == "http" {
        // Otherwise a machine without any certificate store could not even speak plain HTTP.
        builder = builder.tls_certs_only([]);
    } else if let Some(file) = options.ca {
        builder = builder.tls_certs_merge(authorities(file).map_err(|what| (ClientPart::Ca, what))?);
    }
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| (ClientPart::Client, with_causes(&error)))
}

/// An `http://` or `https://` address without user name and password. Errors: in words, without the address.
pub fn base_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|e| format!("not an address: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("not an http:// or https:// address".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password".into());
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// Whether the address is of this machine.
pub fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
    })
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let authorities = pem::certificates(file)?;
    let authorities: Result<Vec<_>, _> = authorities.iter().map(|der| Certificate::from_der(der)).collect();
    authorities.map_err(|_| format!("{}: not a PEM file of certificates", file.display()))
}
