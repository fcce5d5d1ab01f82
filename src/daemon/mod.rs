//! `pressline run`: logs, HTTP, signals and the pipelines, from start to exit.

pub mod http;
pub mod process;
pub mod report;
pub mod service_manager;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::finding::{Finding, Severity};
use crate::config::load::{Loaded, Sources};
use crate::config::sink::LoadConfig;
use crate::config::{LogFormat, PipelineConfig, ProcessConfig};
use crate::daemon::http::Pages;
use crate::daemon::service_manager::Watched;
use crate::kafka::{client, topic_patterns};
use crate::pipeline::start::Library;
use crate::runtime::fault::Fault;
use crate::runtime::figures::About;
use crate::runtime::status::Status;
use crate::runtime::supervise::Ending;
use crate::runtime::terminal::counted;
use crate::runtime::{descriptors, log, stdio};
use crate::sink::DatabaseKind;
use crate::{metrics, pipeline, sink};

/// From the signal to the exit, whatever hangs: what is open then is ended by the next start or the broker's time-out.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// How long a start asks brokers that do not answer which topics there are, where a pattern says which are loaded.
const BROKERS_START_WITHIN: Duration = Duration::from_secs(60);
/// Exit code when another process uses the same transactional id.
const FENCED: u8 = 3;

/// What `pressline check` finds in one pipeline without any file or server, and what must not run.
pub type Contradictions = fn(&Path, &PipelineConfig) -> Vec<Finding>;

/// Runs every pipeline that can be run, until all have ended or a signal comes.
///
/// `contradictions` gives what in a pipeline's settings must not run.
pub fn run(sources: &Sources, contradictions: Contradictions) -> ExitCode {
    let loaded = crate::config::load::load(sources);
    let log = match &loaded {
        Ok(loaded) => loaded.process.log.clone(),
        // Errors are written in the log's format, if that part of the configuration can be read.
        Err(_) => crate::config::load::log(sources),
    };
    let started = log::init(&log).map_err(|message| stdio::tell(format_args!("error: {message}")));
    let code = match (started, loaded) {
        (Err(()), _) => 1,
        (Ok(()), Err(findings)) => {
            tell(&findings, log.format);
            1
        }
        (Ok(()), Ok(loaded)) => match runtime() {
            Ok(runtime) => runtime.block_on(run_loaded(loaded, contradictions)),
            Err(message) => {
                stdio::tell(format_args!("error: {message}"));
                1
            }
        },
    };
    // Not by returning: a librdkafka thread that hangs must not hold up the exit.
    std::process::exit(i32::from(code))
}

/// Findings as people read them, or as lines of the log where machines read that.
fn tell(findings: &[Finding], format: LogFormat) {
    for finding in findings {
        let Finding { severity, place, subject, what, cure } = finding;
        match (format, severity) {
            (LogFormat::Text, _) => stdio::tell(finding),
            (_, Severity::Error) => tracing::error!(%place, key = %subject, %cure, "{what}"),
            (_, Severity::Warning) => tracing::warn!(%place, key = %subject, %cure, "{what}"),
        }
    }
}

/// The runtime for HTTP and the registry: two threads are plenty, the data path has its own.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("pressline-http")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

async fn run_loaded(loaded: Loaded, contradictions: Contradictions) -> u8 {
    let expanded = tokio::task::spawn_blocking(|| topic_patterns::expand(loaded, BROKERS_START_WITHIN)).await;
    let (loaded, patterns) = match expanded {
        Ok(expanded) => expanded,
        Err(error) => {
            tracing::error!("{error}");
            return 1;
        }
    };
    for pattern in patterns {
        std::thread::spawn(move || pattern.watch());
    }
    let Loaded { process, pipelines, loads, notices } = loaded;
    let format = process.log.format;
    tell(&notices, format);
    let mut broken = Vec::new();
    let mut relays = Vec::new();
    for (file, pipeline) in pipelines {
        let pipeline = pipeline.and_then(|config| match contradictions(&file, &config) {
            none if none.is_empty() => Ok(config),
            findings => Err(findings),
        });
        relays.extend(pipeline.map_err(|findings| broken.push(not_started(&file, &findings, format))));
    }
    let mut sinks = Vec::new();
    for (file, load) in loads {
        sinks.extend(load.map_err(|findings| broken.push(not_started(&file, &findings, format))));
    }
    if relays.is_empty() && sinks.is_empty() {
        return 1;
    }
    match serve(&process, relays, sinks, broken).await {
        Ok(code) => code,
        Err(message) => {
            tracing::error!("{message}");
            1
        }
    }
}

/// A pipeline that is not started.
struct Broken {
    /// Its name, which is the file's unless that says another.
    name: String,
    /// For `/readyz`.
    line: String,
}

/// Prints why a pipeline is not started.
fn not_started(file: &Path, findings: &[Finding], format: LogFormat) -> Broken {
    tell(findings, format);
    tracing::error!(file = %file.display(), "this pipeline is not started; see the findings above");
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let findings = counted(findings.len(), "finding");
    let line = format!("{}: not started, {findings}; run `pressline check`", file.display());
    Broken { name, line }
}

