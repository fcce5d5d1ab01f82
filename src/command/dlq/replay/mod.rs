//! `pressline dlq replay`: the records of letters by the pipeline as it is now, each exactly once.
//!
//! | Part | Where the mark is that a letter was replayed |
//! | --- | --- |
//! | relay | in the dead letter topic, in the Kafka transaction of the output |
//! | PostgreSQL | in the positions' table, in the transaction of the row; told in the dead letter topic afterwards |
//! | ClickHouse | in the table: the row itself, by the coordinates of its record; told in the dead letter topic afterwards |

mod account;
mod relay;
mod sink;
mod task;

use std::collections::BTreeMap;

use super::part::Part;
use super::{DlqError, ReplayArgs, refused};
use crate::command::offsets::{Pipeline, PipelinePart, Positions, say};
use crate::kafka::offset_note::{NextOffset, Partition};
use task::Task;

/// Runs the command; gives whether every letter that was asked for is replayed.
pub fn run(args: &ReplayArgs) -> Result<bool, DlqError> {
    let pipeline = args.selection.chosen.which.load()?;
    crate::runtime::log::init(&pipeline.log).map_err(refused)?;
    let part = Part::chosen(&pipeline, &args.selection.chosen)?;
    let stop = crate::command::generate::send::stop_on_signal().map_err(|error| refused(error.to_string()))?;
    let (passed, topic_id) = passed(&pipeline, part.part)?;
    let task = Task { args, pipeline: &pipeline, part: &part, passed, topic_id, stop };
    let account = match part.part {
        PipelinePart::Relay => relay::replay(&task)?,
        _ => sink::replay(&task)?,
    };
    say(account.text(&part, args.dry_run));
    Ok(account.is_all_replayed())
}

/// How far the part has come in each partition, and the topic's id. Errors: its positions belong to another topic of that name.
fn passed(
    pipeline: &Pipeline,
    part: PipelinePart,
) -> Result<(BTreeMap<Partition, NextOffset>, Option<String>), DlqError> {
    let positions = Positions::open(pipeline, part)?;
    let id = positions.group.topic_id.as_ref().map(|id| id.as_str().to_string());
    let mut passed = BTreeMap::new();
    for (partition, stand) in positions.read()? {
        if stand.topic_id.is_some() && stand.topic_id != id {
            return Err(refused(format!(
                "topic {} was made again since partition {partition} was read, so letters of before are about other records: {} \
                 shows more",
                positions.group.topic,
                positions.advice.show()
            )));
        }
        passed.extend(stand.position.map(|position| (partition, position)));
    }
    Ok((passed, id))
}
