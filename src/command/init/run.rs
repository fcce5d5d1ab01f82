//! From the arguments to the file, and the file to what the check says of it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Made, SecretFile, quoted};
use super::{InitArgs, InitError, connect, topic};
use crate::command::check;
use crate::config::finding::Finding;
use crate::config::load::{self, Loaded, Sources};
use crate::runtime::stdio;

/// How often the file is corrected by what the check says of it.
const ROUNDS: usize = 3;

/// Writes the pipeline file, and says what it is made of. Errors: no topic, no schema, a file that is there already.
pub fn run(args: &InitArgs) -> Result<(), InitError> {
    let connected = args.connection.resolve()?;
    let has_shared = args.connection.config.is_some() || Path::new("pressline.toml").exists();
    let servers = (!has_shared).then(|| connected.kafka.bootstrap_servers.clone());
    let made = match (&args.from_connect, &args.topic) {
        (Some(file), _) => {
            let text =
                std::fs::read_to_string(file).map_err(|source| InitError::File { file: file.clone(), source })?;
            connect::pipelines(&text, &file.display().to_string()).map_err(InitError::Refused)?
        }
        (None, Some(topic)) => vec![topic::pipeline(args, topic, &connected, has_shared)?],
        (None, None) => Vec::new(),
    };
    for mut made in made {
        if let Some(servers) = &servers {
            made.draft.table("kafka").set("bootstrap_servers", quoted(servers), "");
        }
        write(args, made)?;
    }
    Ok(())
}

fn write(args: &InitArgs, made: Made) -> Result<(), InitError> {
    let Made { mut draft, secrets, said } = made;
    let default = PathBuf::from(format!("pipelines/{}.toml", draft.name));
    let path = args.output.clone().unwrap_or(default);
    if path.as_os_str() == "-" {
        stdio::print(draft.text());
        said.iter().for_each(stdio::tell);
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|source| InitError::File { file: folder.into(), source })?;
    new_file(&path, 0o644, &draft.text())?;
    for SecretFile { name, secret } in &secrets {
        let file = folder.join(name);
        match new_file(&file, 0o600, &format!("{secret}\n")) {
            Err(InitError::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                stdio::say(format_args!("{}: was there already and stays as it is", file.display()));
            }
            written => written?,
        }
    }
    said.iter().for_each(stdio::say);
    let sources = Sources { shared: args.connection.config.clone(), pipelines: vec![path.clone()], sets: Vec::new() };
    if args.topic.is_some() {
        fit(&sources, &path, &mut draft)?;
    }
    stdio::say(format_args!("wrote {}", path.display()));
    let findings = complaints(&sources);
    findings.iter().for_each(stdio::say);
    let shown = path.display();
    stdio::say(format_args!(
        "next: pressline topics create {shown}, pressline check --online {shown}, pressline run {shown}"
    ));
    Ok(())
}

fn new_file(path: &Path, mode: u32, text: &str) -> Result<(), InitError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| InitError::File { file: path.into(), source })
}

/// What the configuration says of the file that was written.
fn complaints(sources: &Sources) -> Vec<Finding> {
    match load::load(sources) {
        Ok(loaded) => {
            let of_pipelines = loaded.pipelines.into_iter().filter_map(|(_, relay)| relay.err());
            of_pipelines.chain(loaded.loads.into_iter().filter_map(|(_, load)| load.err())).flatten().collect()
        }
        Err(findings) => findings,
    }
}

/// Has the file agree with the table that is there, and adds the statement that makes one.
fn fit(sources: &Sources, path: &Path, draft: &mut Draft) -> Result<(), InitError> {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
        return Ok(());
    };
    for _ in 0..ROUNDS {
        let Ok(loaded) = load::load(sources) else { return Ok(()) };
        let report = runtime.block_on(check::check(&loaded, true));
        let mut changed = false;
        for finding in report.findings.iter().filter(|finding| finding.is_error()) {
            changed |= adjust(draft, finding);
        }
        if !changed {
            break;
        }
        rewrite(path, draft)?;
    }
    if let Ok(loaded) = load::load_without_secrets(sources) {
        draft.statements = statements(&runtime, &loaded);
        rewrite(path, draft)?;
    }
    Ok(())
}

fn statements(runtime: &tokio::runtime::Runtime, loaded: &Loaded) -> String {
    runtime.block_on(check::statements(loaded, false)).0
}

fn rewrite(path: &Path, draft: &Draft) -> Result<(), InitError> {
    std::fs::write(path, draft.text()).map_err(|source| InitError::File { file: path.into(), source })
}

/// Takes up what a finding about a field advises; whether it could.
fn adjust(draft: &mut Draft, finding: &Finding) -> bool {
    let sink =
        ["sink.postgres", "sink.clickhouse"].into_iter().find(|sink| finding.cure.contains(&format!("{sink}.columns")));
    let Some(sink) = sink else { return false };
    let (list, comment) = if finding.cure.contains("columns.lossy") {
        ("lossy", "Fields whose conversion into the table's column may lose something")
    } else {
        ("ignore", "Fields for which the table has no column")
    };
    draft.table(&format!("{sink}.columns")).add(list, &finding.subject, comment)
}
