//! What a replay does: a pipeline's configuration with the target in place of the pipeline's own, and with ids of its own.

use super::{ReplayArgs, ReplayError, fetch};
use crate::command::offsets::{Pipeline, PipelinePart};
use crate::config::sink::{LoadConfig, SinkConsumerConfig};
use crate::config::{KafkaConfig, MemoryShare, PipelineConfig, REPLAYS, StartPolicy, validate as sense};
use crate::kafka::replay_range::Overlap;
use crate::sink::DatabaseKind;
use crate::sink::postgres::TableName;

/// Longest name: a prefix and a sink's name are added in ids.
const LONGEST_NAME: usize = 80;

/// One replay.
pub struct Job {
    /// Its name, which its ids are made from.
    pub name: String,
    /// Where it writes.
    pub into: String,
    /// Whether the live pipeline writes there too.
    pub overlap: Overlap,
    /// The loop that does it.
    pub work: Work,
    /// What each worker may hold.
    pub memory: MemoryShare,
}

/// A loop with its configuration.
pub enum Work {
    /// Raw records into an Avro topic.
    Relay(Box<PipelineConfig>),
    /// An Avro topic into a table.
    Load(Box<LoadConfig>, DatabaseKind),
}

impl Job {
    /// Of the command's arguments. Errors: the pipeline has no such part; the target is its own and that was not asked for.
    pub fn new(args: &ReplayArgs, pipeline: &Pipeline) -> Result<Self, ReplayError> {
        let own = own_target(pipeline, args.sink)?;
        let into = match (&args.into, args.into_same) {
            (Some(into), false) => into.clone(),
            (None, true) => own.clone(),
            _ => {
                return Err(refused(
                    "name a table or topic to write to with --into, or the pipeline's own with --into-same",
                ));
            }
        };
        if !args.into_same && may_be_same(args.sink, &into, &own) {
            return Err(refused(format!(
                "--into {into}: that is where pipeline {} itself writes ({own}): what is there already would come twice. Name \
                 another; to write there all the same, say --into-same",
                pipeline.name
            )));
        }
        let name = args.name.clone().unwrap_or_else(|| default_name(&pipeline.name, args.sink, &into));
        if !sense::is_id(&name) || name.len() > LONGEST_NAME {
            return Err(refused(format!("--name {name}: use 1 to {LONGEST_NAME} of A-Z a-z 0-9 . _ -")));
        }
        let overlap = if args.into_same { Overlap::Ask } else { Overlap::None };
        let work = work(args, pipeline, &name, &into)?;
        let memory = pipeline.memory.share(work.workers());
        let mut job = Self { name, into, overlap, work, memory };
        fetch::suit(job.kafka_mut(), memory.fetch_kb);
        Ok(job)
    }

    /// The name as it stands in ids.
    pub fn id(&self) -> String {
        format!("{REPLAYS}{}", self.name)
    }

    /// The topic that is read.
    pub fn topic(&self) -> &str {
        match &self.work {
            Work::Relay(config) => &config.source.topic,
            Work::Load(config, _) => config.topic(),
        }
    }

    /// Its consumer group.
    pub fn group(&self) -> String {
        match &self.work {
            Work::Relay(config) => config.group(),
            Work::Load(config, kind) => config.group(kind.name(), &SinkConsumerConfig::default()),
        }
    }

    /// Whether a recreated topic is recognised by its id.
    pub fn topic_ids(&self) -> bool {
        match &self.work {
            Work::Relay(config) => config.source.topic_ids,
            Work::Load(..) => true,
        }
    }

    /// The brokers.
    pub fn kafka(&self) -> &KafkaConfig {
        match &self.work {
            Work::Relay(config) => &config.kafka,
            Work::Load(config, _) => &config.kafka,
        }
    }

    fn kafka_mut(&mut self) -> &mut KafkaConfig {
        match &mut self.work {
            Work::Relay(config) => &mut config.kafka,
            Work::Load(config, _) => &mut config.kafka,
        }
    }

    /// Where it writes, for people.
    pub fn target(&self) -> String {
        match &self.work {
            Work::Relay(config) => format!("topic {} (dead letters: {})", self.into, config.dead_topic()),
            Work::Load(_, DatabaseKind::Postgres) => format!("PostgreSQL table {}", self.into),
            Work::Load(_, DatabaseKind::ClickHouse) => format!("ClickHouse table {}", self.into),
        }
    }
}

impl Work {
    fn workers(&self) -> usize {
        match self {
            Self::Relay(config) => config.workers,
            Self::Load(config, kind) => kind.workers(config),
        }
    }
}

fn refused(what: impl Into<String>) -> ReplayError {
    ReplayError::Refused(what.into())
}

