//! `pressline demo`: the relay at work in one process, without any service, for a first look and for workshops.
//!
//! ```text
//! visitors ─► raw_presses ─► the real relay ─► button_presses ─► watch ─► screen
//! (generate)  (cluster: librdkafka's mock)      (Avro, schema from the registry in memory)
//!   button ───────┘                                   └────────► the web app's map
//! ```

mod cluster;
mod registry;
mod screen;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch::Sender;
use tokio::task::JoinHandle;

use crate::avro::registry::Registry;
use crate::avro::schema;
use crate::command::demo::watch::Watch;
use crate::command::generate::{Addresses, Presses, Recipe, send};
use crate::command::web::draw_from;
use crate::config::finding::Finding;
use crate::config::web::StoreChoice;
use crate::config::{HttpConfig, LogConfig, LogFormat, MemoryConfig, PipelineConfig, WebConfig};
use crate::daemon::http;
use crate::daemon::http::Pages;
use crate::daemon::shown::Shown;
use crate::pipeline::start::Materials;
use crate::place::{self, DatabaseSet, Places};
use crate::runtime::status::Status;
use crate::runtime::stdio;
use crate::runtime::supervise::Ending;
use crate::web::{self, Parts};
use crate::{daemon, metrics, pipeline};
use cluster::{Cluster, FETCH_WAIT_MS, Visitors};
use screen::{Addressed, Screen};

// In the binary, so that an installed one needs no files.
const PIPELINE: &str = include_str!("../../../pipelines/button_presses.toml");
const SCHEMA: &str = include_str!("../../../schemas/button_presses.avsc");

/// A laptop that was asleep must find its partitions where they were: the mock stores no transaction's offsets, so a
/// worker that joins again would begin at the beginning. Half an hour: above 35 minutes the mock's microseconds overflow.
const SESSION_MS: &str = "1800000";

/// What the relay may hold.
const MEMORY: MemoryConfig = MemoryConfig { fetch_mb: 8, batch_mb: 8 };
/// How often sums are shown.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);
/// After the last press was sent, until the last one must have come out.
const DRAIN: Duration = Duration::from_secs(10);
/// After Ctrl-C, until what was open must have come out.
const DRAIN_AT_SIGNAL: Duration = Duration::from_millis(700);
/// How long the relay may take to stop; what it holds is gone with the process anyway.
const STOP: Duration = Duration::from_millis(700);

/// Options of `pressline demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Presses per second
    #[arg(short, long, default_value_t = 10.0, value_name = "N", value_parser = parse_rate)]
    pub rate: f64,
    /// End after so many presses; without it, at Ctrl-C
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// End after so many seconds
    #[arg(short, long, value_name = "N")]
    pub seconds: Option<u64>,
    /// The same seed gives the same visitors
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of presses with a mistake, which become dead letters, such as 0.04
    #[arg(long, default_value_t = 0.04, value_name = "SHARE")]
    pub malformed: f64,
    /// Address for the button and the map; port 0 is a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub web: SocketAddr,
    /// Address for registry and metrics; port 0 is a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub http: SocketAddr,
    /// Show the log of the pieces too
    #[arg(short, long)]
    pub verbose: bool,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number of events per second above 0".into())
}

/// Why the demo ended otherwise than it should.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{0}")]
    Failed(String),
    /// It cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

fn failed(error: impl ToString) -> DemoError {
    DemoError::Failed(error.to_string())
}

/// Runs the demo to its end and leaves the process.
pub fn run(args: &DemoArgs) -> ExitCode {
    let code = match demo(args) {
        Ok(()) => 0,
        // Nobody reads any more; a full disk is reported below.
        Err(DemoError::Output(_)) if stdio::is_closed() => 0,
        Err(error) => {
            stdio::tell(format_args!("error: {error}"));
            1
        }
    };
    let code = if stdio::has_failed() { 1 } else { code };
    // Not by returning: a broker and clients that are only memory need no orderly farewell.
    std::process::exit(code)
}

