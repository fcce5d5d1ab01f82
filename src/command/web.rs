//! `pressline web`: the button, the map and the statistics of one pipeline.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::command::generate::Addresses;
use crate::config::finding::Finding;
use crate::config::load::{self, Sources};
use crate::config::{HttpConfig, PipelineConfig, WebConfig};
use crate::daemon;
use crate::daemon::http::{self, Pages};
use crate::daemon::shown::Shown;
use crate::metrics;
use crate::place::Places;
use crate::runtime::log;
use crate::runtime::status::Status;
use crate::web::{self, MadeUp, Parts};

/// Addresses are drawn with it where they are made up.
const SEED: u64 = 1;
/// Every made-up address is IPv4 but for this share.
const V6_SHARE: f64 = 0.2;

/// Options of `pressline web`.
#[derive(Clone, Debug, clap::Args)]
pub struct WebArgs {
    /// Pipeline whose source topic gets the presses and whose output topic is shown: its name (of a file in pipelines/), or
    /// its file
    #[arg(short, long, value_name = "NAME|FILE", default_value = "button_presses")]
    pub pipeline: PathBuf,
    /// Settings shared by all pipelines, with the table [web] [default: pressline.toml if there is one]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Serves until SIGTERM or Ctrl-C. Errors: findings about the configuration, an address in use, or what a client said.
pub fn run(args: &WebArgs) -> Result<(), String> {
    let sources =
        Sources { shared: args.config.clone(), pipelines: vec![args.pipeline.clone()], sets: args.sets.clone() };
    let mut loaded = load::load(&sources).map_err(|findings| words(&findings))?;
    log::init(&loaded.process.log)?;
    let relay = match (loaded.pipelines.len(), loaded.pipelines.pop()) {
        (1, Some((_, relay))) => relay.map_err(|findings| words(&findings))?,
        _ => return Err(format!("{}: not one pipeline with a [source]\n    name its file", args.pipeline.display())),
    };
    let load = match loaded.loads.pop() {
        Some((_, load)) => Some(load.map_err(|findings| words(&findings))?),
        None => None,
    };
    let web = loaded.process.web;
    let credits = credits(&relay)?;
    let made_up = if web.made_up_address { Some(made_up(&relay)?) } else { None };
    let runtime = daemon::runtime()?;
    runtime.block_on(serve(Parts { web, relay, load, credits, made_up }))
}

fn words(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The credits of the pipeline's place files: whoever shows their results has to give them.
fn credits(relay: &PipelineConfig) -> Result<Vec<String>, String> {
    let files: Vec<PathBuf> = relay.place.files.iter().map(|file| file.relative()).collect();
    let places = Places::open(&files).map_err(|error| error.to_string())?;
    let mut credits: Vec<String> =
        places.databases().iter().map(|database| relay.place.credit(database.attribution).to_string()).collect();
    credits.retain(|credit| !credit.is_empty());
    credits.dedup();
    Ok(credits)
}

/// Public addresses that the pipeline's place files know.
fn made_up(relay: &PipelineConfig) -> Result<MadeUp, String> {
    let files: Vec<PathBuf> = relay.place.files.iter().map(|file| file.relative()).collect();
    Ok(draw_from(Addresses::from_files(&files, SEED).map_err(|error| error.to_string())?))
}

/// The same address for the same number.
pub fn draw_from(addresses: Addresses) -> MadeUp {
    use rand::SeedableRng;
    Box::new(move |seed| addresses.draw_public(&mut rand_pcg::Pcg64::seed_from_u64(seed), V6_SHARE))
}

async fn serve(parts: Parts) -> Result<(), String> {
    let recorder = metrics::install().map_err(|error| error.to_string())?;
    let listener = web::bind(&parts.web).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let pages = Pages::new(recorder.clone(), Shown::of(vec![status(&parts.relay)]));
    let health = health(&parts.web);
    let metrics_listener = http::bind(&health).await?;
    let metrics_address = metrics_listener.local_addr().map_err(|error| error.to_string())?;
    tokio::spawn(async move { http::serve(metrics_listener, &health, http::router(pages)).await });
    tokio::spawn(metrics::upkeep(recorder));
    tracing::info!(
        source = %parts.relay.source.topic, output = %parts.relay.output.topic,
        "the button is on http://{address}/, metrics on http://{metrics_address}/metrics"
    );
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("shutting down, presses that are under way are waited for");
        let _ = stop.send(true);
    });
    web::serve(listener, parts, stopped).await
}

fn health(web: &WebConfig) -> HttpConfig {
    HttpConfig { listen: web.metrics_listen, ..HttpConfig::default() }
}

/// Ready as soon as it serves: the page says when the broker is away, and a restart would not help.
fn status(relay: &PipelineConfig) -> Arc<Status> {
    let status = Arc::new(Status::new(&relay.name));
    status.set("start", "");
    status
}