/// Where the pipeline itself writes.
fn own_target(pipeline: &Pipeline, part: PipelinePart) -> Result<String, ReplayError> {
    let sinks = pipeline.load.as_ref().map(|load| &load.sink);
    let own = match part {
        PipelinePart::Relay => pipeline.relay.as_ref().map(|relay| relay.output.topic.clone()),
        PipelinePart::Postgres => sinks.and_then(|sink| sink.postgres.as_ref()).map(|sink| sink.table.clone()),
        PipelinePart::Clickhouse => sinks.and_then(|sink| sink.clickhouse.as_ref()).map(|sink| sink.table.clone()),
    };
    own.ok_or_else(|| pipeline.lacks(part).into())
}

/// Without a schema in both names of a table, the search path decides whether they are the same.
fn may_be_same(part: PipelinePart, into: &str, own: &str) -> bool {
    match (part, TableName::parse(into), TableName::parse(own)) {
        (PipelinePart::Postgres, Ok(into), Ok(own)) => {
            into.table == own.table && (into.schema.is_none() || own.schema.is_none() || into.schema == own.schema)
        }
        _ => into == own,
    }
}

/// Pipeline, part and target, with what ids cannot hold replaced.
fn default_name(pipeline: &str, part: PipelinePart, into: &str) -> String {
    let name = format!("{pipeline}.{}.{into}", part.name());
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

fn work(args: &ReplayArgs, pipeline: &Pipeline, name: &str, into: &str) -> Result<Work, ReplayError> {
    let id = format!("{REPLAYS}{name}");
    match args.sink {
        PipelinePart::Relay => {
            let config = pipeline.relay.clone().ok_or_else(|| pipeline.lacks(args.sink))?;
            Ok(Work::Relay(Box::new(relay(config, id, into, args)?)))
        }
        PipelinePart::Postgres | PipelinePart::Clickhouse => {
            let mut config = pipeline.load.clone().ok_or_else(|| pipeline.lacks(args.sink))?;
            if args.dead_letters.is_some() {
                return Err(refused(
                    "--dead-letters is for --sink relay: the sinks' topic is sink.SINK.consumer.dead_letter_topic",
                ));
            }
            config.name = id;
            Ok(load(config, args.sink, into))
        }
    }
}

/// The relay's configuration: its group and its transactional ids follow from the name.
fn relay(mut config: PipelineConfig, id: String, into: &str, args: &ReplayArgs) -> Result<PipelineConfig, ReplayError> {
    let own_dead = config.dead_topic();
    config.name = id;
    config.source.group = String::new();
    config.source.static_membership = false;
    // The replay's positions are there before its first worker: none at all means that they were lost.
    config.source.start = StartPolicy::Auto;
    config.output.topic = into.to_string();
    config.dead_letter.topic = match &args.dead_letters {
        Some(topic) => topic.clone(),
        // Those of the live relay are counted too: they stay apart unless the presses are put together.
        None if args.into_same => own_dead,
        None => format!("{into}.dead"),
    };
    let dead = &config.dead_letter.topic;
    for (flag, topic) in [("--into", into), ("--dead-letters", dead)] {
        if !sense::is_topic(topic) {
            return Err(refused(format!("{flag} {topic}: not a topic name")));
        }
        if *topic == config.source.topic {
            return Err(refused(format!("{flag} {topic}: that is the topic that is read")));
        }
    }
    if dead == into {
        return Err(refused(format!("--dead-letters {dead}: give dead letters a topic of their own")));
    }
    Ok(config)
}

/// One sink's configuration: its group, its positions and its deduplication tokens follow from the name.
fn load(mut config: LoadConfig, part: PipelinePart, into: &str) -> Work {
    let alone = |consumer: &mut SinkConsumerConfig| {
        consumer.group = String::new();
        consumer.static_membership = false;
    };
    let sink = &mut config.sink;
    if part == PipelinePart::Postgres {
        sink.clickhouse = None;
        if let Some(postgres) = &mut sink.postgres {
            alone(&mut postgres.consumer);
            postgres.table = into.to_string();
        }
        return Work::Load(Box::new(config), DatabaseKind::Postgres);
    }
    sink.postgres = None;
    if let Some(clickhouse) = &mut sink.clickhouse {
        alone(&mut clickhouse.consumer);
        clickhouse.table = into.to_string();
    }
    Work::Load(Box::new(config), DatabaseKind::ClickHouse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_may_be_the_same_is_told() {
        for (into, own, same) in [
            ("presses", "presses", true),
            ("public.presses", "presses", true),
            ("\"presses\"", "presses", true),
            ("public.presses", "archive.presses", false),
            ("presses_2", "presses", false),
        ] {
            assert_eq!(may_be_same(PipelinePart::Postgres, into, own), same, "{into} {own}");
        }
        assert!(may_be_same(PipelinePart::Clickhouse, "t", "t") && !may_be_same(PipelinePart::Relay, "a.t", "t"));
    }

    #[test]
    fn a_default_name_can_be_an_id() {
        assert_eq!(
            default_name("presses", PipelinePart::Postgres, "public.\"My table\""),
            "presses.postgres.public.-My-table-"
        );
    }
}
