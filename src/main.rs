//! Command line of pressline: arguments to exit code.
//!
//! Exit codes: 0 done or stopped as asked, 1 refused or failed, 2 wrong arguments, 3 another process uses the same
//! transactional id.

// They panic where the stream cannot be written: runtime::stdio does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, CommandFactory, Parser, Subcommand};
use pressline::command::completions::CompletionsArgs;
use pressline::command::consume::ConsumeArgs;
use pressline::command::demo::DemoArgs;
use pressline::command::dlq::DlqArgs;
use pressline::command::generate::GenerateArgs;
use pressline::command::init::InitArgs;
use pressline::command::locate::LocateArgs;
use pressline::command::man::ManArgs;
use pressline::command::offsets::OffsetsArgs;
use pressline::command::places::PlacesArgs;
use pressline::command::produce::ProduceArgs;
use pressline::command::reconcile::{ReconcileArgs, Verdict};
use pressline::command::reload::{ReloadArgs, Reloaded};
use pressline::command::replay::ReplayArgs;
use pressline::command::schema::SchemaArgs;
use pressline::command::status::{Health, StatusArgs};
use pressline::command::test_pipelines::TestArgs;
use pressline::command::try_events::TryArgs;
use pressline::command::web::WebArgs;
use pressline::command::{
    check, completions, consume, demo, dlq, generate, init, locate, man, offsets, places, produce, reconcile, reload,
    replay, schema, status, test_pipelines, topics, try_events, web,
};
use pressline::config::load::Sources;
use pressline::daemon::process;
use pressline::runtime::{descriptors, stdio};
use pressline::{config, daemon};

/// Exit code of `reconcile` when a table could not be compared: not that of one that differs.
const NOT_COMPARED: u8 = 2;

/// Exit code of `status` when a daemon does not answer: not that of one that is not ready.
const NOT_ANSWERED: u8 = 2;

/// Geolocates button presses from a Kafka topic, strips the IP address, writes Avro with exactly-once semantics, and loads it
/// into PostgreSQL and ClickHouse.
#[derive(Parser)]
#[command(version = version(), propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run pipelines until told to stop (SIGTERM, Ctrl-C)
    #[command(after_help = "Examples:\n  pressline run\n  pressline run pipelines/button_presses.toml --set workers=4")]
    Run(ConfigArgs),
    /// Validate configuration, schemas and GeoIP databases without running anything
    #[command(after_help = "Examples:\n  pressline check\n  pressline check --online pipelines/button_presses.toml")]
    Check(CheckArgs),
    /// Show what would come out of events in a file, without Kafka; exit code 0 if none would be a dead letter
    #[command(after_help = "Example:\n  pressline try events.json")]
    Try(TryArgs),
    /// Run the fixtures beside the pipelines, without Kafka and databases; exit code 0 if all are as expected
    #[command(after_help = "Examples:\n  pressline test\n  pressline test pipelines/*.toml --junit results.xml")]
    Test(TestArgs),
    /// Send fake presses to the ingress topic
    #[command(after_help = "Example:\n  pressline generate --create-topics --rate 10")]
    Generate(Box<GenerateArgs>),
    /// Send events in a file to the ingress topic
    #[command(after_help = "Example:\n  pressline produce events.json")]
    Produce(ProduceArgs),
    /// Write the pipeline file that loads a topic into a database, or does what a Kafka Connect sink does
    #[command(after_help = "Example:\n  pressline init --topic orders --postgres loader@127.0.0.1:5432/shop")]
    Init(InitArgs),
    /// Print a topic's records, decoded
    #[command(after_help = "Example:\n  pressline consume button_presses --from-beginning --max 2")]
    Consume(ConsumeArgs),
    /// See it work: everything in this process, in memory, with fake visitors and a mock Kafka
    #[command(after_help = "Example:\n  pressline demo")]
    Demo(DemoArgs),
    /// Serve the button, the live map and the statistics to browsers
    #[command(after_help = "Example:\n  pressline web")]
    Web(WebArgs),
    /// Show and set where a pipeline's relay and sinks stand
    #[command(after_help = "Example:\n  pressline offsets show --pipeline button_presses")]
    Offsets(OffsetsArgs),
    /// Compare a sink's table with the topic: gaps and duplicates; exit code 0 if there are none
    #[command(after_help = "Example:\n  pressline reconcile --pipeline button_presses")]
    Reconcile(ReconcileArgs),
    /// Load or relay a part of a topic again, or into another place, exactly once; exit code 0 if all is accounted for
    #[command(
        after_help = "Example:\n  pressline replay --pipeline button_presses --sink postgres --into archive.presses --from 2026-11-01"
    )]
    Replay(ReplayArgs),
    /// Show a pipeline's dead letters, have their records written after all, each exactly once, or discard them
    #[command(after_help = "Examples:\n  pressline dlq ls\n  pressline dlq show --sink relay 0:17 --source")]
    Dlq(DlqArgs),
    /// The topics that the pipelines describe
    #[command(subcommand, after_help = "Examples:\n  pressline topics create\n  pressline topics create --apply")]
    Topics(TopicsCommand),
    /// Show what the GeoIP databases answer to addresses, and which step gave what
    #[command(after_help = "Example:\n  pressline locate 157.203.138.235")]
    Locate(LocateArgs),
    /// Look into GeoIP databases
    #[command(after_help = "Example:\n  pressline places report")]
    Places(PlacesArgs),
    /// Print the JSON Schema of a pipeline's file, of pressline.toml or of fixtures, for editors
    #[command(after_help = "Example:\n  pressline schema pipeline > pipeline.schema.json")]
    Schema(SchemaArgs),
    /// Print what a shell completes
    #[command(
        after_help = "Example:\n  pressline completions bash > ~/.local/share/bash-completion/completions/pressline"
    )]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(ManArgs),
    /// Show what running daemons do: lag, rates, errors; exit code 0 if all are ready, 1 if not, 2 if one does not answer
    #[command(after_help = "Examples:\n  pressline status\n  pressline status --watch")]
    Status(StatusArgs),
    /// Have running daemons read their configuration again; exit code 0 if done, 1 if it is wrong, 2 if one does not answer
    #[command(after_help = "Example:\n  pressline reload --url http://127.0.0.1:9187")]
    Reload(ReloadArgs),
    /// Ask a running pressline whether it is ready; exit code 0 if so
    #[command(after_help = "Example:\n  pressline healthcheck")]
    Healthcheck(ConfigArgs),
}

