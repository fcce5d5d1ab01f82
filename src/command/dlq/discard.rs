//! `pressline dlq discard`: letters that are not to be replayed, with the reason as a record.

use super::choose::{self, Reach, choose, printable};
use super::part::Part;
use super::{DiscardArgs, DlqError, refused};
use crate::command::offsets::{confirm, say};
use crate::kafka::letter_marks::MarkWriter;
use crate::kafka::letters::{LetterId, Mark};
use crate::place::ClientIp;
use crate::runtime::terminal::counted;

/// Longest reason, in bytes: it stands in each mark.
const LONGEST: usize = 500;
/// So many marks are written together.
const MARKS: usize = 5_000;

/// Runs the command; false if the operator declined.
pub fn run(args: &DiscardArgs) -> Result<bool, DlqError> {
    let why = args.reason_text.trim();
    if why.is_empty() || why.len() > LONGEST {
        return Err(refused(format!("--reason-text: {} bytes, expected 1 to {LONGEST}", why.len())));
    }
    if ClientIp::stands_in(why) {
        return Err(refused("--reason-text: an address stands in it, and the topic would keep it: say it without one"));
    }
    let pipeline = args.selection.chosen.which.load()?;
    crate::runtime::log::init(&pipeline.log).map_err(refused)?;
    let part = Part::chosen(&pipeline, &args.selection.chosen)?;
    let letters = choose::read(&part, Reach::Committed)?;
    let choice = choose(&letters, &part, &args.selection)?;
    let ids: Vec<LetterId> = choice.letters.iter().map(|letter| letter.id.clone()).collect();
    if choice.unnamed > 0 {
        say(format!(
            "{} left out: an earlier release wrote it, without the pipeline's name; add --unnamed where no other pipeline writes its dead \
             letters to topic {}",
            counted(choice.unnamed, "letter"),
            part.dead_topic
        ));
    }
    if ids.is_empty() {
        say("no open letters to discard");
        return Ok(true);
    }
    say(format!(
        "{} of {}, {}, in topic {} will not be replayed any more: {}",
        counted(ids.len() as u64, "open letter"),
        part.pipeline,
        part.part.name(),
        part.dead_topic,
        printable(why)
    ));
    if !confirm(args.yes)? {
        say("Cancelled");
        return Ok(false);
    }
    let mark = Mark::Discarded(why.to_string());
    let failed = |error| refused(format!("topic {}: {error}", part.dead_topic));
    let mut writer = MarkWriter::new(&part.kafka, &part.dead_topic).map_err(failed)?;
    for ids in ids.chunks(MARKS) {
        writer.write(ids, &mark).map_err(failed)?;
    }
    say(format!("{} discarded", counted(ids.len() as u64, "letter")));
    Ok(true)
}
