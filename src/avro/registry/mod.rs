//! Schema registry: the Confluent API, as Confluent, Karapace and Apicurio speak it.
//!
//! The answers' types are schema_registry_converter's. Its HTTP calls are not used: they take 500, 429, 401 and a
//! truncated answer for final, and hand the status on only inside a sentence, while whether to wait, to alarm or to stop
//! depends on it. Nothing is cached here, so a failure is never remembered either.

mod backoff;
mod error;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use schema_registry_converter::schema_registry_common::{RawError, RawRegisteredSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::avro::schema;
use crate::config::RegistryConfig;
use crate::config::finding::with_causes;
use crate::config::secret::{self, Secret};
use crate::runtime::http_client;
use crate::runtime::http_client::ClientOptions;

pub use error::RegistryError;

/// Media type of the Confluent API's requests and answers.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Largest answer that is read, in bytes: a schema of this size is a mistake, and an endless answer must not fill memory.
const MAX_ANSWER: usize = 16 << 20;

/// Error codes that mean "no such subject, version or schema". A wrong path gives 404 with another code, or a page.
const NOT_FOUND: std::ops::RangeInclusive<u32> = 40_401..=40_499;
/// "Schema not found".
const NO_SCHEMA: u32 = 40_403;

/// Id of a schema in the registry: the four bytes after the magic byte in every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaId(pub u32);

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// Number within the subject, from 1 on.
    pub version: u32,
    /// Id of its schema.
    pub id: SchemaId,
    /// The schema, as JSON text.
    pub schema: String,
}

/// What the registry says about a schema it has not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    /// Whether the subject would take it.
    pub compatible: bool,
    /// The registry's reasons against it; empty with registries that give none.
    pub messages: Vec<String>,
}

/// How a schema stands with a subject that may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Registered(SchemaId),
    /// It is not there, and the subject would take it.
    Compatible,
}

/// A client of one registry. Holds a password, so it has no Debug.
pub struct Registry {
    client: Client,
    base: Url,
    credentials: Option<(String, Option<Secret>)>,
}

#[derive(Deserialize)]
struct RawCompatibility {
    is_compatible: bool,
    #[serde(default)]
    messages: Option<Vec<String>>,
    /// Apicurio's word for it.
    #[serde(default)]
    reason: Option<String>,
}

/// An answer that came through whole.
enum Answer<T> {
    Found(T),
    /// 404 with the API's own error body: the subject, version or schema is not there.
    Absent,
}

