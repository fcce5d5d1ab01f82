//! The process as its surroundings see it: standard streams, exit codes, settings of the environment, file descriptors, and
//! what a crash leaves behind. No service is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod settings;
mod streams;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a schema, a place database and a pipeline that needs services which are not there.
struct House {
    folder: tempfile::TempDir,
}

const PIPELINE: &str = r#"
[kafka]
bootstrap_servers = "127.0.0.1:1"
[registry]
url = "http://127.0.0.1:1"
[source]
topic = "raw_presses"
[output]
topic = "button_presses"
schema = "../s.avsc"
[place]
files = ["../demo.mmdb"]
"#;

impl House {
    fn new() -> Self {
        let house = Self { folder: tempfile::tempdir().unwrap() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(root.join("schemas/button_presses.avsc"), house.path("s.avsc")).unwrap();
        std::fs::copy(root.join("data/demo.mmdb"), house.path("demo.mmdb")).unwrap();
        std::fs::create_dir(house.path("pipelines")).unwrap();
        house.write("pipelines/presses.toml", PIPELINE);
        house.write("events.json", "{}\n{}\n");
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// pressline in the folder, with an environment of its own.
    fn pressline(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressline"));
        command.args(args.split_whitespace()).current_dir(self.folder.path()).env_clear().env("HOME", "/nonexistent");
        command
    }

    /// What `check` says, on both streams.
    fn check(&self, args: &str) -> String {
        both(&self.pressline(&format!("check {args}")).output().unwrap())
    }
}

fn both(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[track_caller]
fn has(text: &str, expected: &str) {
    assert!(text.contains(expected), "expected:\n{expected}\nfound:\n{text}");
}
