//! `pressline replay`: a bounded part of a topic goes through one of a pipeline's loops again, into another place.
//!
//! ```text
//! ingress topic ─► relay ─► another topic          --sink relay
//! Avro topic    ─► load  ─► another table          --sink postgres, --sink clickhouse
//! ```
//!
//! The loops are those of the live pipeline, and so is the guarantee; bounds and account are in [`crate::kafka::replay_range`]. The replay
//! has a group, positions, transactional ids and deduplication tokens of its own, so that the live ones are never touched.

mod fetch;
mod job;
mod plan;
mod progress;
mod store;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::command::offsets::{OffsetsError, Part, Pipeline, To, Which, say};
use crate::kafka::coordinator::Partition;
use crate::kafka::replay_range::Bounds;
use crate::pipeline;
use crate::pipeline::start::Library;
use crate::runtime::status::Status;
use crate::runtime::supervise::Ending;
use crate::runtime::terminal::counted;
use crate::sink;
use crate::sink::clickhouse::ChError;
use crate::sink::postgres::PgError;
use job::{Job, Work};
use plan::{Plan, State};
use progress::{LOOK_EVERY, Progress};
use store::Store;

/// From the signal to the exit, whatever hangs: what is open then is ended by the next start or the broker's time-out.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Options of `pressline replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Through which loop: `relay` reads the raw topic, a sink the Avro topic
    #[arg(short, long)]
    sink: Part,
    /// Table or topic that is written, other than the pipeline's own
    #[arg(long, value_name = "TABLE|TOPIC", required_unless_present = "into_same")]
    into: Option<String>,
    /// Write where the pipeline itself writes, up to where it is: ClickHouse takes only the rows it lacks, elsewhere what is
    /// there comes twice
    #[arg(long, conflicts_with = "into")]
    into_same: bool,
    /// From here on; an offset is the same in every partition, a time may be -1h for an hour ago
    #[arg(long, value_name = "OFFSET|beginning|TIME", allow_hyphen_values = true, default_value = "beginning")]
    from: To,
    /// Up to here, without it: fixed when the replay is begun
    #[arg(long, value_name = "OFFSET|now|TIME", allow_hyphen_values = true, default_value = "now")]
    to: To,
    /// Only this partition; can be given several times [default: all]
    #[arg(long, value_name = "N")]
    partition: Vec<Partition>,
    /// Replay name, used for its consumer group; reuse it to resume [default: from pipeline, sink and target]
    #[arg(long)]
    name: Option<String>,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Go on without what retention has removed, and count it
    #[arg(long)]
    allow_gaps: bool,
    /// Discard this replay's progress and start over
    #[arg(long)]
    restart: bool,
    /// With --into-same: do it without asking
    #[arg(short, long, requires = "into_same")]
    yes: bool,
    /// With --sink relay: make the topics that are missing, as the pipeline's own are described
    #[arg(long, conflicts_with = "into_same")]
    create_topics: bool,
    /// Topic of the relay's dead letters [default: TOPIC.dead]
    #[arg(long, value_name = "TOPIC")]
    dead_letters: Option<String>,
}

/// Why nothing is replayed, or not all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It would do harm, or cannot be done.
    #[error("{0}")]
    Refused(String),
    /// Configuration, or positions.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// ClickHouse.
    #[error(transparent)]
    ClickHouse(#[from] ChError),
}

/// Runs the command and prints what became of every record; gives whether all is accounted for. Blocks; must not be called
/// from within an async runtime.
pub fn run(args: &ReplayArgs) -> Result<bool, ReplayError> {
    let pipeline = args.which.load()?;
    crate::runtime::log::init(&pipeline.log).map_err(ReplayError::Refused)?;
    let job = Job::new(args, &pipeline)?;
    let runtime = crate::daemon::runtime().map_err(ReplayError::Refused)?;
    if args.create_topics {
        create_topics(&job, &pipeline)?;
    }
    let store = Store::open(&job, &runtime)?;
    let plan = plan::plan(args, &pipeline, &job, &store)?;
    say(format!("replay {}: topic {} into {}", job.name, job.topic(), job.target()));
    match plan.state {
        State::Open => {}
        State::Finished => return Ok(finished(&plan)),
        State::Nothing => {
            say(format!("there is nothing to replay from {} to {}, and nothing was noted", args.from, args.to));
            plan.not_reached.iter().for_each(say);
            return Ok(true);
        }
        State::Cancelled => {
            say("Cancelled");
            return Ok(false);
        }
    }
    let not_reached = plan.not_reached.clone();
    let ending = execute(args, &job, plan, &runtime)?;
    let standings = store.noted()?.map(|noted| noted.standings).unwrap_or_default();
    let found = summary::summary(&standings);
    say(&found.text);
    not_reached.iter().for_each(say);
    match ending {
        Ending::Stopped if found.accounted => Ok(true),
        Ending::Stopped => {
            say("interrupted; run the same command to resume");
            Ok(false)
        }
        Ending::Refused(message) | Ending::Fenced(message) => Err(ReplayError::Refused(message)),
    }
}

