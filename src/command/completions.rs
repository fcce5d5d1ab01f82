//! `pressline completions`: what a shell completes.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::runtime::stdio;

/// `pressline completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

const NAME: &str = "pressline";

/// Prints the script for a shell.
pub fn run(args: &CompletionsArgs, command: &Command) {
    let shell = match args.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    // clap completes hidden commands, too.
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned();
    let mut command = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    stdio::print(String::from_utf8_lossy(&script));
}
