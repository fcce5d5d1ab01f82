//! A replay from its arguments to its end: the loops of relay or sink, on a bounded range.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::command::offsets::{Pipeline, say};
use crate::command::replay::job::{Job, Work};
use crate::command::replay::plan::{ReplayPlan, State};
use crate::command::replay::progress::{LOOK_EVERY, Progress};
use crate::command::replay::store::Store;
use crate::command::replay::{ReplayArgs, ReplayError};
use crate::kafka::replay_range::ReplayRange;
use crate::pipeline::start::Library;
use crate::runtime::status::Status;
use crate::runtime::supervise::Ending;
use crate::runtime::terminal::counted;
use crate::{pipeline, sink};

/// From the signal to the exit, whatever hangs: what is open then is ended by the next start or the broker's time-out.
const STOP_WITHIN: Duration = Duration::from_secs(8);

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
    let plan = super::plan::plan(args, &pipeline, &job, &store)?;
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
    let progress = store.noted()?.map(|noted| noted.progress).unwrap_or_default();
    let found = super::summary::summary(&progress);
    say(&found.text);
    not_reached.iter().for_each(say);
    match ending {
        Ending::Stopped if found.accounted => Ok(true),
        Ending::Stopped => {
            say("interrupted; run the same command to resume");
            Ok(false)
        }
        Ending::Refused(fault) | Ending::Fenced(fault) => Err(ReplayError::Refused(fault.message)),
    }
}

/// Runs the loop until it is through, or told to stop.
fn execute(args: &ReplayArgs, job: &Job, plan: ReplayPlan, runtime: &Runtime) -> Result<Ending, ReplayError> {
    let replay_range = Arc::new(ReplayRange::new(plan.asked, job.overlap, args.rate, plan.progress));
    let (done, total) = replay_range.progress();
    let mut progress = Progress::new(done, total);
    let ending = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let looping = tokio::spawn(looping(job, Arc::clone(&replay_range), stopped));
        watch_over(looping, &replay_range, &mut progress, &stop).await
    });
    let (offsets, took) = progress.end(replay_range.progress().0);
    let seconds = took.as_secs_f64();
    let done = counted(offsets, "offset");
    say(format!("{done} in {seconds:.1} s, {:.0}/s", offsets as f64 / seconds.max(0.001)));
    ending.map_err(ReplayError::Refused)
}

/// The live pipeline's loop, within the range.
fn looping(
    job: &Job,
    replay_range: Arc<ReplayRange>,
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
                pipeline::start::run(*config, None, library, memory, Some(replay_range), status, stopped).await
            }
            Work::Load(config, kind) => sink::run(*config, kind, memory, Some(replay_range), status, stopped).await,
        }
    }
}

/// Shows how far it is; at a signal, tells the loop to stop and waits a little longer. Errors, in words.
async fn watch_over(
    mut looping: tokio::task::JoinHandle<Ending>,
    replay_range: &ReplayRange,
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
        progress.at(replay_range.progress().0);
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
fn finished(plan: &ReplayPlan) -> bool {
    let found = crate::command::replay::summary::summary(&plan.progress);
    say(&found.text);
    say("it is finished already, and nothing was done. To do it again: empty its target, then add --restart");
    found.accounted
}
