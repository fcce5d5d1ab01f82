//! `pressline places`: what GeoIP databases know. And which databases a command is about.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::finding::{Finding, sentences};
use crate::config::load::{self, Sources};
use crate::config::{PipelineConfig, PlaceConfig};
use crate::place::{DatabaseInfo, Held, PlaceError, Places, Report, Share};
use crate::runtime::stdio;

/// Fewer addresses make a city small where neither a flag nor a pipeline says how many.
const MIN_ADDRESSES: u64 = 1_024;

/// `pressline places`.
#[derive(Args)]
pub struct PlacesArgs {
    #[command(subcommand)]
    command: PlacesCommand,
}

#[derive(Subcommand)]
enum PlacesCommand {
    /// Count the share of addresses with country, subdivision, city and coordinates, by country and in all
    Report(ReportArgs),
}

#[derive(Args)]
struct ReportArgs {
    #[command(flatten)]
    databases: Databases,
    /// Fewer addresses make a city small [default: the pipeline's place.min_addresses, else 1024]
    #[arg(long, value_name = "NUMBER")]
    min_addresses: Option<u64>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Names GeoIP databases: those of a pipeline, or files.
#[derive(Args)]
pub struct Databases {
    /// A GeoIP database (mmdb) instead of the pipeline's; more than one in order of precedence
    #[arg(long, value_name = "FILE", conflicts_with = "pipeline")]
    mmdb: Vec<PathBuf>,
    /// The pipeline: its name (of a file in pipelines/), or its file [default: the only one]
    #[arg(short, long, value_name = "NAME|FILE")]
    pipeline: Option<String>,
    /// Settings shared by all pipelines [default: pressline.toml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// The configuration is wrong.
    #[error("{}", sentences(.0))]
    Findings(Vec<Finding>),
    /// No pipeline, or more than one.
    #[error("{0}")]
    Which(String),
    /// A database cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The gazetteer's files cannot be used.
    #[error("place.gazetteer: {0}")]
    Gazetteer(String),
    /// The geocoder is not configured, or wrongly.
    #[error("place.geocoder: {0}")]
    Geocoder(String),
    /// A file cannot be read, or the output not be written.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Databases {
    /// The pipeline's `[place]`, or the files with everything else at its default. Errors: findings; no such pipeline.
    pub fn settings(&self) -> Result<PlaceConfig, PlacesError> {
        if !self.mmdb.is_empty() {
            return Ok(PlaceConfig::of(self.mmdb.iter().cloned()));
        }
        Ok(relay_of(self.pipeline.as_deref(), &self.config, &self.sets)?.place)
    }
}

/// The configuration of a pipeline's relay: of the one that is named (by its name, or its file), else of the only one. Errors:
/// findings; no such pipeline.
pub fn relay_of(
    pipeline: Option<&str>,
    shared: &Option<PathBuf>,
    sets: &[String],
) -> Result<PipelineConfig, PlacesError> {
    let named = pipeline.unwrap_or_default();
    let is_file = Path::new(named).exists() || named.ends_with(".toml");
    let pipelines = if is_file { vec![PathBuf::from(named)] } else { Vec::new() };
    let sources = Sources { shared: shared.clone(), pipelines, sets: sets.to_vec() };
    let loaded = load::load_without_secrets(&sources).map_err(PlacesError::Findings)?;
    let is_meant = |file: &Path, config: &Result<PipelineConfig, _>| match config {
        _ if is_file || named.is_empty() => true,
        Ok(config) => config.name == named,
        Err(_) => file.file_stem().is_some_and(|stem| *stem == *named),
    };
    let mut meant = loaded.pipelines.into_iter().filter(|(file, config)| is_meant(file, config));
    match (meant.next(), meant.next()) {
        (Some((_, config)), None) => config.map_err(PlacesError::Findings),
        (None, _) => Err(PlacesError::Which("no such pipeline with a [source]; name its file with --pipeline".into())),
        _ => Err(PlacesError::Which("there are several pipelines; name one with --pipeline".into())),
    }
}

/// Shows the report. Errors: see [`PlacesError`].
pub fn run(args: &PlacesArgs) -> Result<(), PlacesError> {
    let PlacesCommand::Report(args) = &args.command;
    let settings = args.databases.settings()?;
    let places = Places::open(&settings.paths())?;
    let least = Some(settings.min_addresses).filter(|least| *least > 0).unwrap_or(MIN_ADDRESSES);
    let report = places.report(args.min_addresses.unwrap_or(least))?;
    let databases = places.databases();
    let credited: Vec<_> = databases.iter().map(|database| (database, settings.credit(database.attribution))).collect();
    stdio::print(if args.json { json(&credited, &report) } else { table(&credited, &report) });
    Ok(())
}

/// A database and its credit.
type Credited<'a> = (&'a DatabaseInfo, &'a str);

fn json(databases: &[Credited<'_>], report: &Report) -> String {
    let databases: Vec<_> = databases
        .iter()
        .map(|(database, credit)| {
            json!({"file": database.file, "type": database.database_type, "build_epoch": database.build_epoch,
                   "attribution": credit})
        })
        .collect();
    format!("{}\n", json!({"databases": databases, "report": report}))
}

fn table(databases: &[Credited<'_>], report: &Report) -> String {
    let mut text = String::new();
    for (database, credit) in databases {
        let credit = match credit {
            &"" => "its licence may ask for a credit: place.attribution",
            credit => credit,
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {}\n  {credit}", database.file, database.database_type);
    }
    let _ = writeln!(
        text,
        "{} of {} cities have fewer than {} addresses\n(an IPv6 network of /56 counts like an IPv4 address)\n",
        report.all.small_cities, report.all.cities, report.min_addresses,
    );
    let mut rows: Vec<(&str, &Share)> = report.countries.iter().map(|(code, share)| (code.as_str(), share)).collect();
    rows.sort_by_key(|(code, share)| (std::cmp::Reverse(share.all.v4), *code));
    rows.insert(0, ("all", &report.all));
    // One below the other: side by side they would need 148 columns.
    let _ = writeln!(text, "{}   CITIES   SMALL", headings("IPV4 ADDRESSES"));
    for (code, share) in &rows {
        let _ = writeln!(text, "{}  {:>7} {:>7}", row(code, share, |held| held.v4), share.cities, share.small_cities);
    }
    let _ = writeln!(text, "\n{}", headings("IPV6 /64"));
    for (code, share) in &rows {
        let _ = writeln!(text, "{}", row(code, share, |held| held.v6));
    }
    text
}

fn headings(addresses: &str) -> String {
    format!("COUNTRY {addresses:>17} country subdiv.   city coord.  small")
}

/// What share of a country's addresses has what.
fn row(code: &str, share: &Share, of: fn(&Held) -> u64) -> String {
    let all = of(&share.all);
    let percent = |part: &Held| match all {
        0 => "-".to_owned(),
        all => format!("{:.1}%", of(part) as f64 * 100.0 / all as f64),
    };
    format!(
        "{code:<7} {all:>17}  {:>6}  {:>6} {:>6} {:>6} {:>6}",
        percent(&share.country),
        percent(&share.subdivision),
        percent(&share.city),
        percent(&share.coordinates),
        percent(&share.small)
    )
}
