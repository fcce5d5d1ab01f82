//! From the arguments to one of the commands.

use super::{Command, DlqArgs, DlqError, discard, ls, replay, show};

/// Runs the command; gives whether nothing is left to do. Blocks; must not be called from within an async runtime.
pub fn run(args: &DlqArgs) -> Result<bool, DlqError> {
    match &args.command {
        Command::Ls(args) => ls::run(args).map(|()| true),
        Command::Show(args) => show::run(args).map(|()| true),
        Command::Replay(args) => replay::run(args),
        Command::Discard(args) => discard::run(args),
    }
}