impl Registry {
    /// A client from the configuration; connects to nothing yet. Errors: [`RegistryError::Configuration`] for a password
    /// or authority file that cannot be read and an address that is none.
    pub fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let base = base_url(&config.url)?;
        let ca = config.ca.as_ref().map(|file| file.relative());
        let options = ClientOptions {
            ca: ca.as_deref(),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            user_agent: concat!("pressline/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let client = http_client::client(&base, options).map_err(|(part, what)| match part {
            http_client::Part::Ca => RegistryError::configuration("registry.ca", what),
            http_client::Part::Client => RegistryError::configuration("registry", what),
        })?;
        let credentials = match &config.username {
            Some(username) => {
                let file = config.password_file.as_ref().map(|f| f.relative());
                let password = secret::read(secret::REGISTRY_PASSWORD, file.as_deref())
                    .map_err(|e| RegistryError::configuration("registry.password_file", e.to_string()))?;
                Some((username.clone(), password))
            }
            None => None,
        };
        Ok(Self { client, base, credentials })
    }

    /// The registry's address, without anything secret.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The id of `schema_text` under `subject`. A schema that is not there is registered if `register` is set and the
    /// registry calls it compatible. Errors: any [`RegistryError`].
    pub async fn ensure(&self, subject: &str, schema_text: &str, register: bool) -> Result<SchemaId, RegistryError> {
        match self.examine(subject, schema_text, register).await? {
            Standing::Registered(id) => Ok(id),
            Standing::Compatible => self.register(subject, schema_text).await,
        }
    }

    /// What [`Registry::ensure`] would find, without registering anything. Errors: any [`RegistryError`].
    pub async fn examine(&self, subject: &str, schema_text: &str, register: bool) -> Result<Standing, RegistryError> {
        if let Some(id) = self.look_up(subject, schema_text).await? {
            return Ok(Standing::Registered(id));
        }
        // Apicurio finds only the very text that was registered, blanks and line breaks included.
        if let Some(latest) = self.latest(subject).await?
            && same_json(&latest.schema, schema_text)
        {
            return Ok(Standing::Registered(latest.id));
        }
        if !register {
            return Err(RegistryError::NotRegistered { registry: self.address().into(), subject: subject.into() });
        }
        let verdict = self.compatibility(subject, schema_text).await?;
        if !verdict.compatible {
            return Err(self.incompatible(subject, schema_text, verdict.messages).await);
        }
        Ok(Standing::Compatible)
    }

    /// The id of exactly this schema under the subject, or `None`.
    pub async fn look_up(&self, subject: &str, schema_text: &str) -> Result<Option<SchemaId>, RegistryError> {
        match self.call::<RawRegisteredSchema>(Method::POST, &["subjects", subject], "", Some(schema_text)).await? {
            Answer::Found(found) => self.id_of(&found).map(Some),
            Answer::Absent => Ok(None),
        }
    }

    /// Asks, without registering anything, whether the subject would take the schema. A subject without versions takes
    /// every schema.
    pub async fn compatibility(&self, subject: &str, schema_text: &str) -> Result<Compatibility, RegistryError> {
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        match self.call::<RawCompatibility>(Method::POST, &path, "verbose=true", Some(schema_text)).await? {
            Answer::Found(raw) => {
                let messages = raw.messages.unwrap_or_default().into_iter().chain(raw.reason).collect();
                Ok(Compatibility { compatible: raw.is_compatible, messages })
            }
            Answer::Absent => Ok(Compatibility { compatible: true, messages: Vec::new() }),
        }
    }

    /// The subject's newest version, or `None` if the subject has none.
    pub async fn latest(&self, subject: &str) -> Result<Option<SubjectVersion>, RegistryError> {
        let path = ["subjects", subject, "versions", "latest"];
        match self.call::<RawRegisteredSchema>(Method::GET, &path, "", None).await? {
            Answer::Absent => Ok(None),
            Answer::Found(raw) => {
                let id = self.id_of(&raw)?;
                match (raw.version, raw.schema) {
                    (Some(version), Some(schema)) => Ok(Some(SubjectVersion { version, id, schema })),
                    _ => Err(self.unreadable("an answer without version or schema")),
                }
            }
        }
    }

    /// The schema text of an id. Errors: one that [`RegistryError::is_absent`] where the registry has no such id.
    pub async fn schema_by_id(&self, id: SchemaId) -> Result<String, RegistryError> {
        let path = ["schemas", "ids", &id.0.to_string()];
        match self.call::<RawRegisteredSchema>(Method::GET, &path, "", None).await? {
            Answer::Found(raw) => raw.schema.ok_or_else(|| self.unreadable("an answer without a schema")),
            Answer::Absent => Err(RegistryError::Refused {
                registry: self.address().into(),
                status: 404,
                code: Some(NO_SCHEMA),
                message: format!("no schema has the id {}", id.0),
            }),
        }
    }

    async fn register(&self, subject: &str, schema_text: &str) -> Result<SchemaId, RegistryError> {
        let path = ["subjects", subject, "versions"];
        match self.call::<RawRegisteredSchema>(Method::POST, &path, "", Some(schema_text)).await {
            Ok(Answer::Found(raw)) => self.id_of(&raw),
            Ok(Answer::Absent) => Err(self.unreadable("\"not found\" to a registration")),
            Err(RegistryError::Refused { status: 409, message, .. }) => {
                // Apicurio's answer, too, when another process has just registered the same schema: then it is there.
                if let Some(id) = self.look_up(subject, schema_text).await? {
                    return Ok(id);
                }
                // Transitive levels look at older versions than the question before did.
                Err(self.incompatible(subject, schema_text, vec![message]).await)
            }
            Err(other) => Err(other),
        }
    }

    async fn incompatible(&self, subject: &str, schema_text: &str, reasons: Vec<String>) -> RegistryError {
        // The verdict stands even if its explanation cannot be fetched.
        let latest = self.latest(subject).await.ok().flatten();
        let (version, differences) = match &latest {
            Some(latest) => {
                let label = format!("version {}", latest.version);
                (Some(latest.version), schema::diff(&label, &latest.schema, schema_text))
            }
            None => (None, Vec::new()),
        };
        RegistryError::Incompatible {
            registry: self.address().into(),
            subject: subject.into(),
            version,
            reasons,
            differences,
        }
    }

    fn id_of(&self, raw: &RawRegisteredSchema) -> Result<SchemaId, RegistryError> {
        raw.id.map(SchemaId).ok_or_else(|| self.unreadable("an answer without a schema id"))
    }

    fn unreadable(&self, found: &str) -> RegistryError {
        RegistryError::Unreadable { registry: self.address().into(), found: found.into() }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &str,
        schema_text: Option<&str>,
    ) -> Result<Answer<T>, RegistryError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.set_query(Some(query).filter(|q| !q.is_empty()));
        let mut request = self.client.request(method, url).header("accept", format!("{MEDIA_TYPE}, application/json"));
        if let Some((username, password)) = &self.credentials {
            request = request.basic_auth(username, password.as_ref().map(Secret::expose));
        }
        if let Some(text) = schema_text {
            // `schemaType` is left out: AVRO is the default, and registries before 5.5 refuse the key.
            let body = serde_json::json!({ "schema": text }).to_string();
            request = request.header("content-type", MEDIA_TYPE).body(body);
        }
        let mut response = request.send().await.map_err(|e| self.transport(e))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.transport(e))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.unreadable("an answer of more than 16 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        self.judge(status, &body)
    }

    fn judge<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<Answer<T>, RegistryError> {
        let registry = self.address().to_string();
        if status.is_success() {
            return serde_json::from_slice(body).map(Answer::Found).map_err(|error| {
                // serde_json's own text may quote the answer, which an attacker or a proxy's login page wrote.
                let kind = if error.is_eof() { "a truncated answer" } else { "an answer that is not the API's JSON" };
                self.unreadable(kind)
            });
        }
        let told = serde_json::from_slice::<RawError>(body).ok();
        let message = told.as_ref().map(|t| t.message.clone());
        match status.as_u16() {
            404 if told.as_ref().is_some_and(|t| NOT_FOUND.contains(&t.error_code)) => Ok(Answer::Absent),
            status @ (401 | 403) => Err(RegistryError::Authentication { registry, status }),
            // 408, 425 and 429 ask for another try, as do all server errors.
            status @ (408 | 425 | 429 | 500..=599) => Err(RegistryError::Unavailable {
                registry,
                reason: match message {
                    Some(message) => format!("it answered {status}: {message}"),
                    None => format!("it answered {status}"),
                },
            }),
            status => Err(RegistryError::Refused {
                registry,
                status,
                code: told.map(|t| t.error_code),
                message: message.unwrap_or_else(|| "no reason given".into()),
            }),
        }
    }

    fn transport(&self, error: reqwest::Error) -> RegistryError {
        let registry = self.address().to_string();
        if error.is_timeout() {
            return RegistryError::Unavailable {
                registry,
                reason: "it did not answer within registry.timeout_ms".into(),
            };
        }
        RegistryError::Unavailable { registry, reason: with_causes(&error.without_url()) }
    }
}

fn base_url(text: &str) -> Result<Url, RegistryError> {
    http_client::base_url(text).map_err(|what| {
        let cure = if what.contains("password") { "; use registry.username and registry.password_file" } else { "" };
        RegistryError::configuration("registry.url", format!("{what}{cure}"))
    })
}

/// Whether two texts are the same JSON, whatever their blanks and the order of keys; the order of fields counts.
fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    parse(a).is_some_and(|a| Some(a) == parse(b))
}
