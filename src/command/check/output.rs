//! What a relay writes, as its check found out: for the check of the sinks that load it.

use crate::avro::schema::SchemaFile;
use crate::pipeline::press::encode::FieldOrigin;

/// The schema of a relay's output, and where each field of it comes from; of those nothing where the actions are at fault.
pub struct Output {
    /// The schema.
    pub schema: SchemaFile,
    /// Its fields.
    pub origins: Vec<(String, FieldOrigin)>,
}
