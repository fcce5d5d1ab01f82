//! What can go wrong with the registry, and what to do about it.

use std::fmt;

/// "Invalid schema".
const INVALID_SCHEMA: u32 = 42_201;
/// "Operation not permitted": the mode of the subject, or of all, is READONLY.
const READ_ONLY: u32 = 42_205;

/// Every kind tells what pressline does next: wait, alarm and wait, or stop. Holds neither user name nor password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryError {
    /// Not reachable, too slow, overloaded or broken inside: time may cure it.
    Unavailable {
        /// Address.
        registry: String,
        /// What happened.
        reason: String,
    },
    /// The answer is not what the API promises (cut short, a proxy's page): time may cure it.
    Unreadable {
        /// Address.
        registry: String,
        /// What came instead, by kind.
        found: String,
    },
    /// 401 or 403: somebody has to change the password or the rights; we go on asking.
    Authentication {
        /// Address.
        registry: String,
        /// 401 or 403.
        status: u16,
    },
    /// The subject does not take the schema.
    Incompatible {
        /// Address.
        registry: String,
        /// Subject.
        subject: String,
        /// Its newest version, if that could be read.
        version: Option<u32>,
        /// The registry's reasons; may be empty.
        reasons: Vec<String>,
        /// Fields in which the newest version and ours differ.
        differences: Vec<String>,
    },
    /// The schema is not registered, and the configuration forbids to register it.
    NotRegistered {
        /// Address.
        registry: String,
        /// Subject.
        subject: String,
    },
    /// A registration is answered with "not found", or not taken at all: some registries do so to users without the right.
    MayNotRegister {
        /// Address.
        registry: String,
        /// Subject.
        subject: String,
        /// HTTP status.
        status: u16,
    },
    /// Any other refusal.
    Refused {
        /// Address.
        registry: String,
        /// HTTP status.
        status: u16,
        /// The API's own error code, such as 42201.
        code: Option<u32>,
        /// The registry's text.
        message: String,
    },
    /// The client cannot be made from the configuration.
    Configuration {
        /// Key, such as `registry.ca`.
        key: String,
        /// What is wrong with its value.
        what: String,
    },
}

impl RegistryError {
    pub(super) fn configuration(key: &str, what: impl Into<String>) -> Self {
        Self::Configuration { key: key.into(), what: what.into() }
    }

    /// Whether asking again later may help; the others stop the pipeline.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Unreadable { .. }
                | Self::Authentication { .. }
                | Self::MayNotRegister { .. }
                // One that is starting says so of what it has, and somebody may register it.
                | Self::NotRegistered { .. }
        )
    }

    /// The registry says that it has no such thing; a wrong path or a proxy's page, which are 404 too, say nothing of that.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404, code: Some(code), .. } if super::NOT_FOUND.contains(code))
    }

    /// What to do about it, one sentence.
    pub fn cure(&self) -> String {
        match self {
            Self::Unavailable { reason, .. } if reason.contains("certificate") => {
                "set registry.ca to the authority that signed the registry's certificate".into()
            }
            Self::Unavailable { .. } => "start it, or fix registry.url".into(),
            Self::Unreadable { .. } => {
                "see whether registry.url leads to the Confluent API (Apicurio: /apis/ccompat/v7 or v8) and no proxy is in between"
                    .into()
            }
            Self::Authentication { status: 401, .. } => {
                "set registry.username and its password (registry.password_file or PRESSLINE__REGISTRY__PASSWORD) to ones it takes".into()
            }
            Self::Authentication { .. } => "give this user the right to read and write the subject".into(),
            Self::Incompatible { .. } => {
                "change output.schema so that readers of the older version can go on, set another output.subject, or lower the subject's compatibility level".into()
            }
            Self::MayNotRegister { .. } => {
                "let the registry's user write the subject, or register the schema as another and set output.register = false"
                    .into()
            }
            Self::NotRegistered { .. } => "register the schema there, or set output.register = true".into(),
            absent if absent.is_absent() => {
                "register it there, or set registry.url to the registry that the records were written with".into()
            }
            Self::Refused { status: 404, .. } => {
                "set registry.url to the base of the Confluent API (Apicurio: http://host:port/apis/ccompat/v7 or v8)".into()
            }
            Self::Refused { status: 300..=399, .. } => "set registry.url to the address it redirects to".into(),
            Self::Refused { code: Some(READ_ONLY), .. } => {
                "the subject or the registry is read-only: register the schema where it may be written and set output.register = \
                 false, or lift the mode (PUT /mode)"
                    .into()
            }
            Self::Refused { code: Some(INVALID_SCHEMA), .. } => {
                "fix the schema in output.schema (`pressline check` names its faults)".into()
            }
            Self::Refused { .. } => "do what the registry's message says".into(),
            Self::Configuration { key, .. } => format!("fix {key}"),
        }
    }

    /// What happened, without what to do.
    pub fn what(&self) -> String {
        What(self).to_string()
    }

    fn write_what(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { registry, reason } => write!(f, "schema registry {registry}: not available: {reason}")?,
            Self::Unreadable { registry, found } => {
                write!(f, "schema registry {registry}: found {found}, expected an answer of the Confluent API")?;
            }
            Self::Authentication { registry, status: 401 } => {
                write!(f, "schema registry {registry}: it does not know this user or password (401)")?;
            }
            Self::Authentication { registry, status } => {
                write!(f, "schema registry {registry}: this user may not do that ({status})")?;
            }
            Self::Incompatible { registry, subject, version, reasons, differences } => {
                write!(f, "schema registry {registry}: subject {subject}: our schema is incompatible with ")?;
                match version {
                    Some(version) => write!(f, "version {version}")?,
                    None => f.write_str("what is registered")?,
                }
                match reasons.is_empty() {
                    true => f.write_str("; the registry gives no reason")?,
                    false => write!(f, "; the registry's reason: {}", reasons.join(" | "))?,
                }
                if !differences.is_empty() {
                    write!(f, "; differences: {}", differences.join("; "))?;
                }
            }
            Self::NotRegistered { registry, subject } => write!(
                f,
                "schema registry {registry}: subject {subject}: our schema is not registered, and output.register is false"
            )?,
            Self::MayNotRegister { registry, subject, status } => write!(
                f,
                "schema registry {registry}: subject {subject}: it does not take a registration from this user ({status})"
            )?,
            Self::Refused { registry, status, code, message } => {
                write!(f, "schema registry {registry}: it refused the request ({status}")?;
                if let Some(code) = code.filter(|c| *c != u32::from(*status)) {
                    write!(f, ", code {code}")?;
                }
                write!(f, "): {message}")?;
            }
            Self::Configuration { key, what } => write!(f, "{key}: {what}")?,
        }
        Ok(())
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_what(f)?;
        write!(f, "; {}", self.cure())
    }
}

impl std::error::Error for RegistryError {}

struct What<'a>(&'a RegistryError);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_what(f)
    }
}
