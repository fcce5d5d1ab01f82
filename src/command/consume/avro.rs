//! Avro datum → JSON text, for any schema and for untrusted bytes.
//!
//! apache-avro parses the schema, but its datum reader has no depth limit and takes a truncated string for null, so
//! the datum is read here: bounded in depth and size, in the schema's field order, and to the last byte.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};
use jiff::Timestamp;

use super::text::{self, Style};
use crate::avro::schema::{self, SchemaText};

/// Deepest nesting of a datum of a recursive schema.
pub const MAX_DEPTH: usize = 64;
/// Most values in one datum: a few bytes can announce billions of nulls.
const MAX_VALUES: usize = 1_000_000;

/// A schema that datums can be read with.
pub struct WriterSchema {
    schema: Schema,
    names: HashMap<String, Schema>,
}

impl WriterSchema {
    /// Errors: no Avro schema, or one nested deeper than 64, in words.
    pub fn parse(schema: &SchemaText) -> Result<Self, String> {
        let schema = schema::parse_registered(schema)?;
        let mut names = HashMap::new();
        schema::collect_names(&schema, None, &mut names);
        Ok(Self { schema, names })
    }

    /// The datum as JSON text. Errors: why the bytes do not fit the schema, with the field; never their content.
    pub fn render(&self, datum: &[u8], style: Style) -> Result<String, String> {
        let mut reader = Reader { bytes: datum, values: 0, names: &self.names, style };
        let mut out = String::new();
        reader.value(&self.schema, None, 0, &mut out)?;
        match reader.bytes.len() {
            0 => Ok(out),
            rest => Err(format!("{rest} bytes are left over after the datum")),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    values: usize,
    names: &'a HashMap<String, Schema>,
    style: Style,
}

impl<'a> Reader<'a> {
    fn value(
        &mut self,
        schema: &Schema,
        namespace: Option<&str>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), String> {
        self.values += 1;
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        if self.values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values in one record"));
        }
        match schema {
            Schema::Null => out.push_str("null"),
            Schema::Boolean => match self.take(1)? {
                [0] => out.push_str("false"),
                [1] => out.push_str("true"),
                _ => return Err("a boolean that is neither 0 nor 1".into()),
            },
            Schema::Int => out.push_str(&self.int()?.to_string()),
            Schema::Long => out.push_str(&self.long()?.to_string()),
            Schema::Float => text::number(f64::from(f32::from_le_bytes(self.array()?)), out),
            Schema::Double => text::number(f64::from_le_bytes(self.array()?), out),
            Schema::String | Schema::Uuid(UuidSchema::String) => text::string(self.text()?, out),
            Schema::Bytes => text::hex(self.sized()?, out),
            Schema::Fixed(fixed) => text::hex(self.take(fixed.size)?, out),
            Schema::Uuid(UuidSchema::Bytes) => uuid(self.sized()?, out)?,
            Schema::Uuid(UuidSchema::Fixed(fixed)) => uuid(self.take(fixed.size)?, out)?,
            Schema::Enum(inner) => {
                let at = self.int()?;
                let symbol = usize::try_from(at).ok().and_then(|at| inner.symbols.get(at));
                let symbol = symbol.ok_or("an enum symbol that the schema does not have")?;
                text::string(&schema::original(symbol), out);
            }
            Schema::Record(record) => {
                let namespace = record.name.namespace().or(namespace);
                out.push('{');
                for (index, field) in record.fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.field(&schema::original(&field.name), &field.schema, namespace, depth, out)?;
                }
                out.push('}');
            }
            Schema::Array(array) => {
                out.push('[');
                self.blocks(|this, index| {
                    if index > 0 {
                        out.push(',');
                    }
                    this.value(&array.items, namespace, depth + 1, out)
                })?;
                out.push(']');
            }
            Schema::Map(map) => {
                out.push('{');
                self.blocks(|this, index| {
                    if index > 0 {
                        out.push(',');
                    }
                    let key = this.text()?;
                    this.field(key, &map.types, namespace, depth, out)
                })?;
                out.push('}');
            }
            Schema::Union(union) => {
                let at = usize::try_from(self.long()?).ok();
                let variant = at.and_then(|at| union.variants().get(at));
                self.value(variant.ok_or("a union branch that the schema does not have")?, namespace, depth + 1, out)?;
            }
            Schema::Ref { name } => {
                let full = name.fullname(namespace);
                let names = self.names;
                let schema = names.get(&full).ok_or_else(|| format!("type `{full}` is not in the schema"))?;
                self.value(schema, namespace, depth + 1, out)?;
            }
            logical => self.logical(logical, out)?,
        }
        Ok(())
    }

