//! The topic's side beside its records: the dead letters of a sink, and whether records go by themselves.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{BorrowedMessage, Message};

use super::OffsetsError;
use crate::config::KafkaConfig;
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, Role};
use crate::kafka::dead_letter::header;
use crate::kafka::letters::{Mark, header_text};
use crate::kafka::offset_note::Partition;
use crate::kafka::records::Records;
use crate::runtime::supervise::drop_in_background;
use crate::sink::VIEW;

/// Which letters are looked for.
pub struct LettersOf<'a> {
    /// The topic that they are about.
    pub topic: &'a str,
    /// The sink's group.
    pub group: &'a str,
    /// The pipeline that wrote them.
    pub pipeline: &'a str,
    /// Its sink.
    pub sink: &'a str,
    /// The offsets that are compared, of each partition.
    pub spans: &'a BTreeMap<Partition, (i64, i64)>,
}

/// What a sink's dead-letter topic says of the offsets that are compared.
#[derive(Default)]
pub struct Letters {
    /// Partition → offsets of dead letters, ascending, each once. Eight bytes each: the circuit breaker keeps them few.
    pub dead: BTreeMap<Partition, Vec<i64>>,
    /// Partition and sentence of each insert on which a materialized view failed. Its rows are in the table.
    pub views: BTreeSet<(Partition, String)>,
}

/// Reads a sink's dead letters; none where there is no dead-letter topic.
pub fn dead_letters(kafka: &KafkaConfig, dead_topic: &str, wanted: &LettersOf<'_>) -> Result<Letters, OffsetsError> {
    let mut letters = Letters::default();
    let mut records = Records::open(kafka, dead_topic, wanted.group)?;
    let mut replayed = BTreeSet::new();
    for (partition, (low, high)) in records.ranges()? {
        if low == high {
            continue;
        }
        records.seek(partition, low)?;
        while let Some(letter) = records.next()? {
            let mark = header_text(&letter, header::MARK);
            match origin(&letter, wanted) {
                Some(of) if mark == Some(Mark::REPLAYED) => drop(replayed.insert(of)),
                _ if mark.is_some() => {}
                Some((of, _)) if header_text(&letter, header::REASON) == Some(VIEW) => {
                    let what =
                        [header::FIELD, header::MESSAGE].map(|name| header_text(&letter, name).unwrap_or_default());
                    letters.views.insert((of, format!("{} ({})", what[1], what[0])));
                }
                Some((of, offset)) => letters.dead.entry(of).or_default().push(offset),
                None => {}
            }
            if letter.offset() + 1 >= high {
                break;
            }
        }
    }
    for (partition, offsets) in &mut letters.dead {
        offsets.retain(|offset| !replayed.contains(&(*partition, *offset)));
        offsets.sort_unstable();
        offsets.dedup();
    }
    Ok(letters)
}

fn origin(letter: &BorrowedMessage<'_>, wanted: &LettersOf<'_>) -> Option<(Partition, i64)> {
    let text = |name: &str| header_text(letter, name);
    // Letters of earlier releases do not name it.
    if text(header::PIPELINE).is_some_and(|pipeline| pipeline != wanted.pipeline) {
        return None;
    }
    if text(header::SINK) != Some(wanted.sink) || text(header::TOPIC) != Some(wanted.topic) {
        return None;
    }
    let (partition, offset) = (text(header::PARTITION)?.parse().ok()?, text(header::OFFSET)?.parse().ok()?);
    let (from, to) = wanted.spans.get(&partition)?;
    (*from..*to).contains(&offset).then_some((partition, offset))
}

/// Whether records of the topic go by themselves, so that rows may be left without. Where it cannot be asked, they do not.
pub async fn is_compacted(kafka: &KafkaConfig, topic: &str) -> bool {
    let Ok(config) = client::client_config(kafka, Role::Producer) else { return false };
    let Ok(admin) = config.create::<AdminClient<DefaultClientContext>>() else { return false };
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let answers = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
    drop_in_background(admin);
    let entries = answers.into_iter().flatten().flatten().flat_map(|resource| resource.entries);
    entries
        .filter(|entry| entry.name == "cleanup.policy")
        .any(|entry| entry.value.is_some_and(|policy| policy.split(',').any(|word| word.trim() == "compact")))
}
