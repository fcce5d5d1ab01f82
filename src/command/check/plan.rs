//! The plan of a pipeline with transforms: compiled as `run` would, so that every predicate and path is typed.

use super::output::Output;
use super::{Report, Subject, data_flow};
use crate::avro::Shape;
use crate::avro::registry::Registry;
use crate::avro::schema::SchemaText;
use crate::pipeline::plan::schemas::{self, Design};
use crate::runtime::terminal::counted;

/// Compiles the plan where files say what the input is. Gives what it writes, where that has a schema.
pub fn check(subject: &Subject<'_>, report: &mut Report) -> Option<Output> {
    match schemas::declared_input(subject.config) {
        Ok(Some(shape)) => design(subject, &shape, report),
        Ok(None) => None,
        Err(findings) => {
            report.findings.extend(findings);
            None
        }
    }
}

/// The same with the newest schema of the source's subject, where no file says it.
pub async fn check_online(subject: &Subject<'_>, report: &mut Report) -> Option<Output> {
    let config = subject.config;
    if !matches!(schemas::declared_input(config), Ok(None)) {
        return None;
    }
    let format = config.source.format().unwrap_or_default().format;
    if !format.has_registered_schemas() {
        report.findings.push(subject.error(
            "source.schema",
            format!(
                "not set, and records in {} bring their schema along: nothing is known before the first one",
                format.name()
            ),
            "name an Avro schema file of the records",
        ));
        return None;
    }
    let registry = Registry::new(&config.registry).ok()?;
    let name = config.source_subject();
    match registry.latest(&name).await {
        Ok(Some(version)) => match schemas::of_registered(config, &version.schema) {
            Ok(shape) => return design(subject, &shape, report),
            Err(findings) => report.findings.extend(findings),
        },
        Ok(None) => report.findings.push(subject.warning(
            "source.topic",
            format!("subject {name} is not registered yet, so the transforms could not be checked"),
            "register the schema, or name a schema file in source.schema",
        )),
        Err(error) => report.findings.push(super::offline::registry_finding(subject, &error)),
    }
    None
}

fn design(subject: &Subject<'_>, shape: &Shape, report: &mut Report) -> Option<Output> {
    match schemas::design(subject.config, shape) {
        Ok(Design { plan, text, .. }) => {
            let fields = counted(plan.puts().len(), "field");
            report.ok(subject.line(format_args!("plan: {fields} of the output, {} lookups", plan.lookups())));
            let schema = text.as_ref().map_or_else(String::new, |text| format!("  schema to register\n    {text}\n"));
            report.explained.push((subject.file.display().to_string(), format!("{plan}{schema}")));
            data_flow::planned(subject, &plan, report);
            let says = match subject.config.schema_file() {
                Some(path) => format!("schema file {}", path.display()),
                None => format!("the schema that the plan of {} makes", subject.file.display()),
            };
            Some(Output { says, schema: SchemaText::from(text?.as_str()), origins: Vec::new() })
        }
        Err(findings) => {
            report.findings.extend(findings);
            None
        }
    }
}
