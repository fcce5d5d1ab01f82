//! Schema registry: the Confluent API, as Confluent, Karapace and Apicurio speak it.
//!
//! The answers' types are schema_registry_converter's. Its HTTP calls are not used: they take 500, 429, 401 and a
//! truncated answer for final, and hand the status on only inside a sentence, while whether to wait, to alarm or to stop
//! depends on it. Nothing is cached here, so a failure is never remembered either.

mod backoff;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use schema_registry_converter::schema_registry_common::{RawError, RawRegisteredSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::avro::schema;
use crate::avro::schema::{Reference, SchemaText};
use crate::config::RegistryConfig;
use crate::config::finding::with_causes;
use crate::config::secret::{self, Secret, SecretError};
use crate::runtime::http_client;
use crate::runtime::http_client::ClientOptions;
pub use error::RegistryError;

/// Media type of the Confluent API's requests and answers.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Largest answer that is read, in bytes: a schema of this size is a mistake, and an endless answer must not fill memory.
const MAX_ANSWER: usize = 16 << 20;

/// Error codes that mean "no such subject, version or schema". A wrong path gives 404 with another code, or a page.
const NOT_FOUND: std::ops::RangeInclusive<u32> = 40_401..=40_499;
/// "Version not found".
const NO_VERSION: u32 = 40_402;
/// "Schema not found".
const NO_SCHEMA: u32 = 40_403;
/// The type of a schema that the answer names, or leaves out, where it is Avro.
const AVRO: &str = "AVRO";
/// Most schemas that one schema may refer to: each takes a request.
const MAX_REFERENCES: usize = 200;

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
    /// The schema.
    pub schema: SchemaText,
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
pub enum SubjectState {
    /// It is there.
    Registered(SchemaId),
    /// It is not there, and the subject would take it.
    Compatible,
}

/// A client of one registry. Holds a password, so it has no Debug.
pub struct Registry {
    client: Mutex<Client>,
    base: Url,
    timeout: Duration,
    authority: Option<Authority>,
    credentials: Option<Credentials>,
}

/// The file of the certificate authority.
struct Authority {
    file: PathBuf,
    /// As it was read last: it may be renewed.
    read: Mutex<Vec<u8>>,
}

impl Authority {
    fn read(file: PathBuf) -> Self {
        let read = Mutex::new(std::fs::read(&file).unwrap_or_default());
        Self { file, read }
    }

    /// Reads the file again; whether it is another than before.
    fn is_renewed(&self) -> bool {
        let Ok(now) = std::fs::read(&self.file) else { return false };
        let Ok(mut read) = self.read.lock() else { return false };
        std::mem::replace(&mut *read, now) != *read
    }
}

/// User and password.
struct Credentials {
    username: String,
    file: Option<PathBuf>,
    /// As it was read last: a file may be renewed.
    password: Mutex<Option<Secret>>,
}

impl Credentials {
    fn read(username: &str, file: Option<PathBuf>) -> Result<Self, SecretError> {
        let password = Mutex::new(secret::read(secret::REGISTRY_PASSWORD, file.as_deref())?);
        Ok(Self { username: username.into(), file, password })
    }

    fn password(&self) -> Option<Secret> {
        self.password.lock().ok()?.clone()
    }

    /// Reads the password again; whether it is another one than before.
    fn is_renewed(&self) -> bool {
        let Ok(Some(read)) = secret::read(secret::REGISTRY_PASSWORD, self.file.as_deref()) else { return false };
        let Ok(mut password) = self.password.lock() else { return false };
        let is_another = password.as_ref().is_none_or(|known| known.expose() != read.expose());
        *password = Some(read);
        is_another
    }
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
    /// or authority file that cannot be read and an invalid address.
    pub fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let base = base_url(&config.url)?;
        let timeout = Duration::from_millis(config.timeout_ms);
        let authority = config.ca.as_ref().map(|file| Authority::read(file.relative()));
        let client = Mutex::new(client(&base, authority.as_ref(), timeout)?);
        let credentials = match &config.username {
            Some(username) => {
                let file = config.password_file.as_ref().map(|f| f.relative());
                let credentials = Credentials::read(username, file)
                    .map_err(|e| RegistryError::configuration("registry.password_file", e.to_string()))?;
                Some(credentials)
            }
            None => None,
        };
        Ok(Self { client, base, timeout, authority, credentials })
    }

    /// The registry's address, without anything secret.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The id of `schema_text` under `subject`. A schema that is not there is registered if `register` is set and the
    /// registry calls it compatible. Errors: any [`RegistryError`].
    pub async fn ensure(&self, subject: &str, schema_text: &str, register: bool) -> Result<SchemaId, RegistryError> {
        let id = match self.examine(subject, schema_text, register).await? {
            SubjectState::Registered(id) => id,
            SubjectState::Compatible => self.register(subject, schema_text).await?,
        };
        had_id(&self.account(), id);
        had_subject(&self.account(), subject);
        Ok(id)
    }

