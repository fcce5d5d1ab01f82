//! Avro schema files: read, checked for what readers stumble over, and compared.
//!
//! Avro tells readers to ignore what they do not understand, so a misplaced logical type is no error to a parser; the
//! event is then a plain string or long for ever. [`lint`] finds such things in the raw JSON, before apache-avro.

mod default;
mod diff;
mod kept;
mod lint;
mod logical;
mod names;
mod registered;
mod text;

use std::path::{Path, PathBuf};

use apache_avro::Schema;

use crate::config::finding::{Finding, check_readable};

pub use diff::diff;
pub use kept::kept_otherwise;
pub use names::{collect_names, depth, is_name};
pub use registered::{
    Reference, SchemaText, former_names, misplaced_logical_type, original, parse_registered, record_name,
};

/// Deepest nesting of brackets in a schema: apache-avro has no limit of its own, and a deeper one would overflow the
/// stack and abort the process.
pub const MAX_DEPTH: usize = 64;

/// A schema file that holds no error.
#[derive(Clone, Debug)]
pub struct SchemaFile {
    /// Where it was read.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// The same JSON without spaces and line breaks, keys in the file's order: this is what gets registered.
    pub compact: String,
    /// The parsed schema.
    pub schema: Schema,
    /// What is worth a look.
    pub warnings: Vec<Finding>,
}

/// Reads a schema file. Errors: everything that is wrong with it, warnings included.
pub fn load(path: &Path) -> Result<SchemaFile, Vec<Finding>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Finding::error(path.display().to_string(), "", format!("cannot be read: {error}"), check_readable())]
    })?;
    parse(path, text)
}

/// [`load`] for a text that was read already; `path` is only named in findings.
pub fn parse(path: &Path, text: String) -> Result<SchemaFile, Vec<Finding>> {
    let place = path.display().to_string();
    if let Some(line) = text::too_deep(&text, MAX_DEPTH) {
        return Err(vec![Finding::error(
            format!("{place}:{line}"),
            "",
            format!("nested deeper than {MAX_DEPTH} levels"),
            "flatten the schema; types that are used twice can be named and referred to",
        )]);
    }
    let json = serde_json::from_str(&text).map_err(|error| {
        vec![Finding::error(
            format!("{place}:{}", error.line()),
            "",
            format!("not valid JSON at column {}: {}", error.column(), text::without_position(&error.to_string())),
            "fix the line; an .avsc file is one JSON object",
        )]
    })?;
    let findings = lint::lint(&place, &text, &json);
    if findings.iter().any(Finding::is_error) {
        return Err(findings);
    }
    match Schema::parse_str(&text) {
        Ok(schema) => {
            let compact = text::compact(&text);
            Ok(SchemaFile { path: path.into(), text, compact, schema, warnings: findings })
        }
        Err(error) => {
            let what = format!("not a valid Avro schema: {error}");
            let mut all = vec![Finding::error(place, "", what, "see the Avro specification, \"Schema Declaration\"")];
            all.extend(findings);
            Err(all)
        }
    }
}

#[cfg(test)]
mod tests;
