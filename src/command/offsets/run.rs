//! Each of the subcommands, from its arguments to its exit code.

use crate::command::offsets::positions::Positions;
use crate::command::offsets::{Chosen, Command, OffsetsArgs, OffsetsError, ShowArgs};
use crate::runtime::stdio::say;

/// Runs the command; false if the operator was asked and declined. Blocks; must not be called from within an async runtime.
pub fn run(args: &OffsetsArgs) -> Result<bool, OffsetsError> {
    match &args.command {
        Command::Show(args) => show(args).map(|()| true),
        Command::Set(args) => super::change::set(&open(&args.chosen)?, &args.partition, args.to, args.chosen.yes),
        Command::ClearPending(args) => {
            super::change::clear_pending(&open(&args.chosen)?, &args.partition, args.to, args.chosen.yes)
        }
        Command::CopyFromGroup(args) => super::change::copy(&open(&args.chosen)?, &args.group, args.chosen.yes),
    }
}

fn show(args: &ShowArgs) -> Result<(), OffsetsError> {
    let pipeline = args.which.load()?;
    let parts = args.sink.map_or_else(|| pipeline.parts(), |part| vec![part]);
    for part in parts {
        say(super::show::table(&Positions::open(&pipeline, part)?)?.trim_end());
    }
    Ok(())
}

/// For a change, which is logged.
fn open(chosen: &Chosen) -> Result<Positions, OffsetsError> {
    let pipeline = chosen.which.load()?;
    crate::runtime::log::init(&pipeline.log).map_err(OffsetsError::Refused)?;
    Positions::open(&pipeline, chosen.sink)
}
