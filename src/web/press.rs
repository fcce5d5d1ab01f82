//! An enriched press as the output topic has it: Avro in, what the pages show out.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::avro::{Cursor, Shape, write_json};

/// Schemas kept; the output topic has one, and a new one at each change.
const MOST_SCHEMAS: usize = 1_000;
/// Digits of a session's id that are shown to others: who knows the whole id could be taken for its visitor.
const SHOWN_DIGITS: usize = 8;
const HOUR_US: i64 = 3_600_000_000;

/// The fields that the pages use. What else the record has is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Press {
    /// The session.
    pub session_id: String,
    /// ISO 8601 text in JSON.
    pub timestamp: String,
    /// `None` marks generated data.
    pub cohort: Option<i32>,
    /// What the visitor did.
    pub action: String,
    /// English name.
    pub country_name: String,
    /// Two letters, or `--`.
    pub country_code: String,
    /// State, region or province.
    pub subdivision_name: String,
    /// Its code.
    pub subdivision_code: String,
    /// City.
    pub city_name: String,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// How exact they are.
    pub accuracy_km: Option<i32>,
    /// Such as `Europe/Berlin`.
    pub time_zone: Option<String>,
}

impl Press {
    /// Whether it is a press, not a visit.
    pub fn is_press(&self) -> bool {
        self.action == "PressButton"
    }

    /// Two capital letters, or `--` for whatever else stands there.
    pub fn country(&self) -> &str {
        let is_code = self.country_code.len() == 2 && self.country_code.bytes().all(|b| b.is_ascii_uppercase());
        if is_code { &self.country_code } else { "--" }
    }

    /// The record as others may see it: as it stands in the topic, but for most of the session's id.
    pub fn shown(&self) -> Self {
        let mut session_id: String = self.session_id.chars().take(SHOWN_DIGITS).collect();
        session_id.push('\u{2026}');
        Self { session_id, ..self.clone() }
    }

    /// Hour of the day where it was pressed, 0 to 23: by the place's time zone, else by its longitude, which is up to some two
    /// hours off; `None` where neither is known.
    pub fn local_hour(&self) -> Option<usize> {
        let at: jiff::Timestamp = self.timestamp.parse().ok()?;
        let zone = self.time_zone.as_deref().and_then(|name| jiff::tz::TimeZone::get(name).ok());
        if let Some(zone) = zone {
            return usize::try_from(at.to_zoned(zone).hour()).ok();
        }
        let ahead_us = (self.longitude? / 15.0 * HOUR_US as f64).round() as i64;
        usize::try_from(at.as_microsecond().saturating_add(ahead_us).div_euclid(HOUR_US).rem_euclid(24)).ok()
    }
}

/// Decodes values in Confluent's wire format; each schema is fetched once.
#[derive(Default)]
pub struct Decoder {
    shapes: HashMap<u32, Shape>,
    json: Vec<u8>,
}

/// Why a value was not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecoded {
    /// The schema is to be fetched first, and given to [`Decoder::learn`].
    Schema(u32),
    /// It is nothing that this page can show.
    Unreadable,
}

impl Decoder {
    /// Takes a schema.
    pub fn learn(&mut self, id: u32, shape: Shape) {
        if self.shapes.len() >= MOST_SCHEMAS {
            self.shapes.clear();
        }
        self.shapes.insert(id, shape);
    }

    /// A record's value. Errors: see [`Undecoded`].
    pub fn decode(&mut self, value: &[u8]) -> Result<Press, Undecoded> {
        let Some(([0, a, b, c, d], datum)) = value.split_first_chunk::<5>() else { return Err(Undecoded::Unreadable) };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        let shape = self.shapes.get(&id).ok_or(Undecoded::Schema(id))?;
        let mut cursor = Cursor::new(datum);
        self.json.clear();
        write_json(shape, &mut cursor, &mut self.json)
            .and_then(|()| cursor.finish())
            .map_err(|_| Undecoded::Unreadable)?;
        serde_json::from_slice(&self.json).map_err(|_| Undecoded::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use apache_avro::Schema;
    use apache_avro::types::Value;

    use super::*;

    const SCHEMA: &str = include_str!("../../schemas/button_presses.avsc");

    fn datum() -> Vec<u8> {
        let schema = Schema::parse_str(SCHEMA).unwrap();
        let union = |index, value| Value::Union(index, Box::new(value));
        let value = Value::Record(
            [
                ("session_id", Value::Uuid("c0ffee00-abcd-4abc-8def-0123456789ab".parse().unwrap())),
                ("timestamp", Value::TimestampMicros(1_700_000_000_000_000)),
                ("cohort", union(1, Value::Int(1))),
                ("action", Value::String("PressButton".into())),
                ("country_name", Value::String("Germany".into())),
                ("country_code", Value::String("DE".into())),
                ("subdivision_name", Value::String("Berlin".into())),
                ("subdivision_code", Value::String("BE".into())),
                ("city_name", Value::String("Berlin".into())),
                ("latitude", union(1, Value::Double(52.5))),
                ("longitude", union(1, Value::Double(13.4))),
                ("accuracy_km", union(0, Value::Null)),
                ("time_zone", union(1, Value::String("Europe/Berlin".into()))),
            ]
            .map(|(name, value)| (name.to_string(), value))
            .to_vec(),
        );
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
        writer.write_value_to_vec(value).unwrap()
    }

    #[test]
    fn a_record_of_the_topic_is_read_and_most_of_its_session_withheld() {
        let mut decoder = Decoder::default();
        let value = [&[0, 0, 0, 0, 7][..], &datum()].concat();
        assert_eq!(decoder.decode(&value), Err(Undecoded::Schema(7)));
        decoder.learn(7, Shape::parse(SCHEMA).unwrap());
        let press = decoder.decode(&value).unwrap();
        assert_eq!((press.country(), press.cohort, press.is_press()), ("DE", Some(1), true));
        assert_eq!((press.latitude, press.accuracy_km), (Some(52.5), None));
        // 2023-11-14T22:13:20Z.
        assert_eq!(press.local_hour(), Some(23));
        let at = |time_zone: Option<&str>, longitude| {
            Press { time_zone: time_zone.map(str::to_string), longitude, ..press.clone() }.local_hour()
        };
        assert_eq!(at(Some("Nowhere/Atall"), Some(-179.0)), Some(10));
        assert_eq!(at(None, Some(179.0)), Some(10));
        assert_eq!(at(None, None), None);
        assert_eq!(press.shown().session_id, "c0ffee00\u{2026}");
        assert_eq!(decoder.decode(&value[..20]), Err(Undecoded::Unreadable));
        assert_eq!(decoder.decode(&[&value[..], b"x"].concat()), Err(Undecoded::Unreadable));
        assert_eq!(decoder.decode(b"{}"), Err(Undecoded::Unreadable));
    }
}
