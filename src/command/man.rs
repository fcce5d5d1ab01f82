//! The manual pages, written when the package is built: one for pressline, one for each command.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

/// `pressline man`.
#[derive(Args)]
pub struct ManArgs {
    /// The folder that the pages are written to; made where it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// A page cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct Unwritten {
    path: PathBuf,
    source: io::Error,
}

/// Writes the pages. Errors: the folder cannot be written to.
pub fn run(args: &ManArgs, command: Command) -> Result<(), Unwritten> {
    let unwritten = |path: &Path, source| Unwritten { path: path.into(), source };
    std::fs::create_dir_all(&args.folder).map_err(|source| unwritten(&args.folder, source))?;
    // The version's second part is about librdkafka.
    let command = command.version(env!("CARGO_PKG_VERSION"));
    for (name, page) in pages(command) {
        let path = args.folder.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|source| unwritten(&path, source))?;
    }
    Ok(())
}

/// Each page by its name: `pressline`, `pressline-check`, `pressline-topics-create`.
fn pages(command: Command) -> Vec<(String, Vec<u8>)> {
    let name = command.get_name().to_owned();
    let mut pages = Vec::new();
    add(command.disable_help_subcommand(true), &name, &mut pages);
    pages
}

fn add(mut command: Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    command.build();
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let full = format!("{name}-{}", inner.get_name());
        add(inner.clone(), &full, pages);
    }
    let mut page = Vec::new();
    let man = Man::new(command).title(name.to_uppercase()).source("pressline").manual("pressline");
    // Writing to memory cannot fail.
    if man.render(&mut page).is_ok() {
        pages.push((name.to_owned(), page));
    }
}