#[derive(Args)]
struct ConfigArgs {
    /// Pipelines: files, directories of them, or names of files in pipelines/
    #[arg(default_value = "pipelines")]
    pipelines: Vec<PathBuf>,
    /// Settings shared by all pipelines [default: pressline.toml if there is one]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

#[derive(Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also ask brokers and registry
    #[arg(long)]
    online: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Print what leaves and where it comes from, as a table in Markdown for a record of processing; findings go to
    /// standard error
    #[arg(long)]
    data_flow: bool,
    /// Print only the statements that make the sinks' tables, as auto_create would run them; with --online also those that add what tables
    /// lack, as auto_evolve would
    #[arg(long, conflicts_with_all = ["data_flow", "json"])]
    ddl: bool,
    /// Print the compiled plans: input field, slot, output field, and for each address where it may go; findings go to standard
    /// error
    #[arg(long, conflicts_with_all = ["data_flow", "json", "ddl"])]
    explain: bool,
}

#[derive(Subcommand)]
enum TopicsCommand {
    /// Make those that are missing, show how the others differ; exit code 0 if all are as described in the end, else 1
    Create(CreateArgs),
}

#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also change the topics that are there
    #[arg(long)]
    apply: bool,
    /// Ask the brokers whether they would do it, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl ConfigArgs {
    fn sources(self) -> Sources {
        Sources { shared: self.config, pipelines: self.pipelines, sets: self.sets }
    }
}

fn main() -> ExitCode {
    process::leave_nothing();
    process::give_back_large_blocks();
    descriptors::raise_limit();
    match Cli::try_parse() {
        Ok(cli) => stdio::finish(run(cli.command)),
        Err(help) => usage(&help),
    }
}

