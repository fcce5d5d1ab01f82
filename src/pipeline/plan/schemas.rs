//! The schemas that a plan stands between: that of the input, as far as files say it, and that of the output.

use super::compile::{OutputSchema, compile};
use super::derive::derived_schema;
use super::plan_error::PlanError;
use super::program::TransformPlan;
use crate::avro::Shape;
use crate::avro::format::{Decoder, registered_shape};
use crate::avro::schema::{self, SchemaFile, SchemaText};
use crate::config::finding::Finding;
use crate::config::{OutputFormat, PipelineConfig};

/// A pipeline's plan, with what its output is.
pub struct Design {
    /// The plan for the schema that it was made of.
    pub plan: TransformPlan,
    /// The output's fields, which are the same for every schema of the input.
    pub output: OutputSchema,
    /// The text to register; none where JSON is written.
    pub text: Option<String>,
}

fn fault(key: &str, what: impl Into<String>, cure: &str) -> PlanError {
    PlanError { key: key.into(), what: what.into(), cure: cure.into() }
}

/// The type of the input's values, where the pipeline file, or a file that it names, says it. Errors: they say it wrongly.
pub fn declared_input(config: &PipelineConfig) -> Result<Option<Shape>, Vec<Finding>> {
    let format = config.source.format().unwrap_or_default();
    let decoder =
        Decoder::new(&format).map_err(|what| vec![fault("source", what, "correct the table").finding(config)])?;
    if let Some(shape) = decoder.declared() {
        return Ok(Some(Shape::clone(shape)));
    }
    let Some(path) = &config.source.schema else { return Ok(None) };
    let file = schema::load(&path.relative())?;
    of_registered(config, &SchemaText::from(file.compact.as_str())).map(Some)
}

/// The type of the input's values by a schema of the registry. Errors: one that cannot be read, or does not fit a cast.
pub fn of_registered(config: &PipelineConfig, schema: &SchemaText) -> Result<Shape, Vec<Finding>> {
    let mut format = config.source.format().unwrap_or_default();
    // A file for the records of Kafka Connect's envelope is Avro, as one for Avro is.
    if !format.format.has_registered_schemas() {
        format.format = crate::config::format::Format::Avro;
    }
    registered_shape(&format, schema)
        .map_err(|what| vec![fault("source", what, "correct the schema, or source.cast").finding(config)])
}

/// Whether the record of the output's schema file has the name that the configuration says. Errors: it has another one.
pub fn is_named(config: &PipelineConfig, file: &SchemaFile) -> Result<(), Vec<Finding>> {
    let wanted = &config.output.record;
    let found = file.schema.name().map(|name| name.fullname(None)).unwrap_or_default();
    if wanted.is_empty() || *wanted == found {
        return Ok(());
    }
    let what = format!("`{wanted}`, and the record of {} is `{found}`", file.path.display());
    Err(vec![fault("output.record", what, "write the same in both: subjects are named by it").finding(config)])
}

/// Compiles the plan for values of a type, and says what is to be registered. Errors: everything that is wrong.
pub fn design(config: &PipelineConfig, input: &Shape) -> Result<Design, Vec<Finding>> {
    let given = match config.schema_file() {
        Some(path) => Some(schema::load(&path)?),
        None => None,
    };
    if let Some(file) = &given {
        is_named(config, file)?;
    }
    let wanted = given.as_ref().map(OutputSchema::of_file).transpose();
    let wanted = wanted.map_err(|what| vec![fault("output.schema", what, "declare a record").finding(config)])?;
    let plan = compile(config, input, wanted.as_ref())
        .map_err(|faults| faults.iter().map(|fault| fault.finding(config)).collect::<Vec<_>>())?;
    let output = wanted.unwrap_or_else(|| OutputSchema::of_plan(&plan));
    let text = match (config.output.format, given) {
        (OutputFormat::Json, _) => None,
        (OutputFormat::Avro, Some(file)) => Some(file.compact),
        (OutputFormat::Avro, None) => Some(derived_schema(&plan, &config.output.topic, &config.output.record)),
    };
    Ok(Design { plan, output, text })
}

/// The schema of what a pipeline without a schema file writes, where files say what its input is; `None`: they do not, it writes JSON,
/// or it is the press kernel's. Errors: everything that is wrong.
pub fn derived_output(config: &PipelineConfig) -> Result<Option<String>, Vec<Finding>> {
    if config.is_press() {
        return Ok(None);
    }
    let Some(input) = declared_input(config)? else { return Ok(None) };
    Ok(design(config, &input)?.text)
}
