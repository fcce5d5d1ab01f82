//! Asking brokers for the first time: why none answers, and what to do.
//!
//! Of a wrong password or certificate librdkafka's own answer says only that it timed out; the cause comes as an event before.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::statistics::Statistics;

use super::client::{self, METADATA_TIMEOUT};

/// Between two looks at what librdkafka complained about.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Brokers that cannot be reached may be starting; so long is waited for them.
const STARTS_WITHIN: Duration = Duration::from_secs(3);

/// Why a broker does not answer as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It refuses user, password or mechanism.
    Credentials,
    /// We do not trust its certificate.
    Authority,
    /// Its certificate is for another name.
    CertificateName,
    /// It does not take our certificate, or wants one.
    ClientCertificate,
    /// The port does not speak TLS, and we do.
    NoTls,
    /// The port seems to speak TLS or SASL, and we do not.
    OtherProtocol,
    /// Its name is not known.
    Name,
    /// Nobody listens there.
    Refused,
    /// Something else, mostly silence.
    Unknown,
}

impl Cause {
    /// By librdkafka's words. Not by the address before them: its scheme (`sasl_ssl://`) names what is not at fault.
    pub fn of(code: Option<RDKafkaErrorCode>, reason: &str) -> Self {
        let words =
            reason.split_once("://").and_then(|(_, rest)| rest.split_once(": ")).map_or(reason, |(_, said)| said);
        let words = words.to_lowercase();
        let has = |all: &[&str]| all.iter().any(|word| words.contains(word));
        if has(&["failed to resolve", "name or service not known", "nodename nor servname"]) {
            Self::Name
        } else if has(&["hostname mismatch", "ip address mismatch", "host name mismatch"]) {
            Self::CertificateName
        } else if has(&[
            "wrong version number",
            "record layer failure",
            "packet length too long",
            "plaintext broker listener",
        ]) {
            Self::NoTls
        } else if has(&[
            "certificate required",
            "alert bad certificate",
            "alert unknown ca",
            "alert certificate",
            "handshake failure",
        ]) {
            Self::ClientCertificate
        } else if has(&[
            "certificate verify failed",
            "broker certificate could not be verified",
            "unable to get local issuer",
        ]) {
            Self::Authority
        } else if has(&["security.protocol", "connecting to a ssl listener", "apiversion", "sasl_plaintext listener"]) {
            Self::OtherProtocol
        } else if code == Some(RDKafkaErrorCode::Authentication) || has(&["sasl", "authentication"]) {
            Self::Credentials
        } else if has(&["connection refused"]) {
            Self::Refused
        } else {
            Self::Unknown
        }
    }

    /// What to do.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Credentials => {
                "set kafka.sasl (mechanism, username, and its password in kafka.sasl.password_file or \
                 PRESSLINE__KAFKA__SASL__PASSWORD) to what the broker takes"
            }
            Self::Authority => "set kafka.tls.ca to the authority that signed the broker's certificate",
            Self::CertificateName => "use a host name in kafka.bootstrap_servers that the broker's certificate is for",
            Self::ClientCertificate => {
                "set kafka.tls.certificate and kafka.tls.key to a certificate that the broker takes"
            }
            Self::NoTls => "use the broker's TLS port in kafka.bootstrap_servers, or remove kafka.tls",
            Self::OtherProtocol => "set kafka.tls or kafka.sasl as the port asks for, or use the broker's plain port",
            Self::Name => "correct the host name in kafka.bootstrap_servers",
            Self::Refused => "start the broker, or correct host and port in kafka.bootstrap_servers",
            Self::Unknown => {
                "see whether the broker runs, whether kafka.bootstrap_servers is right and the port is open"
            }
        }
    }

    /// Whether a broker that is only starting does not answer so.
    fn is_final(self) -> bool {
        !matches!(self, Self::Refused | Self::Unknown | Self::OtherProtocol)
    }
}

/// No broker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// What librdkafka said.
    pub reason: String,
    /// Why that is.
    pub cause: Cause,
}

