//! Orders of a fish and chip shop, without any sending: tills that take one order after the other.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};

use super::send::Events;
use super::{GenerateError, Made, PressKind};
use crate::avro::format::datum;

/// What is on the board.
const DISHES: [&str; 3] = ["cod & chips", "chips & chips", "plaice & chips"];
/// Most dishes of one order.
const MOST_DISHES: usize = 4;
/// Avro of an order.
pub const SCHEMA: &str = r#"{"type":"record","name":"order","doc":"An order of a fish and chip shop","fields":[{"name":"order_time","type":"long","doc":"Milliseconds since 1970"},{"name":"count","type":"int","doc":"Orders of the till so far"},{"name":"order","type":{"type":"array","items":"string"}}]}"#;

/// How orders are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum OrderFormat {
    /// One JSON object
    Json,
    /// JSON in Kafka Connect's envelope
    ConnectJson,
    /// Avro in Confluent's wire format; its schema is registered
    Avro,
}

/// An endless stream of orders. No two have the same time, which is their key, whichever till took them.
pub struct Orders {
    rng: Pcg64,
    format: Encoding,
    /// Orders that each till has taken.
    tills: Vec<u32>,
    /// Time of the first order, and what lies between two of them.
    start_us: i64,
    step_ns: u64,
    made: u64,
    last_ms: i64,
}

enum Encoding {
    Json,
    /// With the schema's text.
    Connect(Value),
    /// With the schema's id.
    Avro(u32),
}

impl Orders {
    /// Of so many tills. `schema_id`: that of [`SCHEMA`], for Avro. Errors: no tills.
    pub fn new(
        tills: usize,
        format: OrderFormat,
        schema_id: u32,
        seed: u64,
        (start_us, step_ns): (i64, u64),
    ) -> Result<Self, GenerateError> {
        if tills == 0 {
            return Err(GenerateError::Argument { name: "tills", what: "found 0, expected at least 1".into() });
        }
        let format = match format {
            OrderFormat::Json => Encoding::Json,
            OrderFormat::ConnectJson => Encoding::Connect(connect_schema()),
            OrderFormat::Avro => Encoding::Avro(schema_id),
        };
        let rng = Pcg64::seed_from_u64(seed);
        Ok(Self { rng, format, tills: vec![0; tills], start_us, step_ns, made: 0, last_ms: i64::MIN })
    }
}

/// The schema that stands in each record of Connect's envelope.
fn connect_schema() -> Value {
    let field = |name: &str, of: &str| json!({"field": name, "type": of, "optional": false});
    let items = json!({"type": "string", "optional": false});
    let order = json!({"field": "order", "type": "array", "items": items, "optional": false});
    let fields = [field("order_time", "int64"), field("count", "int32"), order];
    json!({"type": "struct", "optional": false, "version": 1, "fields": fields})
}

impl Events for Orders {
    fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Option<Made> {
        let passed_us = i64::try_from(u128::from(self.made) * u128::from(self.step_ns) / 1_000).unwrap_or(i64::MAX);
        let order_time = (self.start_us.saturating_add(passed_us) / 1_000).max(self.last_ms.saturating_add(1));
        (self.made, self.last_ms) = (self.made + 1, order_time);
        let till = self.rng.random_range(0..self.tills.len());
        let count = self.tills.get_mut(till).map_or(0, |count| {
            *count += 1;
            *count
        });
        // Each dish more is half as likely.
        let dishes = 1 + (0..MOST_DISHES - 1).take_while(|_| self.rng.random_bool(0.5)).count();
        let order: Vec<&str> = (0..dishes).map(|_| DISHES[self.rng.random_range(0..DISHES.len())]).collect();
        key.clear();
        key.extend_from_slice(order_time.to_string().as_bytes());
        value.clear();
        let payload = || json!({"order_time": order_time, "count": count, "order": order});
        match &self.format {
            Encoding::Json => value.extend_from_slice(payload().to_string().as_bytes()),
            Encoding::Connect(schema) => {
                value.extend_from_slice(json!({"schema": schema, "payload": payload()}).to_string().as_bytes());
            }
            Encoding::Avro(id) => {
                value.push(0);
                value.extend_from_slice(&id.to_be_bytes());
                datum::long(order_time, value);
                datum::long(i64::from(count), value);
                datum::long(order.len() as i64, value);
                for dish in order {
                    datum::bytes(dish.as_bytes(), value);
                }
                value.push(0);
            }
        }
        Some(Made { kind: PressKind::Order, timestamp_us: order_time * 1_000, has_value: true })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::avro::format::{Decoded, Decoder};
    use crate::avro::{Cursor, write_json};
    use crate::config::format::{FieldConfig, Format, FormatConfig};

    /// The first orders of three tills, a thousand a second, as JSON.
    fn orders(format: OrderFormat, read: Format) -> Vec<Value> {
        let fields = match read {
            Format::Json => [("order_time", "long"), ("count", "int"), ("order", "array<string>")].to_vec(),
            _ => Vec::new(),
        };
        let fields = fields.into_iter().map(|(name, of)| (name.into(), FieldConfig::Type(of.into()))).collect();
        let mut decoder = Decoder::new(&FormatConfig { format: read, fields, ..FormatConfig::default() }).unwrap();
        if read == Format::Avro {
            decoder.learn(7, &SCHEMA.into()).unwrap();
        }
        let mut orders = Orders::new(3, format, 7, 1, (1_700_000_000_000_000, 1_000)).unwrap();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let next = |_| {
            orders.next_into(&mut key, &mut value);
            let mut arena = Vec::new();
            let Ok(Decoded::Datum { schema, bytes }) = decoder.decode(Some(&value), &mut arena) else { panic!() };
            let mut out = Vec::new();
            write_json(decoder.shape(schema).unwrap(), &mut Cursor::new(bytes), &mut out).unwrap();
            let order: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(order["order_time"].to_string().as_bytes(), key);
            order
        };
        (0..1_000).map(next).collect()
    }

    #[test]
    fn orders_are_the_same_in_every_format_and_no_two_have_one_time() {
        let json = orders(OrderFormat::Json, Format::Json);
        assert_eq!(json, orders(OrderFormat::ConnectJson, Format::ConnectJson));
        assert_eq!(json, orders(OrderFormat::Avro, Format::Avro));
        let times: BTreeSet<i64> = json.iter().map(|order| order["order_time"].as_i64().unwrap()).collect();
        assert_eq!(times.len(), json.len(), "a microsecond lies between them, and the key is in milliseconds");
        let dishes: Vec<&Value> = json.iter().flat_map(|order| order["order"].as_array().unwrap()).collect();
        assert!(DISHES.iter().all(|dish| dishes.iter().any(|found| *found == dish)));
        let sizes: BTreeSet<usize> = json.iter().map(|order| order["order"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, (1..=MOST_DISHES).collect());
    }
}
