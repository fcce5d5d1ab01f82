//! Bytes of a key or value → what is shown: Avro by the registry, else JSON, else hexadecimal digits.

use std::collections::HashMap;

use super::avro::WriterSchema;
use super::text::{self, Style};
use crate::avro::registry::{Registry, RegistryError, SchemaId};
use crate::avro::schema::SchemaText;
use crate::pipeline::press::event::ClientIp;

/// What bytes turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No bytes at all.
    Null,
    /// Confluent's wire format.
    Avro,
    /// JSON.
    Json,
    /// Text that is not JSON; for keys only.
    Text,
    /// Anything else.
    Hex,
}

impl Encoding {
    /// Its name in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Avro => "avro",
            Self::Json => "json",
            Self::Text => "text",
            Self::Hex => "hex",
        }
    }
}

/// A decoded key or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What the bytes are.
    pub encoding: Encoding,
    /// Id of the Avro schema, also where it could not be used.
    pub schema_id: Option<u32>,
    /// JSON text on one line.
    pub text: String,
    /// Why it is not shown as what it seems to be.
    pub problem: Option<String>,
}

impl Decoded {
    fn new(encoding: Encoding, text: String) -> Self {
        Self { encoding, schema_id: None, text, problem: None }
    }
}

/// Where schemas come from; a test has its own.
pub trait Schemas {
    /// The schema of an id. Errors: the registry's.
    fn fetch(&mut self, id: u32) -> Result<SchemaText, RegistryError>;
}

/// Asks the registry and waits for the answer.
pub struct FromRegistry {
    /// The client.
    pub registry: Registry,
    /// Runs it.
    pub runtime: tokio::runtime::Runtime,
}

impl Schemas for FromRegistry {
    fn fetch(&mut self, id: u32) -> Result<SchemaText, RegistryError> {
        self.runtime.block_on(self.registry.schema_by_id(SchemaId(id)))
    }
}

/// Decodes keys and values; each schema is fetched once.
pub struct Decoder {
    schemas: Option<Box<dyn Schemas>>,
    plans: HashMap<u32, Result<WriterSchema, String>>,
    style: Style,
}

impl Decoder {
    /// Without `schemas`, Avro is shown as hexadecimal digits.
    pub fn new(schemas: Option<Box<dyn Schemas>>, style: Style) -> Self {
        Self { schemas, plans: HashMap::new(), style }
    }

    /// A record's value. Errors: the registry cannot be asked now; everything else is shown, with the problem.
    pub fn value(&mut self, bytes: Option<&[u8]>) -> Result<Decoded, RegistryError> {
        let Some(bytes) = bytes else { return Ok(Decoded::new(Encoding::Null, "null".into())) };
        if let Some(framed) = self.framed(bytes)? {
            return Ok(framed);
        }
        match text::json(bytes, self.style) {
            Some(json) => Ok(Decoded::new(Encoding::Json, json)),
            None => Ok(self.hex(bytes, None, None)),
        }
    }

    /// A record's key: Avro, else text as it is (an id is mostly no JSON), else hexadecimal digits.
    pub fn key(&mut self, bytes: Option<&[u8]>) -> Result<Decoded, RegistryError> {
        let Some(bytes) = bytes else { return Ok(Decoded::new(Encoding::Null, "null".into())) };
        if let Some(framed) = self.framed(bytes)? {
            return Ok(framed);
        }
        if bytes.first() == Some(&b'{')
            && let Some(json) = text::json(bytes, self.style)
        {
            return Ok(Decoded::new(Encoding::Json, json));
        }
        match std::str::from_utf8(bytes) {
            Ok(key) => {
                let mut shown = String::new();
                text::string(key, &mut shown);
                Ok(Decoded::new(Encoding::Text, shown))
            }
            Err(_) => Ok(self.hex(bytes, None, None)),
        }
    }

    /// Confluent's wire format: 0, four bytes of schema id, datum. `None`: it is not that.
    fn framed(&mut self, bytes: &[u8]) -> Result<Option<Decoded>, RegistryError> {
        let [0, a, b, c, d, datum @ ..] = bytes else { return Ok(None) };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if self.schemas.is_none() {
            let problem = "looks like Avro; name the registry with --registry".to_string();
            return Ok(Some(self.hex(bytes, Some(id), Some(problem))));
        }
        let style = self.style;
        let rendered = match self.plan(id)? {
            Ok(plan) => plan.render(datum, style).map_err(|why| format!("does not fit schema {id}: {why}")),
            Err(why) => Err(why.clone()),
        };
        Ok(Some(match rendered {
            Ok(text) => Decoded { schema_id: Some(id), ..Decoded::new(Encoding::Avro, text) },
            Err(problem) => self.hex(bytes, Some(id), Some(problem)),
        }))
    }

    fn plan(&mut self, id: u32) -> Result<&Result<WriterSchema, String>, RegistryError> {
        if !self.plans.contains_key(&id) {
            let fetched = match &mut self.schemas {
                Some(schemas) => schemas.fetch(id),
                None => Ok(SchemaText::default()),
            };
            let plan = match fetched {
                Ok(schema) => WriterSchema::parse(&schema).map_err(|why| format!("schema {id}: {why}")),
                Err(RegistryError::Refused { status, .. }) => {
                    Err(format!("schema {id}: the registry answers {status}"))
                }
                Err(error) => return Err(error),
            };
            self.plans.insert(id, plan);
        }
        // Just inserted.
        Ok(self.plans.entry(id).or_insert_with(|| Err(String::new())))
    }

    /// Digits tell an address as well as text does, so bytes that seem to hold one are not shown either.
    fn hex(&self, bytes: &[u8], schema_id: Option<u32>, problem: Option<String>) -> Decoded {
        if !self.style.addresses && may_hold_address(bytes) {
            let why = format!("{} bytes withheld: they may hold an address (--show-addresses)", bytes.len());
            let problem = Some(problem.map_or(why.clone(), |problem| format!("{problem}; {why}")));
            return Decoded { encoding: Encoding::Hex, schema_id, text: text::WITHHELD.into(), problem };
        }
        let mut shown = String::with_capacity(2 * bytes.len());
        text::hex(bytes, &mut shown);
        Decoded { encoding: Encoding::Hex, schema_id, text: shown, problem }
    }
}

/// A field name that says so, or a word that reads as an address.
fn may_hold_address(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.contains("\"ip") || text.contains("ip\"") || ClientIp::stands_in(&text)
}