/// Makes the topics that the relay's replay writes to, where they are missing.
fn create_topics(job: &Job, pipeline: &Pipeline) -> Result<(), ReplayError> {
    let (Work::Relay(config), Some(own)) = (&job.work, &pipeline.relay) else {
        return Err(ReplayError::Refused(
            "--create-topics is for --sink relay: a sink's table is made with sink.SINK.auto_create".into(),
        ));
    };
    let (dead, own_dead) = (config.dead_topic(), own.dead_topic());
    let topics = [
        (job.into.as_str(), own.output.topic.as_str(), &config.output.create),
        (&dead, &own_dead, &config.dead_letter.create),
    ];
    crate::command::topics::make_missing(&config.kafka, &topics)
        .map_err(|error| ReplayError::Refused(error.to_string()))
}

/// Says that a replay was done before; gives whether all is accounted for.
fn finished(plan: &Plan) -> bool {
    let found = summary::summary(&plan.standings);
    say(&found.text);
    say("it is finished already, and nothing was done. To do it again: empty its target, then add --restart");
    found.accounted
}

/// Runs the loop until it is through, or told to stop.
fn execute(args: &ReplayArgs, job: &Job, plan: Plan, runtime: &Runtime) -> Result<Ending, ReplayError> {
    let bounds = Arc::new(Bounds::new(plan.asked, job.overlap, args.rate, plan.standings));
    let (done, total) = bounds.progress();
    let mut progress = Progress::new(done, total);
    let ending = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let looping = tokio::spawn(looping(job, Arc::clone(&bounds), stopped));
        watch_over(looping, &bounds, &mut progress, &stop).await
    });
    let (offsets, took) = progress.end(bounds.progress().0);
    let seconds = took.as_secs_f64();
    let done = counted(offsets, "offset");
    say(format!("{done} in {seconds:.1} s, {:.0}/s", offsets as f64 / seconds.max(0.001)));
    ending.map_err(ReplayError::Refused)
}

/// The live pipeline's loop, within bounds.
fn looping(
    job: &Job,
    bounds: Arc<Bounds>,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = Ending> + Send + use<> {
    let status = Arc::new(Status::new(&job.id()));
    let memory = job.memory;
    let work = match &job.work {
        Work::Relay(config) => Work::Relay(config.clone()),
        Work::Load(config, kind) => Work::Load(config.clone(), *kind),
    };
    async move {
        match work {
            Work::Relay(config) => {
                let library = Arc::new(Library::default());
                pipeline::run(*config, None, library, memory, Some(bounds), status, stopped).await
            }
            Work::Load(config, kind) => sink::run(*config, kind, memory, Some(bounds), status, stopped).await,
        }
    }
}

/// Shows how far it is; at a signal, tells the loop to stop and waits a little longer. Errors, in words.
async fn watch_over(
    mut looping: tokio::task::JoinHandle<Ending>,
    bounds: &Bounds,
    progress: &mut Progress,
    stop: &watch::Sender<bool>,
) -> Result<Ending, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut deadline = None;
    loop {
        let signalled = tokio::select! {
            ending = &mut looping => return ending.map_err(|error| error.to_string()),
            _ = look.tick() => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        };
        progress.at(bounds.progress().0);
        if signalled && deadline.is_none() {
            tracing::info!("shutting down, finishing open batches");
            deadline = Some(tokio::time::Instant::now() + STOP_WITHIN);
            // Nobody listens any more only if it has just ended.
            let _ = stop.send(true);
        }
        if deadline.is_some_and(|deadline| tokio::time::Instant::now() > deadline) {
            return Err("not everything ended in time; run the same command to resume from what was committed".into());
        }
    }
}
