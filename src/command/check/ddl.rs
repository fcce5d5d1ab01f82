//! `pressline check --ddl`: the statements that make the tables of the sinks, as `auto_create` would; with `--online` those that add what
//! tables lack that are there, as `auto_evolve` would.

use std::path::Path;

use super::Subject;
use super::changes::Asked;
use super::offline::registry_finding;
use super::sinks::unregistered;
use super::table_plan::TopicSchema;
use crate::avro::Shape;
use crate::avro::format::registered_shape;
use crate::avro::schema::{self, SchemaText};
use crate::config::finding::Finding;
use crate::config::load::Loaded;
use crate::config::sink::LoadConfig;
use crate::pipeline::plan::schemas;
use crate::sink::clickhouse;
use crate::sink::postgres::sink::SECTION;
use crate::sink::postgres::{TableName, create_table_sql, with_primary_key};
use crate::sink::{Columns, RecordTypes};

/// The statements, and what kept others from being written. The schema is that of the relay that fills the topic, where one of
/// the pipelines does, else the registry's newest.
pub async fn statements(loaded: &Loaded, is_online: bool) -> (String, Vec<Finding>) {
    let (mut text, mut findings) = (String::new(), Vec::new());
    if loaded.loads.is_empty() {
        let what = "none of the pipelines has a sink, so that no table is needed";
        findings.push(Finding::error(
            "pipelines",
            "sink",
            what,
            "give one a table [sink.postgres] or [sink.clickhouse]",
        ));
    }
    for (file, load) in &loaded.loads {
        let made = match load {
            Ok(config) => of_pipeline(loaded, file, config, is_online).await,
            Err(findings) => Err(findings.clone()),
        };
        match made {
            Ok(statements) => text.push_str(&statements),
            Err(found) => findings.extend(found),
        }
    }
    (text, findings)
}

async fn of_pipeline(
    loaded: &Loaded,
    file: &Path,
    config: &LoadConfig,
    is_online: bool,
) -> Result<String, Vec<Finding>> {
    let subject = Subject { file, name: &config.name, origin: &config.origin, config };
    let (says, shape) = schema(loaded, &subject).await?;
    let mut text = String::new();
    let mut add = |sink: &str, ddl: String| {
        let statement = if ddl.is_empty() { "-- the table lacks no column".into() } else { format!("{ddl};") };
        text.push_str(&format!("-- pipeline {}, {sink}: for {says}\n{statement}\n\n", config.name));
    };
    if let Some(sink) = &config.sink.postgres {
        let name = TableName::parse(&sink.table)
            .map_err(|what| vec![subject.error("sink.postgres.table", what, "name a table")])?;
        let asked = Asked { sink: "postgres", config: sink.changes(), is_stamped: false, columns: &sink.columns };
        let (shape, key) = changed(&asked, &subject, &shape).await?;
        let columns = Columns::new(&sink.columns, SECTION);
        match of_table(is_online, super::postgres::lacks(&subject, sink, &name, (&shape, &key))).await? {
            Some(ddl) => add("PostgreSQL", ddl),
            None => {
                let ddl = create_table_sql(&shape, &name, &columns)?;
                add("PostgreSQL", if key.is_empty() { ddl } else { with_primary_key(&ddl, &key) });
            }
        }
    }
    if let Some(sink) = &config.sink.clickhouse {
        let asked = Asked { sink: "clickhouse", config: sink.changes(), is_stamped: true, columns: &sink.columns };
        let (shape, key) = changed(&asked, &subject, &shape).await?;
        match of_table(is_online, super::clickhouse::lacks(&subject, sink, (&shape, &key))).await? {
            Some(ddl) => add("ClickHouse", ddl),
            None => {
                add("ClickHouse", clickhouse::create_table(&shape, sink, &key)?.sql);
                if !key.is_empty() {
                    add("ClickHouse", clickhouse::create_view(sink));
                }
            }
        }
    }
    Ok(text)
}

/// What the live table asks for, where it is looked at; `None`: there is none.
async fn of_table(
    is_online: bool,
    lacks: impl Future<Output = Result<Option<String>, Vec<Finding>>>,
) -> Result<Option<String>, Vec<Finding>> {
    if is_online { lacks.await } else { Ok(None) }
}

/// The shape of what the table holds, and the columns of its key.
async fn changed(
    asked: &Asked<'_>,
    subject: &Subject<'_, LoadConfig>,
    value: &Shape,
) -> Result<(Shape, Vec<String>), Vec<Finding>> {
    if !asked.config.is_upsert() {
        return Ok((value.clone(), Vec::new()));
    }
    let key = asked.key(subject).await.map_err(|finding| vec![finding])?;
    let change = asked.change(subject, key.as_ref(), value).map_err(|finding| vec![finding])?;
    Ok((change.shape, change.key))
}

async fn schema(loaded: &Loaded, subject: &Subject<'_, LoadConfig>) -> Result<(String, Shape), Vec<Finding>> {
    let topic = subject.config.topic();
    let relays = loaded.pipelines.iter().filter_map(|(_, relay)| relay.as_ref().ok());
    let relay = relays.into_iter().find(|relay| relay.output.topic == topic);
    if let Some(path) = relay.and_then(|relay| relay.schema_file()) {
        let file = schema::load(&path)?;
        let says = format!("schema file {}", file.path.display());
        return parsed(subject, says, &file.compact.as_str().into());
    }
    if let Some(text) = relay.map(schemas::derived_output).transpose()?.flatten() {
        let says = format!("the schema that the plan of pipeline {} makes", subject.name);
        return parsed(subject, says, &text.as_str().into());
    }
    if !subject.config.format().format.has_registered_schemas() {
        return match unregistered(subject).await?.into_iter().next() {
            Some(TopicSchema { says, shape, .. }) => Ok((says, shape)),
            None => Err(vec![subject.error(
                "source.topic",
                format!("topic {topic} has no record yet that could be read"),
                "run this again once its producer has written one",
            )]),
        };
    }
    let name = subject.config.subject();
    let registry = crate::avro::registry::Registry::new(&subject.config.registry);
    let asked = match registry {
        Ok(registry) => registry.latest(&name).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(Some(version)) if RecordTypes::of(subject.config).hold(&version.schema) => {
            let says = format!("subject {name}, version {} (id {})", version.version, version.id.0);
            parsed(subject, says, &version.schema)
        }
        Ok(_) => Err(vec![subject.error(
            "sink",
            format!("subject {name} has no schema yet that the sink would load"),
            "run this again once the topic's producer has registered one",
        )]),
        Err(error) => Err(vec![registry_finding(subject, &error)]),
    }
}

fn parsed(
    subject: &Subject<'_, LoadConfig>,
    says: String,
    schema: &SchemaText,
) -> Result<(String, Shape), Vec<Finding>> {
    match registered_shape(&subject.config.format(), schema) {
        Ok(shape) => Ok((says, shape)),
        Err(why) => {
            let cure = "load a topic whose schema pressline can read";
            Err(vec![subject.error("sink", format!("{says} cannot be loaded: {why}"), cure)])
        }
    }
}
