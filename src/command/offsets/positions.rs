//! The positions of a relay or sink, wherever they are kept.

use std::collections::BTreeMap;

use tokio::runtime::Runtime;

use super::{Advice, Group, OffsetsError, Pipeline, PipelinePart};
use crate::config::KafkaConfig;
use crate::config::sink::{ClickHouseConfig, LoadConfig, PostgresConfig};
use crate::kafka::offset_note::{CommittedOffset, NextOffset, OffsetNote, Partition, Pending};
use crate::kafka::topic_id::TopicId;
use crate::sink::postgres::{Connection, Offsets};
use crate::sink::{clickhouse, postgres};

/// A relay's or sink's positions.
pub struct Positions {
    /// Its pipeline and part, for messages.
    pub advice: Advice,
    /// Its group.
    pub group: Group,
    kafka: KafkaConfig,
    topic_ids: bool,
    kept: Kept,
    runtime: Runtime,
}

/// Where the positions are.
enum Kept {
    /// In the group.
    Group,
    /// In the group, about rows in a ClickHouse table.
    ClickHouse(Box<ClickHouseConfig>),
    /// In a table of PostgreSQL; the group only shows them to others.
    Postgres(Box<PostgresConfig>, Offsets),
}

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Next offset; `None`: there is no position.
    pub position: Option<NextOffset>,
    /// A range from there on of which it is not known whether it was written.
    pub pending: Option<Pending>,
    /// Id of the topic it belongs to, as noted.
    pub topic_id: Option<String>,
    /// What the group shows, where the position is kept elsewhere.
    pub shown: Option<NextOffset>,
    /// First offset of the topic and the one after its last.
    pub range: (NextOffset, NextOffset),
}

impl Positions {
    /// Connects to Kafka. Errors: the pipeline has no such part; no broker or topic.
    pub fn open(pipeline: &Pipeline, part: PipelinePart) -> Result<Self, OffsetsError> {
        let advice = Advice::new(&pipeline.name, part);
        let runtime = crate::daemon::runtime().map_err(OffsetsError::Refused)?;
        let lacks = || pipeline.lacks(part);
        match part {
            PipelinePart::Relay => {
                let config = pipeline.relay.as_ref().ok_or_else(lacks)?;
                let (kafka, topic_ids) = (config.kafka.clone(), config.source.topic_ids);
                let group = Group::open(&kafka, &config.source.topic, &config.group(), topic_ids)?;
                Ok(Self { advice, group, kafka, topic_ids, kept: Kept::Group, runtime })
            }
            PipelinePart::Clickhouse => {
                let load = pipeline.load.as_ref().ok_or_else(lacks)?;
                let sink = load.sink.clickhouse.clone().ok_or_else(lacks)?;
                let group = open_group(load, &load.group(part.name(), &sink.consumer))?;
                let kept = Kept::ClickHouse(Box::new(sink));
                Ok(Self { advice, group, kafka: load.kafka.clone(), topic_ids: true, kept, runtime })
            }
            PipelinePart::Postgres => {
                let load = pipeline.load.as_ref().ok_or_else(lacks)?;
                let sink = load.sink.postgres.clone().ok_or_else(lacks)?;
                let group = open_group(load, &load.group(part.name(), &sink.consumer))?;
                let id = group.topic_id.as_ref().map_or("", TopicId::as_str);
                let offsets = Offsets::new(&sink.offsets_table, &load.name, load.topic(), id)
                    .map_err(|what| OffsetsError::Refused(format!("sink.postgres.offsets_table: {what}")))?;
                let kept = Kept::Postgres(Box::new(sink), offsets);
                Ok(Self { advice, group, kafka: load.kafka.clone(), topic_ids: true, kept, runtime })
            }
        }
    }

    /// Another group that reads the same topic.
    pub fn other_group(&self, name: &str) -> Result<Group, OffsetsError> {
        Group::open(&self.kafka, &self.group.topic, name, self.topic_ids)
    }

    /// Where they are kept, in words.
    pub fn kept(&self) -> String {
        match &self.kept {
            Kept::Group | Kept::ClickHouse(_) => "in the group".into(),
            Kept::Postgres(sink, _) => format!("in table {} of {}", sink.offsets_table, postgres::place(sink)),
        }
    }