fn demo(args: &DemoArgs) -> Result<(), DemoError> {
    // Each dead letter has its line on the screen: a warning in the log would say it again.
    let level = if args.verbose { "info" } else { "error" };
    crate::runtime::log::init(&LogConfig { level: level.into(), format: LogFormat::Text }).map_err(failed)?;
    let stop = send::stop_on_signal().map_err(failed)?;
    let runtime = daemon::runtime().map_err(failed)?;
    let plain = pipeline_config("", "")?;
    let topics = [plain.source.topic.clone(), plain.output.topic.clone(), plain.dead_topic()];
    let cluster = Cluster::start(&topics.each_ref().map(String::as_str))
        .map_err(|error| failed(format!("the mock cluster does not start: {error}")))?;
    let status = Arc::new(Status::new(&plain.name));
    let http = runtime.block_on(serve(args.http, &status))?;
    let config = pipeline_config(cluster.bootstrap_servers(), &format!("http://{http}"))?;
    let materials = materials()?;
    let credit = materials.places.subscribe().borrow().databases().first().map(|d| d.attribution).unwrap_or_default();

    let page = runtime.block_on(serve_pages(args, config.clone(), credit))?;
    let mut screen = Screen::new();
    let addresses = Addressed { page: page.to_string(), http: format!("http://{http}") };
    screen.banner(cluster.bootstrap_servers(), &addresses, credit, args.rate)?;
    let registry = Registry::new(&config.registry).map_err(failed)?;
    let watch = Watch::open(&config, registry, runtime.handle().clone()).map_err(failed)?;
    let (stop_relay, stopped) = tokio::sync::watch::channel(false);
    let (topic, memory) = (config.source.topic.clone(), MEMORY.share(config.workers));
    let relay = runtime.spawn(pipeline::start::run(
        config,
        Some(materials),
        Arc::default(),
        memory,
        None,
        Arc::clone(&status),
        stopped,
    ));
    let sent = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let visitors = Visitors { rate: args.rate, count: args.count, stop: Arc::clone(&enough), sent: Arc::clone(&sent) };
    let mut presses = presses(args)?;
    let sender = std::thread::Builder::new()
        .name("visitors".into())
        .spawn(move || {
            visitors.send(&cluster, &topic, &mut presses);
            // Given back, because the broker lives as long as the cluster.
            cluster
        })
        .map_err(failed)?;
    let mut show = Show { screen, watch, relay, stop, enough, sent, seconds: args.seconds.map(Duration::from_secs) };
    let result = show.until_the_end(&runtime, || sender.is_finished());
    show.stop_relay(&runtime, &stop_relay);
    result
}

/// The bundled pipeline, pointed at the mock cluster: what the demo runs is what `pressline run` would run.
fn pipeline_config(bootstrap: &str, registry: &str) -> Result<PipelineConfig, DemoError> {
    let mut config: PipelineConfig = Figment::from(Toml::string(PIPELINE))
        .merge(Serialized::default("name", "button_presses"))
        .merge(Serialized::default("instance", "demo"))
        .merge(Serialized::default("kafka.bootstrap_servers", bootstrap))
        .merge(Serialized::default("registry.url", registry))
        .extract()
        .map_err(|error| failed(format!("the bundled pipeline: {error}")))?;
    // The mock names a controller that is not there, and librdkafka asks only the controller for topic ids.
    config.source.topic_ids = false;
    let own = [
        ("fetch.wait.max.ms", FETCH_WAIT_MS),
        ("session.timeout.ms", SESSION_MS),
        ("max.poll.interval.ms", SESSION_MS),
    ];
    for (name, value) in own {
        config.kafka.consumer.0.insert(name.into(), value.into());
    }
    Ok(config)
}