/// Help and version go to standard output, wrong arguments to standard error.
fn usage(said: &clap::Error) -> ExitCode {
    let code = u8::try_from(said.exit_code()).unwrap_or(2);
    if said.use_stderr() {
        // Nobody is left to report to.
        let _ = said.print();
        return ExitCode::from(code);
    }
    let text = said.render();
    if stdio::out_has_colours() {
        stdio::print(text.ansi())
    } else {
        stdio::print(text)
    }
    stdio::finish(ExitCode::from(code))
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Run(args) => daemon::run(&args.sources(), check::contradictions),
        Command::Check(args) => {
            let wanted = check::Wanted {
                online: args.online,
                json: args.json,
                data_flow: args.data_flow,
                ddl: args.ddl,
                explain: args.explain,
            };
            check::command(&args.config.sources(), wanted)
        }
        Command::Try(args) => match try_events::run(&args) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result.map(drop)),
        },
        Command::Test(args) => match test_pipelines::run(&args) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result.map(drop)),
        },
        Command::Generate(args) => exit(generate::run(&args)),
        Command::Produce(args) => exit(produce::run(&args)),
        Command::Init(args) => exit(init::run(&args)),
        Command::Consume(args) => exit(consume::run(&args)),
        Command::Demo(args) => demo::run(&args),
        Command::Web(args) => exit(web::run(&args)),
        Command::Offsets(args) => match offsets::run(&args) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result.map(drop)),
        },
        Command::Reconcile(args) => match reconcile::run(&args) {
            Ok(Verdict::Differs) => ExitCode::FAILURE,
            Ok(Verdict::NotCompared) => ExitCode::from(NOT_COMPARED),
            result if result.is_ok() => exit(result.map(drop)),
            result => {
                let _ = exit(result.map(drop));
                ExitCode::from(NOT_COMPARED)
            }
        },
        Command::Replay(args) => match replay::run(&args) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result.map(drop)),
        },
        Command::Dlq(args) => match dlq::run(&args) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result.map(drop)),
        },
        Command::Topics(TopicsCommand::Create(args)) => {
            let options = topics::Options { apply: args.apply, dry_run: args.dry_run };
            match topics::create(&args.config.sources(), options) {
                Ok(false) => ExitCode::FAILURE,
                result => exit(result.map(drop)),
            }
        }
        Command::Locate(args) => match locate::run(&args) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result.map(drop)),
        },
        Command::Places(args) => exit(places::run(&args)),
        Command::Schema(args) => {
            schema::run(&args);
            ExitCode::SUCCESS
        }
        Command::Completions(args) => {
            completions::run(&args, &Cli::command());
            ExitCode::SUCCESS
        }
        Command::Man(args) => exit(man::run(&args, Cli::command())),
        Command::Status(args) => match status::run(&args) {
            Ok(Health::NotReady) => ExitCode::FAILURE,
            Ok(Health::Unreachable) => ExitCode::from(NOT_ANSWERED),
            result => exit(result.map(drop)),
        },
        Command::Reload(args) => match reload::run(&args) {
            Ok(Reloaded::Refused) => ExitCode::FAILURE,
            Ok(Reloaded::Unreachable) => ExitCode::from(NOT_ANSWERED),
            result => exit(result.map(drop)),
        },
        Command::Healthcheck(args) => healthcheck(&args.sources()),
    }
}

/// The version, the commit if the build was given it (`make build` does), and librdkafka's version.
fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let commit = option_env!("PRESSLINE_COMMIT").filter(|commit| !commit.is_empty());
        let commit = commit.map_or(String::new(), |commit| format!("commit {commit}, "));
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        format!("{} ({commit}librdkafka {librdkafka})", env!("CARGO_PKG_VERSION"))
    });
    &TEXT
}

fn exit<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Findings call themselves errors.
            let text = error.to_string();
            stdio::tell(format_args!("error: {}", text.strip_prefix("error: ").unwrap_or(&text)));
            ExitCode::FAILURE
        }
    }
}

fn healthcheck(sources: &Sources) -> ExitCode {
    let process = match config::load::process(sources) {
        Ok(process) => process,
        Err(findings) => {
            findings.iter().for_each(stdio::tell);
            return ExitCode::FAILURE;
        }
    };
    exit(daemon::runtime().and_then(|runtime| runtime.block_on(pressline::daemon::http::is_ready(process.http.listen))))
}
