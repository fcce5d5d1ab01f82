//! From a press and its place to Avro bytes in Confluent's wire format: byte 0, the schema id (four bytes, big endian),
//! the datum.
//!
//! A plan is compiled once per writer schema; per record it copies a few ready-made pieces into the output. The place is
//! one of them: its fields stand side by side in the schema, so their bytes are one *fragment*, made once per record of
//! the GeoIP database. The address is not among the inputs: [`Encoder::encode`] takes a [`PressBody`] and a fragment, and
//! neither can hold one.

mod compile;
#[cfg(test)]
mod tests;

use crate::avro::format::datum;
use crate::pipeline::press::event::PressBody;
use crate::place::Place;

pub(crate) use compile::constant;

/// Bytes in front of the datum.
pub const HEADER_BYTES: usize = 5;

/// Writes records of one writer schema; shared by workers.
pub struct Encoder {
    header: [u8; HEADER_BYTES],
    steps: Vec<EncodeStep>,
    fragment: Vec<FragmentStep>,
    /// What is written for each action of the allow list.
    actions: Vec<Box<[u8]>>,
    /// Each field of the schema, and where what is written for it comes from.
    origins: Vec<(String, FieldOrigin)>,
}

/// Where the value of an output field comes from. That of an address is not among them: the address itself has no way into
/// the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOrigin {
    /// This field of the event.
    Event(&'static str),
    /// The place that was looked up by the address.
    Lookup,
    /// The schema's default.
    Constant,
}

/// What is written for one field of the schema.
enum EncodeStep {
    SessionId,
    TimestampMicros,
    TimestampMillis,
    Cohort(Branches),
    Action,
    /// All place fields, and the constants between them.
    Fragment,
    /// A field that is not ours: its default.
    Constant(Box<[u8]>),
}

/// What is written for one field within the fragment; without [`Branches`] the field is a plain string.
enum FragmentStep {
    Text(fn(&Place) -> &str, Option<Branches>),
    Degrees(fn(&Place) -> Option<f64>, Branches),
    Kilometres(fn(&Place) -> Option<i32>, Branches),
    Constant(Box<[u8]>),
}

impl EncodeStep {
    fn origin(&self) -> FieldOrigin {
        match self {
            EncodeStep::SessionId => FieldOrigin::Event("session_id"),
            EncodeStep::TimestampMicros | EncodeStep::TimestampMillis => FieldOrigin::Event("timestamp"),
            EncodeStep::Cohort(_) => FieldOrigin::Event("cohort"),
            EncodeStep::Action => FieldOrigin::Event("action"),
            EncodeStep::Fragment => FieldOrigin::Lookup,
            EncodeStep::Constant(_) => FieldOrigin::Constant,
        }
    }
}

/// Index bytes of a union of null and one more type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Branches {
    null: u8,
    value: u8,
}

impl Encoder {
    /// Each field of the schema in its order, with where its value comes from: read off the plan by which records are
    /// written.
    pub fn origins(&self) -> &[(String, FieldOrigin)] {
        &self.origins
    }

    /// The bytes of the fields of a place, for [`Encoder::encode`]. Good for this encoder only. Of a nullable string, empty
    /// text is written as null.
    pub fn place_fragment(&self, place: &Place) -> Box<[u8]> {
        let mut out = Vec::new();
        for step in &self.fragment {
            step.write(place, &mut out);
        }
        out.into_boxed_slice()
    }

    /// Appends header and datum to `out`, which is not cleared. Allocates only where `out` must grow.
    ///
    /// # Panics
    /// If the action is of another allow list than the one the encoder was compiled with.
    pub fn encode(&self, press: &PressBody, fragment: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        for step in &self.steps {
            match step {
                EncodeStep::SessionId => datum::bytes(press.session_id.as_bytes(), out),
                EncodeStep::TimestampMicros => datum::long(press.timestamp_us, out),
                EncodeStep::TimestampMillis => datum::long(press.timestamp_us.div_euclid(1000), out),
                EncodeStep::Cohort(branches) => match press.cohort {
                    None => out.push(branches.null),
                    Some(cohort) => {
                        out.push(branches.value);
                        datum::long(i64::from(cohort), out);
                    }
                },
                EncodeStep::Action => out.extend_from_slice(&self.actions[usize::from(press.action.0)]),
                EncodeStep::Fragment => out.extend_from_slice(fragment),
                EncodeStep::Constant(bytes) => out.extend_from_slice(bytes),
            }
        }
    }
}

impl FragmentStep {
    fn origin(&self) -> FieldOrigin {
        match self {
            FragmentStep::Text(..) | FragmentStep::Degrees(..) | FragmentStep::Kilometres(..) => FieldOrigin::Lookup,
            FragmentStep::Constant(_) => FieldOrigin::Constant,
        }
    }

    fn write(&self, place: &Place, out: &mut Vec<u8>) {
        match self {
            FragmentStep::Text(text, None) => datum::bytes(text(place).as_bytes(), out),
            FragmentStep::Text(text, Some(branches)) => {
                let text = Some(text(place)).filter(|text| !text.is_empty());
                branches.put(text, out, |text, out| datum::bytes(text.as_bytes(), out));
            }
            FragmentStep::Degrees(degrees, branches) => {
                branches.put(degrees(place), out, |degrees, out| out.extend_from_slice(&degrees.to_le_bytes()));
            }
            FragmentStep::Kilometres(kilometres, branches) => {
                branches.put(kilometres(place), out, |kilometres, out| datum::long(i64::from(kilometres), out));
            }
            FragmentStep::Constant(bytes) => out.extend_from_slice(bytes),
        }
    }
}

impl Branches {
    fn put<T>(self, value: Option<T>, out: &mut Vec<u8>, put: impl FnOnce(T, &mut Vec<u8>)) {
        match value {
            None => out.push(self.null),
            Some(value) => {
                out.push(self.value);
                put(value, out);
            }
        }
    }
}