impl Unreachable {
    /// As a finding of one line and a line of what to do.
    pub fn at(&self, servers: &str) -> String {
        format!("no broker at {servers} answers: {}\n    {}", self.reason, self.cause.fix())
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.cause.fix())
    }
}

/// Context of a client that is made to ask one thing. It keeps what librdkafka complains about.
#[derive(Default)]
pub struct Probe {
    complaints: Mutex<Complaints>,
}

#[derive(Default)]
struct Complaints {
    /// The first that tells most.
    worst: Option<Unreachable>,
    all_down: bool,
}

impl ClientContext for Probe {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(client = "probe", %error, reason, "librdkafka reports an error");
        let Ok(mut complaints) = self.complaints.lock() else { return };
        let code = error.rdkafka_error_code();
        // That all brokers are down is the consequence; the cause came before it.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            complaints.all_down = true;
            return;
        }
        let cause = Cause::of(code, reason);
        let tells_more = complaints.worst.as_ref().is_none_or(|known| !known.cause.is_final() && cause.is_final());
        if tells_more {
            complaints.worst = Some(Unreachable { reason: reason.to_string(), cause });
        }
    }
}

impl ConsumerContext for Probe {}

/// What the brokers know of a topic, or of all. Blocks for ten seconds at most, and ends earlier where waiting cannot change
/// the answer.
pub fn reach(probe: &BaseConsumer<Probe>, topic: Option<&str>) -> Result<Metadata, Unreachable> {
    let begun = Instant::now();
    loop {
        let error = match probe.client().fetch_metadata(topic, LOOK_EVERY) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        // An error ends a poll early, so more than one.
        for _ in 0..5 {
            let _ = probe.poll(Duration::ZERO);
        }
        let waited = begun.elapsed();
        let (worst, all_down) = match probe.context().complaints.lock() {
            Ok(complaints) => (complaints.worst.clone(), complaints.all_down),
            Err(_) => (None, false),
        };
        let is_over = match worst.as_ref().map(|worst| worst.cause) {
            Some(cause) if all_down => cause.is_final() || waited > STARTS_WITHIN,
            _ => false,
        };
        if is_over || waited > METADATA_TIMEOUT {
            let unknown = || Unreachable { reason: error.to_string(), cause: Cause::Unknown };
            return Err(worst.unwrap_or_else(unknown));
        }
    }
}

/// What librdkafka has complained about to a probe, and what to do.
pub fn complaint(probe: &BaseConsumer<Probe>) -> Option<String> {
    // Its complaints wait in a queue until somebody polls. An error ends a poll early, so more than one.
    for _ in 0..10 {
        let _ = probe.poll(Duration::from_millis(10));
    }
    probe.context().complaints.lock().ok().and_then(|complaints| complaints.worst.as_ref().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_the_address_is_no_cause() {
        let at = "sasl_ssl://kafka:9093/bootstrap: ";
        let auth = Some(RDKafkaErrorCode::Authentication);
        for (code, said, cause) in [
            (
                auth,
                "SASL authentication error: Authentication failed: Invalid username or password",
                Cause::Credentials,
            ),
            (
                auth,
                "SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL mechanism",
                Cause::Credentials,
            ),
            (
                None,
                "Failed to resolve 'kafka:9093': Name or service not known (after 3ms in state CONNECT)",
                Cause::Name,
            ),
            (None, "Connect to ipv4#127.0.0.1:9093 failed: Connection refused (after 0ms)", Cause::Refused),
            (
                Some(RDKafkaErrorCode::SSL),
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be \
                 verified, verify that ssl.ca.location is correctly configured",
                Cause::Authority,
            ),
            (
                Some(RDKafkaErrorCode::SSL),
                "SSL handshake failed: error:0A00010B:SSL routines::wrong version number: connecting to a PLAINTEXT broker \
                 listener?",
                Cause::NoTls,
            ),
            (
                None,
                "Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration",
                Cause::OtherProtocol,
            ),
            (None, "ssl/tls alert certificate required", Cause::ClientCertificate),
            (None, "Connection setup timed out in state CONNECT", Cause::Unknown),
        ] {
            assert_eq!(Cause::of(code, &format!("{at}{said}")), cause, "{said}");
        }
    }
}
