//! `pressline run`: logs, HTTP, signals and the pipelines, from start to exit.

pub mod http;
pub mod process;
pub mod reload;
pub mod report;
pub mod running;
pub mod service_manager;
pub mod shown;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::LogFormat;
use crate::config::finding::{Finding, Severity};
use crate::config::load::{Loaded, Sources};
use crate::daemon::http::Pages;
use crate::daemon::reload::{Configuration, Configured, Contradictions, ReloadReport, Reloading};
use crate::daemon::running::Running;
use crate::daemon::shown::Shown;
use crate::kafka::client;
use crate::kafka::topic_patterns::{Pattern, TopicChange};
use crate::metrics;
use crate::runtime::fault::Fault;
use crate::runtime::supervise::Ending;
use crate::runtime::terminal::counted;
use crate::runtime::{descriptors, log, stdio};

/// From the signal to the exit, whatever hangs: what is open then is ended by the next start or the broker's time-out.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// How long a start asks brokers that do not answer which topics there are, where a pattern says which are loaded.
const BROKERS_START_WITHIN: Duration = Duration::from_secs(60);
/// Exit code when another process uses the same transactional id.
const FENCED: u8 = 3;

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
            Ok(runtime) => {
                let sources = sources.clone();
                runtime.block_on(run_loaded(loaded, Configuration { sources, contradictions }))
            }
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

async fn run_loaded(loaded: Loaded, configuration: Configuration) -> u8 {
    let contradictions = configuration.contradictions;
    let read = tokio::task::spawn_blocking(move || Configured::of(loaded, contradictions, BROKERS_START_WITHIN)).await;
    let configured = match read {
        Ok(configured) => configured,
        Err(error) => {
            tracing::error!("{error}");
            return 1;
        }
    };
    match serve(configured, configuration).await {
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

async fn serve(configured: Configured, configuration: Configuration) -> Result<u8, String> {
    let Configured { process, relays, loads, broken, patterns, notices } = configured;
    let format = process.log.format;
    tell(&notices, format);
    let broken: Vec<Broken> = broken.iter().map(|(file, findings)| not_started(file, findings, format)).collect();
    if relays.is_empty() && loads.is_empty() {
        return Ok(1);
    }
    let terminal = Terminal::of_the_start();
    let recorder = metrics::install().map_err(|error| error.to_string())?;
    let shown = Shown::default();
    for pipeline in broken {
        metrics::ready(&pipeline.name, false);
        shown.add_broken(pipeline.line);
    }
    let (ask, asked) = mpsc::unbounded_channel();
    let pages =
        Pages { memory: process.memory.clone(), reload: Some(ask), ..Pages::new(recorder.clone(), shown.clone()) };
    // Whoever asks for the GeoIP databases to be read again must not end a process that has none, or not yet.
    let _hangups = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let listener = http::bind(&process.http).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "pressline: metrics on http://{address}/metrics");
    let running = Running::start(relays, loads, shown.clone(), &process.memory);
    let http_config = process.http.clone();
    tokio::spawn(async move { http::serve(listener, &http_config, http::router(pages)).await });
    tokio::spawn(metrics::upkeep(recorder));
    tokio::spawn(client::keep_telling_repeated());
    tokio::spawn(watch_descriptors());
    let watched = shown.clone();
    service_manager::start(move || watched.watched());
    let reloading = Reloading::new(configuration, &process, asked);
    let code = Daemon { running, topics: watch_topics(patterns), reloading, format }.wait(terminal).await?;
    Ok(if code == 0 && !shown.broken().is_empty() { 1 } else { code })
}

/// Looks for topics that come and go, each pattern on a thread of its own: the brokers are asked by calls that block.
fn watch_topics(patterns: Vec<Pattern>) -> mpsc::UnboundedReceiver<TopicChange> {
    let (tell, changes) = mpsc::unbounded_channel();
    for pattern in patterns {
        let tell = tell.clone();
        std::thread::spawn(move || pattern.watch(&tell));
    }
    changes
}

/// What goes on while pipelines run.
struct Daemon {
    running: Running,
    topics: mpsc::UnboundedReceiver<TopicChange>,
    reloading: Reloading,
    format: LogFormat,
}

impl Daemon {
    /// Waits for the pipelines' ends, starts and stops those of topics that come and go, and reads the configuration again when told to; at
    /// a signal, tells all to stop and waits a little longer.
    async fn wait(mut self, terminal: Terminal) -> Result<u8, String> {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
        let mut code = 0;
        let mut deadline = None;
        while !self.running.is_done() {
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.running.next_end() => {
                    let (name, ending) = ended?;
                    code = code.max(report(&name, &ending));
                }
                Some(change) = self.topics.recv(), if deadline.is_none() => changed(change, &mut self.running, self.format),
                read = self.reloading.next(), if deadline.is_none() => self.reload(read),
                _ = terminate.recv() => begin_stop(&mut deadline, &mut self.running),
                _ = interrupt.recv() => begin_stop(&mut deadline, &mut self.running),
                // The place databases are read again by those who have them.
                _ = hangup.recv() => match terminal.is_gone() {
                    true => begin_stop(&mut deadline, &mut self.running),
                    false => self.reloading.begin(),
                },
                () = late => {
                    tracing::warn!("not everything ended in time; open transactions are ended by the next start");
                    return Ok(code);
                }
            }
        }
        Ok(code)
    }

    /// The configuration was read again.
    fn reload(&mut self, read: Result<Configured, Vec<Finding>>) {
        let report = match read {
            Err(findings) => {
                tell(&findings, self.format);
                ReloadReport { findings: findings.iter().map(Finding::to_string).collect(), ..ReloadReport::default() }
            }
            Ok(configured) => {
                tell(&configured.notices, self.format);
                let mut notes = Vec::new();
                if self.reloading.changes_process(&configured) {
                    notes.push(
                        "[http], [log], [memory] or [web] has changed, which takes a restart of the process"
                            .to_string(),
                    );
                }
                // The watches of before end with their channel.
                self.topics = watch_topics(configured.patterns);
                ReloadReport { notes, ..self.running.replace(configured.relays, configured.loads) }
            }
        };
        report.tell();
        self.reloading.answer(&report);
    }
}

/// A topic of a pattern has come or gone.
fn changed(change: TopicChange, running: &mut Running, format: LogFormat) {
    match change {
        TopicChange::Came { file, topic, pipeline } => match *pipeline {
            Ok(load) => {
                tracing::info!(pipeline = %load.name, topic, "a new topic is of the form of source.topics: it is loaded from now on");
                running.take_up(load);
            }
            Err(findings) => {
                let Broken { line, .. } = not_started(&file, &findings, format);
                running.add_broken(format!("{line} (topic {topic})"));
            }
        },
        TopicChange::Gone { topic, pipeline } => {
            tracing::warn!(
                pipeline,
                topic,
                "the topic was deleted, or may no longer be described: its pipeline ends, and begins again when the topic is back"
            );
            running.leave(&pipeline);
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

fn begin_stop(deadline: &mut Option<tokio::time::Instant>, running: &mut Running) {
    if deadline.is_none() {
        tracing::info!("shutting down, finishing open batches");
        service_manager::stopping();
        *deadline = Some(tokio::time::Instant::now() + STOP_WITHIN);
        running.stop();
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
