//! What a relay writes, as its check found out: for the check of the sinks that load it.

use crate::avro::schema::SchemaText;
use crate::pipeline::press::encode::FieldOrigin;

/// The schema of a relay's output, and where each field of it comes from; of those nothing where the actions are at fault, or where
/// a plan says it.
pub struct Output {
    /// Which schema it is, for people.
    pub says: String,
    /// As it is registered.
    pub schema: SchemaText,
    /// Its fields.
    pub origins: Vec<(String, FieldOrigin)>,
}