async fn serve(
    process: &ProcessConfig,
    relays: Vec<PipelineConfig>,
    loads: Vec<LoadConfig>,
    broken: Vec<Broken>,
) -> Result<u8, String> {
    let terminal = Terminal::of_the_start();
    let recorder = metrics::install().map_err(|error| error.to_string())?;
    for pipeline in &broken {
        metrics::ready(&pipeline.name, false);
    }
    let broken: Vec<String> = broken.into_iter().map(|pipeline| pipeline.line).collect();
    let any_broken = !broken.is_empty();
    let sinks: Vec<(LoadConfig, DatabaseKind)> =
        loads.iter().flat_map(|load| DatabaseKind::of(load).into_iter().map(|kind| (load.clone(), kind))).collect();
    let of_relays = relays.iter().map(|relay| Status::new(&relay.name).of(relay_about(relay)));
    let of_sinks = sinks
        .iter()
        .map(|(load, kind)| Status::new(&format!("{}.{}", load.name, kind.name())).of(sink_about(load, *kind)));
    let statuses: Vec<Arc<Status>> = of_relays.chain(of_sinks).map(Arc::new).collect();
    let (pipelines, memory) = (statuses.clone(), process.memory.clone());
    let pages = Pages { broken, memory, ..Pages::new(recorder.clone(), pipelines) };
    // Whoever asks for the GeoIP databases to be read again must not end a process that has none, or not yet.
    let _hangups = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let listener = http::bind(&process.http).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "pressline: metrics on http://{address}/metrics");
    let http_config = process.http.clone();
    tokio::spawn(async move { http::serve(listener, &http_config, http::router(pages)).await });
    tokio::spawn(metrics::upkeep(recorder));
    tokio::spawn(client::keep_telling_repeated());
    tokio::spawn(watch_descriptors());
    let (stop, stopped) = watch::channel(false);
    let workers = relays.iter().map(|relay| relay.workers).chain(sinks.iter().map(|(load, kind)| kind.workers(load)));
    let memory = process.memory.share(workers.sum());
    let watched = relays.iter().map(|relay| &relay.kafka).chain(sinks.iter().map(|(load, _)| &load.kafka));
    let watched = watched.zip(&statuses).map(|(kafka, status)| Watched::new(kafka, Arc::clone(status)));
    service_manager::start(watched.collect());
    let library = Arc::new(Library::default());
    let mut running = JoinSet::new();
    let mut statuses = statuses.into_iter();
    for (config, status) in relays.into_iter().zip(statuses.by_ref()) {
        let (library, stopped) = (Arc::clone(&library), stopped.clone());
        running.spawn(async move {
            let name = config.name.clone();
            let ending = pipeline::start::run(config, None, library, memory, None, Arc::clone(&status), stopped).await;
            status.end();
            (name, ending)
        });
    }
    for ((config, kind), status) in sinks.into_iter().zip(statuses) {
        let stopped = stopped.clone();
        running.spawn(async move {
            let name = status.name().to_string();
            let ending = sink::run(config, kind, memory, None, Arc::clone(&status), stopped).await;
            status.end();
            (name, ending)
        });
    }
    let code = wait(&mut running, &stop, terminal).await?;
    Ok(if code == 0 && any_broken { 1 } else { code })
}

fn relay_about(relay: &PipelineConfig) -> About {
    About {
        kind: "relay".to_string(),
        from: relay.source.topic.clone(),
        to: relay.output.topic.clone(),
        group: relay.group(),
    }
}

fn sink_about(load: &LoadConfig, kind: DatabaseKind) -> About {
    About {
        kind: kind.name().to_string(),
        from: load.topic().to_string(),
        to: kind.table(load).unwrap_or_default().to_string(),
        group: kind.consumer(load).map(|consumer| load.group(kind.name(), consumer)).unwrap_or_default(),
    }
}

/// Waits for the pipelines' ends; at a signal, tells them to stop and waits a little longer.
async fn wait(
    running: &mut JoinSet<(String, Ending)>,
    stop: &watch::Sender<bool>,
    terminal: Terminal,
) -> Result<u8, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let mut code = 0;
    let mut deadline = None;
    loop {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok((name, ending))) => code = code.max(report(&name, &ending)),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(code),
            },
            _ = terminate.recv() => begin_stop(&mut deadline, stop),
            _ = interrupt.recv() => begin_stop(&mut deadline, stop),
            // Else it only has the place databases read again.
            _ = hangup.recv() => if terminal.is_gone() { begin_stop(&mut deadline, stop) },
            () = late => {
                tracing::warn!("not everything ended in time; open transactions are ended by the next start");
                return Ok(code);
            }
        }
    }
}

/// The terminal that the process was started on: when it is closed, the process ends with it, as after Ctrl-C.
struct Terminal {
    /// There is one, and SIGHUP was not ignored, as `nohup` has it.
    binds: bool,
}

impl Terminal {
    /// To be asked before a handler of SIGHUP is there.
    fn of_the_start() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored =
            status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
        // The lowest bit is signal 1.
        Self { binds: ignored.unwrap_or_default() & 1 == 0 && Self::is_there() }
    }

    fn is_gone(&self) -> bool {
        self.binds && !Self::is_there()
    }

    fn is_there() -> bool {
        std::fs::File::open("/dev/tty").is_ok()
    }
}

/// Tells of file descriptors that run out before they have.
async fn watch_descriptors() {
    let mut watch = descriptors::Watch::default();
    loop {
        watch.look();
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
}

fn begin_stop(deadline: &mut Option<tokio::time::Instant>, stop: &watch::Sender<bool>) {
    if deadline.is_none() {
        tracing::info!("shutting down, finishing open batches");
        service_manager::stopping();
        *deadline = Some(tokio::time::Instant::now() + STOP_WITHIN);
        // Nobody listens any more only if all have ended.
        let _ = stop.send(true);
    }
}

fn report(name: &str, ending: &Ending) -> u8 {
    let (fault, code) = match ending {
        Ending::Stopped => {
            tracing::info!(pipeline = name, "pipeline ended");
            return 0;
        }
        Ending::Refused(fault) => (fault, 1),
        Ending::Fenced(fault) => (fault, FENCED),
    };
    let Fault { topic, partition, offset, code: theirs, .. } = fault;
    tracing::error!(pipeline = name, topic, partition, offset, code = theirs, "stopped: {fault}");
    code
}