    /// A field's name and value; of one that holds an address only that it does.
    fn field(
        &mut self,
        name: &str,
        schema: &Schema,
        namespace: Option<&str>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), String> {
        text::string(name, out);
        out.push(':');
        let start = out.len();
        self.value(schema, namespace, depth + 1, out).map_err(|error| match error.strip_prefix("field ") {
            Some(inner) => format!("field {name}.{inner}"),
            None => format!("field {name}: {error}"),
        })?;
        if self.style.withholds(name) && &out[start..] != "null" {
            out.truncate(start);
            out.push_str(text::WITHHELD);
        }
        Ok(())
    }

    fn logical(&mut self, schema: &Schema, out: &mut String) -> Result<(), String> {
        match schema {
            Schema::Decimal(decimal) => {
                let bytes = match &decimal.inner {
                    InnerDecimalSchema::Bytes => self.sized()?,
                    InnerDecimalSchema::Fixed(fixed) => self.take(fixed.size)?,
                };
                text::decimal(bytes, i64::try_from(decimal.scale).unwrap_or(i64::MAX), out);
            }
            Schema::BigDecimal => {
                let bytes = self.sized()?;
                let mut inner = Reader { bytes, values: 0, names: self.names, style: self.style };
                let digits = inner.sized()?;
                let scale = inner.long()?;
                text::decimal(digits, scale, out);
            }
            Schema::Duration(fixed) => {
                let bytes = self.take(fixed.size)?;
                let part =
                    |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
                out.push_str(&format!("\"P{}M{}DT{}ms\"", part(0), part(4), part(8)));
            }
            Schema::Date => {
                let days = self.int()?;
                self.instant(
                    i64::from(days),
                    |days| Timestamp::from_second(days.checked_mul(86_400)?).ok(),
                    "%Y-%m-%d",
                    out,
                );
            }
            Schema::TimeMillis => {
                let time = self.int()?;
                self.instant(i64::from(time), |ms| Timestamp::from_millisecond(ms).ok(), "%H:%M:%S%.3f", out);
            }
            Schema::TimeMicros => {
                let time = self.long()?;
                self.instant(time, |us| Timestamp::from_microsecond(us).ok(), "%H:%M:%S%.6f", out);
            }
            Schema::TimestampMillis | Schema::LocalTimestampMillis => {
                let format = if *schema == Schema::TimestampMillis { "%FT%T%.3fZ" } else { "%FT%T%.3f" };
                let time = self.long()?;
                self.instant(time, |ms| Timestamp::from_millisecond(ms).ok(), format, out);
            }
            Schema::TimestampMicros | Schema::LocalTimestampMicros => {
                let format = if *schema == Schema::TimestampMicros { "%FT%T%.6fZ" } else { "%FT%T%.6f" };
                let time = self.long()?;
                self.instant(time, |us| Timestamp::from_microsecond(us).ok(), format, out);
            }
            Schema::TimestampNanos | Schema::LocalTimestampNanos => {
                let format = if *schema == Schema::TimestampNanos { "%FT%T%.9fZ" } else { "%FT%T%.9f" };
                let time = self.long()?;
                self.instant(time, |ns| Timestamp::from_nanosecond(i128::from(ns)).ok(), format, out);
            }
            _ => return Err("a type that this version of pressline does not know".into()),
        }
        Ok(())
    }

    /// For people as date and time; for machines, and where it is no time that a calendar has, the number.
    fn instant(&self, raw: i64, to_time: impl Fn(i64) -> Option<Timestamp>, format: &str, out: &mut String) {
        match to_time(raw).filter(|_| self.style.people) {
            Some(time) => text::string(&time.strftime(format).to_string(), out),
            None => out.push_str(&raw.to_string()),
        }
    }

    /// The items of an array or map: blocks of a count (negative: with a size in bytes after it), up to a count of 0.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self, usize) -> Result<(), String>) -> Result<(), String> {
        let mut index = 0;
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self, index)?;
                index += 1;
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or("the record ends too early")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "the record ends too early".to_string())
    }

    fn sized(&mut self) -> Result<&'a [u8], String> {
        let length = usize::try_from(self.long()?).map_err(|_| "a length below zero".to_string())?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.sized()?).map_err(|_| "text that is not UTF-8".into())
    }

    fn int(&mut self) -> Result<i32, String> {
        i32::try_from(self.long()?).map_err(|_| "an int beyond 32 bits".into())
    }

    fn long(&mut self) -> Result<i64, String> {
        let mut bits = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            if shift == 63 && byte > 1 {
                break;
            }
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err("a number beyond 64 bits".into())
    }
}

fn uuid(bytes: &[u8], out: &mut String) -> Result<(), String> {
    let uuid = uuid::Uuid::from_slice(bytes).map_err(|_| "a UUID that has not 16 bytes")?;
    text::string(&uuid.to_string(), out);
    Ok(())
}