    /// In what the schema that the registry keeps under the id differs from the one that was sent: Apicurio 3 takes one that has
    /// only other aliases, documentation or defaults of enums for the same, and keeps the older text. Errors: any
    /// [`RegistryError`].
    pub async fn kept_otherwise(&self, id: SchemaId, schema_text: &str) -> Result<Vec<String>, RegistryError> {
        Ok(schema::kept_otherwise(&self.schema_by_id(id).await?.text, schema_text))
    }

    /// What [`Registry::ensure`] would find, without registering anything. Errors: any [`RegistryError`].
    pub async fn examine(
        &self,
        subject: &str,
        schema_text: &str,
        register: bool,
    ) -> Result<SubjectState, RegistryError> {
        if let Some(id) = self.look_up(subject, schema_text).await? {
            return Ok(SubjectState::Registered(id));
        }
        // Apicurio finds only the very text that was registered, blanks and line breaks included.
        if let Some(latest) = self.latest(subject).await?
            && same_json(&latest.schema.text, schema_text)
        {
            return Ok(SubjectState::Registered(latest.id));
        }
        if !register {
            return Err(RegistryError::NotRegistered { registry: self.address().into(), subject: subject.into() });
        }
        let verdict = self.compatibility(subject, schema_text).await?;
        if !verdict.compatible {
            return Err(self.incompatible(subject, schema_text, verdict.messages).await);
        }
        Ok(SubjectState::Compatible)
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
                let version = raw.version.ok_or_else(|| self.unreadable("an answer without a version"))?;
                had_subject(&self.account(), subject);
                Ok(Some(SubjectVersion { version, id, schema: self.whole(raw).await? }))
            }
        }
    }

    /// The schema of an id, with the schemas that it refers to. Errors: one that [`RegistryError::is_absent`] where the registry
    /// has no such id, or not all that it refers to.
    pub async fn schema_by_id(&self, id: SchemaId) -> Result<SchemaText, RegistryError> {
        let path = ["schemas", "ids", &id.0.to_string()];
        match self.call::<RawRegisteredSchema>(Method::GET, &path, "", None).await? {
            Answer::Found(raw) => {
                let whole = self.whole(raw).await?;
                had_id(&self.account(), id);
                Ok(whole)
            }
            Answer::Absent => Err(self.absent(NO_SCHEMA, format!("no schema has the id {}", id.0))),
        }
    }

    /// The schema of an answer, and those in its references and theirs.
    async fn whole(&self, raw: RawRegisteredSchema) -> Result<SchemaText, RegistryError> {
        let text = raw.schema.ok_or_else(|| self.unreadable("an answer without a schema"))?;
        let other_kind = raw.schema_type.filter(|kind| kind != AVRO);
        let mut whole = SchemaText { text, references: Vec::new(), other_kind };
        let mut open = raw.references.unwrap_or_default();
        let mut known = BTreeSet::new();
        while let Some(reference) = open.pop() {
            if !known.insert((reference.name.clone(), reference.subject.clone(), reference.version)) {
                continue;
            }
            if known.len() > MAX_REFERENCES {
                return Err(self.unreadable("a schema that refers to more than 200 others"));
            }
            let (subject, version) = (reference.subject, reference.version.to_string());
            let path = ["subjects", &subject, "versions", &version];
            match self.call::<RawRegisteredSchema>(Method::GET, &path, "", None).await? {
                Answer::Found(RawRegisteredSchema { schema: Some(text), references, .. }) => {
                    whole.references.push(Reference { name: reference.name, text });
                    open.extend(references.unwrap_or_default());
                }
                Answer::Found(_) => return Err(self.unreadable("an answer without a schema")),
                Answer::Absent => {
                    let what =
                        format!("the schema refers to version {version} of subject {subject}, which is not there");
                    return Err(self.absent(NO_VERSION, what));
                }
            }
        }
        Ok(whole)
    }

    /// Whether it has an id and a subject still that this process has had from it: one that is starting may lack them, and what
    /// it then says of others counts for nothing. Errors: any [`RegistryError`].
    pub async fn has_what_it_had(&self) -> Result<bool, RegistryError> {
        let Had { id, subject } = had(&self.account());
        if let Some(id) = id {
            let path = ["schemas", "ids", &id.0.to_string()];
            if let Answer::Absent = self.call::<RawRegisteredSchema>(Method::GET, &path, "", None).await? {
                return Ok(false);
            }
        }
        if let Some(subject) = subject {
            let path = ["subjects", &subject, "versions", "latest"];
            if let Answer::Absent = self.call::<RawRegisteredSchema>(Method::GET, &path, "", None).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whom the registry answers: it may show one user what it hides from another.
    fn account(&self) -> String {
        let user = self.credentials.as_ref().map(|known| known.username.as_str()).unwrap_or_default();
        format!("{user} {}", self.address())
    }

    fn absent(&self, code: u32, message: String) -> RegistryError {
        RegistryError::Refused { registry: self.address().into(), status: 404, code: Some(code), message }
    }

    async fn register(&self, subject: &str, schema_text: &str) -> Result<SchemaId, RegistryError> {
        let path = ["subjects", subject, "versions"];
        match self.call::<RawRegisteredSchema>(Method::POST, &path, "", Some(schema_text)).await {
            Ok(Answer::Found(raw)) => self.id_of(&raw),
            // Nothing needs to be there before a registration.
            Ok(Answer::Absent) => Err(self.may_not_register(subject, 404)),
            Err(RegistryError::Authentication { status: 403, .. }) => Err(self.may_not_register(subject, 403)),
            Err(RegistryError::Refused { status: 405, .. }) => Err(self.may_not_register(subject, 405)),
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

    fn may_not_register(&self, subject: &str, status: u16) -> RegistryError {
        RegistryError::MayNotRegister { registry: self.address().into(), subject: subject.into(), status }
    }

    async fn incompatible(&self, subject: &str, schema_text: &str, reasons: Vec<String>) -> RegistryError {
        // The verdict stands even if its explanation cannot be fetched.
        let latest = self.latest(subject).await.ok().flatten();
        let (version, differences) = match &latest {
            Some(latest) => {
                let label = format!("version {}", latest.version);
                (Some(latest.version), schema::diff(&label, &latest.schema.text, schema_text))
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

    /// A request; once more where the user is refused and the file of the password holds another one now, or where the registry
    /// cannot be reached and there is another certificate authority.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &str,
        schema_text: Option<&str>,
    ) -> Result<Answer<T>, RegistryError> {
        match self.ask(method.clone(), path, query, schema_text).await {
            Err(RegistryError::Authentication { .. })
                if self.credentials.as_ref().is_some_and(Credentials::is_renewed) =>
            {
                self.ask(method, path, query, schema_text).await
            }
            Err(RegistryError::Unavailable { .. }) if self.trusts_another_authority() => {
                self.ask(method, path, query, schema_text).await
            }
            answer => answer,
        }
    }

    /// Makes a client with the certificate authority as its file is now, if that was renewed.
    fn trusts_another_authority(&self) -> bool {
        if !self.authority.as_ref().is_some_and(Authority::is_renewed) {
            return false;
        }
        // Half of a file that is being written is no authority: the next failure finds all of it.
        let Ok(renewed) = client(&self.base, self.authority.as_ref(), self.timeout) else { return false };
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        true
    }

    async fn ask<T: DeserializeOwned>(
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
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = client.request(method, url).header("accept", format!("{MEDIA_TYPE}, application/json"));
        if let Some(credentials) = &self.credentials {
            let password = credentials.password();
            request = request.basic_auth(&credentials.username, password.as_ref().map(Secret::expose));
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

fn client(base: &Url, authority: Option<&Authority>, timeout: Duration) -> Result<Client, RegistryError> {
    let options = ClientOptions {
        ca: authority.map(|authority| authority.file.as_path()),
        timeout,
        user_agent: concat!("pressline/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    http_client::client(base, options).map_err(|(part, what)| match part {
        http_client::ClientPart::Ca => RegistryError::configuration("registry.ca", what),
        http_client::ClientPart::Client => RegistryError::configuration("registry", what),
    })
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

/// What this process has had from a registry, the newest of each kind: one that now lacks it has been restarted and has not
/// read its log yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Had {
    id: Option<SchemaId>,
    subject: Option<String>,
}

/// By account. Shared by all clients of the process: what one sink has had, the others believe.
static HAD: Mutex<BTreeMap<String, Had>> = Mutex::new(BTreeMap::new());

fn had_id(account: &str, id: SchemaId) {
    remember(account, |had| had.id = Some(id));
}

fn had_subject(account: &str, subject: &str) {
    remember(account, |had| had.subject = Some(subject.to_string()));
}

fn had(account: &str) -> Had {
    HAD.lock().ok().and_then(|all| all.get(account).cloned()).unwrap_or_default()
}

fn remember(account: &str, note: impl FnOnce(&mut Had)) {
    if let Ok(mut all) = HAD.lock() {
        note(all.entry(account.to_string()).or_default());
    }
}