    /// Where every partition stands.
    pub fn read(&self) -> Result<BTreeMap<Partition, Stand>, OffsetsError> {
        let committed = self.group.committed()?;
        let mut stands: BTreeMap<Partition, Stand> = BTreeMap::new();
        for (&partition, &range) in &self.group.ranges {
            let found = committed.get(&partition);
            stands.insert(
                partition,
                Stand {
                    position: found.map(|offset| offset.next),
                    pending: found.and_then(|offset| offset.note.pending),
                    topic_id: found.and_then(|offset| offset.note.topic_id.clone()),
                    shown: None,
                    range,
                },
            );
        }
        if let Kept::Postgres(sink, offsets) = &self.kept {
            let stored = self.runtime.block_on(async {
                let connection = Connection::open(sink, &self.advice.pipeline).await?;
                offsets.stored(&connection).await
            })?;
            for (partition, stand) in &mut stands {
                let row = stored.get(partition);
                stand.shown = stand.position;
                stand.position = row.map(|row| row.next_offset);
                stand.topic_id = row.map(|row| row.topic_id.clone()).filter(|id| !id.is_empty());
            }
        }
        Ok(stands)
    }

    /// Sets positions. What is noted with the others stays as it is.
    pub fn write(&self, positions: &BTreeMap<Partition, NextOffset>) -> Result<(), OffsetsError> {
        let committed = self.group.committed()?;
        self.group.must_rest()?;
        if let Kept::Postgres(sink, offsets) = &self.kept {
            // Rows of partitions that a topic made again does not have would be refused at every start.
            let all = positions.len() == self.group.ranges.len();
            self.runtime.block_on(async {
                let connection = Connection::open(sink, &self.advice.pipeline).await?;
                offsets.ensure_table(&connection).await?;
                offsets
                    .set(&connection, positions, |partition| !all || self.group.ranges.contains_key(&partition))
                    .await
            })?;
        }
        for (&partition, &next) in positions {
            self.group.commit(partition, next, &self.note(partition, next, &committed))?;
        }
        Ok(())
    }

    fn note(
        &self,
        partition: Partition,
        next: NextOffset,
        committed: &BTreeMap<Partition, CommittedOffset>,
    ) -> OffsetNote {
        let noted = committed.values().find_map(|offset| offset.note.partitions);
        let before = committed.get(&partition);
        // Of a position set back, rows come again on purpose.
        let begun = before.filter(|before| before.next < next).and_then(|before| before.note.begun);
        // Only a sink has deduplication tokens that must differ.
        let resets = match &self.kept {
            Kept::ClickHouse(_) => before.map_or(0, |offset| offset.note.resets) + 1,
            Kept::Group | Kept::Postgres(..) => 0,
        };
        OffsetNote {
            topic_id: self.group.topic_id.as_ref().map(|id| id.as_str().to_string()),
            partitions: noted.or_else(|| i32::try_from(self.group.ranges.len()).ok()),
            resets,
            begun: begun.filter(|begun| *begun > next),
            ..OffsetNote::default()
        }
    }

    /// How many rows a ClickHouse table has of a partition's offsets in a range; `None` where that is unknown.
    pub fn rows_in_table(
        &self,
        partition: Partition,
        start: NextOffset,
        end: NextOffset,
    ) -> Result<Option<u64>, OffsetsError> {
        let Kept::ClickHouse(sink) = &self.kept else { return Ok(None) };
        if !sink.is_told() {
            return Ok(None);
        }
        self.runtime.block_on(async {
            let client = clickhouse::Client::open(sink).await?;
            let table = clickhouse::Table::describe(&client, &sink.database, &sink.table).await?;
            let Some(table) = table.filter(clickhouse::Table::has_coordinates) else { return Ok(None) };
            Ok(Some(client.count_rows(&table, &self.group.topic, partition, start, end).await?))
        })
    }
}

fn open_group(load: &LoadConfig, name: &str) -> Result<Group, OffsetsError> {
    Group::open(&load.kafka, load.topic(), name, true)
}