fn materials() -> Result<Materials, DemoError> {
    let schema = schema::parse(Path::new("schemas/button_presses.avsc"), SCHEMA.to_string());
    let schema =
        schema.map_err(|findings| failed(findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")))?;
    let places = Places::from_bytes_counted("data/demo.mmdb", place::BUNDLED.to_vec()).map_err(failed)?;
    Ok(Materials { schema, places: Arc::new(DatabaseSet::fixed(Arc::new(places))) })
}

fn presses(args: &DemoArgs) -> Result<Presses, DemoError> {
    let addresses = Addresses::from_bytes("data/demo.mmdb", place::BUNDLED, args.seed).map_err(failed)?;
    let step = Duration::from_secs_f64((1.0 / args.rate).min(86_400.0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let recipe = Recipe {
        seed: args.seed,
        // An event happens within the step before it is sent.
        start_us: i64::try_from(now.saturating_sub(step).as_micros()).unwrap_or(0),
        step_ns: u64::try_from(step.as_nanos()).unwrap_or(u64::MAX),
        malformed: args.malformed,
        ..Recipe::default()
    };
    Presses::new(recipe, addresses).map_err(failed)
}

/// Registry, metrics and health on one listener; gives its address.
async fn serve(listen: SocketAddr, status: &Arc<Status>) -> Result<SocketAddr, DemoError> {
    let recorder = metrics::install().map_err(failed)?;
    let pages = Pages::new(recorder.clone(), Shown::of(vec![Arc::clone(status)]));
    let config = HttpConfig { listen, ..HttpConfig::default() };
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        failed(format!(
            "cannot listen on {listen}: {error}. Choose another address with --http, or port 0 for a free one"
        ))
    })?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { http::serve(listener, &config, http::router(pages).merge(registry::router())).await });
    tokio::spawn(metrics::upkeep(recorder));
    Ok(address)
}

/// The button, the map and the statistics, from memory; gives the address.
async fn serve_pages(args: &DemoArgs, relay: PipelineConfig, credit: &str) -> Result<SocketAddr, DemoError> {
    let config =
        WebConfig { listen: args.web, made_up_address: true, store: StoreChoice::Memory, ..WebConfig::default() };
    let listener = TcpListener::bind(args.web).await.map_err(|error| {
        failed(format!(
            "cannot listen on {}: {error}. Choose another address with --web, or port 0 for a free one",
            args.web
        ))
    })?;
    let address = listener.local_addr()?;
    let addresses = Addresses::from_bytes("data/demo.mmdb", place::BUNDLED, args.seed).map_err(failed)?;
    let made_up = Some(draw_from(addresses));
    let parts = Parts { web: config, relay, load: None, credits: vec![credit.to_string()], made_up };
    tokio::spawn(async move {
        // Nobody stops it but the end of the process.
        let (_nobody, stop) = tokio::sync::watch::channel(false);
        if let Err(reason) = web::serve(listener, parts, stop).await {
            stdio::tell(format_args!("error: {reason}"));
        }
    });
    Ok(address)
}

/// Everything that runs, until it ends.
struct Show {
    screen: Screen,
    watch: Watch,
    relay: JoinHandle<Ending>,
    /// Set by a signal.
    stop: Arc<AtomicBool>,
    /// Tells the visitors to stop.
    enough: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    seconds: Option<Duration>,
}

impl Show {
    fn until_the_end(&mut self, runtime: &Runtime, all_sent: impl Fn() -> bool) -> Result<(), DemoError> {
        let began = Instant::now();
        let mut next_summary = began + SUMMARY_EVERY;
        let mut deadline: Option<Instant> = None;
        loop {
            for seen in self.watch.next(Duration::from_millis(50)) {
                self.screen.press(&seen)?;
            }
            if Instant::now() >= next_summary {
                next_summary += SUMMARY_EVERY;
                self.screen.summary(&self.watch.counts)?;
            }
            self.screen.flush()?;
            if self.relay.is_finished() {
                return Err(self.relay_ended(runtime));
            }
            if self.stop.load(Ordering::Acquire) {
                self.enough.store(true, Ordering::Release);
                let at_most = Instant::now() + DRAIN_AT_SIGNAL;
                deadline = Some(deadline.map_or(at_most, |set| set.min(at_most)));
            } else if self.seconds.is_some_and(|seconds| began.elapsed() >= seconds) {
                self.enough.store(true, Ordering::Release);
            }
            if all_sent() {
                deadline.get_or_insert(Instant::now() + DRAIN);
            }
            let counts = self.watch.counts;
            let all_out = all_sent() && counts.raw >= self.sent.load(Ordering::Acquire) && counts.on_the_way() == 0;
            if all_out || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
        }
        self.screen.closing(&self.watch.counts, self.sent.load(Ordering::Acquire))?;
        if self.watch.counts.on_the_way() > 0 && !self.stop.load(Ordering::Acquire) {
            return Err(failed("not every press came out in time"));
        }
        Ok(())
    }

    fn relay_ended(&mut self, runtime: &Runtime) -> DemoError {
        match runtime.block_on(&mut self.relay) {
            Ok(Ending::Refused(reason) | Ending::Fenced(reason)) => failed(format!("the relay has stopped: {reason}")),
            Ok(Ending::Stopped) => failed("the relay has stopped"),
            Err(error) => failed(error),
        }
    }

    fn stop_relay(&mut self, runtime: &Runtime, stop: &Sender<bool>) {
        if self.relay.is_finished() {
            return;
        }
        let _ = stop.send(true);
        let _ = runtime.block_on(async { tokio::time::timeout(STOP, &mut self.relay).await });
    }
}
