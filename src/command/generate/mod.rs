//! `pressline generate`: sends fake presses to the ingress topic, or writes them as JSON lines.
//!
//! [`Presses`] and [`Audience`] make the events and know nothing of Kafka; [`send`] brings them out at a rate and counts them.

pub mod events;
mod run;

pub mod addresses;
pub mod audience;
pub mod malformed;
pub mod orders;
pub mod presses;
pub mod send;
pub mod topics;

use std::path::PathBuf;
use std::str::FromStr;

use jiff::{SpanRelativeTo, Timestamp};

use crate::kafka::connection::{ClusterOptions, ConnectionError};
pub use addresses::Addresses;
pub use audience::{Audience, AudienceArgs};
pub use malformed::Malformed;
pub use orders::{OrderFormat, Orders};
pub use presses::{Made, PressKind, Presses, Recipe};
pub use run::run;
pub use send::Summary;

/// Events per second where neither a rate nor a count is given.
const GENTLE_RATE: f64 = 100.0;
/// Event time between two presses where nothing else says it: 250 presses a second.
const BULK_STEP_NS: u64 = 4_000_000;

/// Options of `pressline generate`.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    /// What to send
    #[arg(long, value_enum, default_value_t = What::Presses)]
    pub kind: What,
    /// Tills that take the orders, each order with a time of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub tills: usize,
    /// How orders are written
    #[arg(long, value_enum, default_value_t = OrderFormat::Json)]
    pub format: OrderFormat,
    /// Topic to send to [default: the pipeline's source topic, else raw_presses or orders]
    #[arg(short, long)]
    pub topic: Option<String>,
    /// How many events; without it, until Ctrl-C
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Events per second, evenly; 0 is as fast as it goes [default: 100 without --count, else as fast as it goes]
    #[arg(short, long, value_name = "N")]
    pub rate: Option<f64>,
    /// Sessions open at the same time [default: as many as leave each visitor about 4 s between events]
    #[arg(short, long, value_name = "N")]
    pub sessions: Option<usize>,
    /// The same seed, start and options give the same data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Time of the first event, such as 2026-01-31T12:00:00Z, or -1h for an hour ago [default: so that it ends now]
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub start: Option<Timestamp>,
    /// Spread the --count events over this long, such as 7d or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub spread: Option<std::time::Duration>,
    /// Cohorts to draw from, such as 1,2: the data then counts as real; without it the cohort is null, which marks generated data
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    pub cohorts: Vec<i16>,
    /// GeoIP databases (mmdb) to draw addresses from [default: a bundled one of some thousand cities]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub mmdb: Vec<PathBuf>,
    /// Share of IPv6 among public addresses, such as 0.3 or 30%
    #[arg(long, default_value = "30%", value_name = "SHARE", value_parser = parse_share)]
    pub v6: f64,
    /// Share of visitors with a private address
    #[arg(long, default_value = "2%", value_name = "SHARE", value_parser = parse_share)]
    pub private: f64,
    /// Share of visitors with an address that no database knows, or with none
    #[arg(long, default_value = "1%", value_name = "SHARE", value_parser = parse_share)]
    pub unknown: f64,
    /// Share of malformed events (not JSON, missing field, bad UUID, ... in turn)
    #[arg(long, default_value = "0.5%", value_name = "SHARE", value_parser = parse_share)]
    pub malformed: f64,
    /// Make the topic first if it is missing; with --pipeline also its output and dead-letter topics
    #[arg(long)]
    pub create_topics: bool,
    /// Partitions of topics that are made
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub partitions: i32,
    /// Replicas of topics that are made
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub replication: i32,
    /// Write the values as lines to this file (- is standard output) instead of sending them; null values are empty lines
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
    /// How to reach Kafka.
    #[command(flatten)]
    pub connection: ClusterOptions,
    /// Visitors who come and press by known laws.
    #[command(flatten)]
    pub audience: AudienceArgs,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Presses of a button, in JSON
    Presses,
    /// Orders of a fish and chip shop
    Orders,
}

/// Why generating failed.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// An option has a value that does not work.
    #[error("--{name}: {what}")]
    Argument {
        /// The option without its dashes.
        name: &'static str,
        /// What was found and expected.
        what: String,
    },
    /// A GeoIP database is missing.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no GeoIP database, or an empty one.
    #[error("{}: not a usable GeoIP database (mmdb): {reason}", file.display())]
    NoDatabase {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration of the connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Kafka cannot be reached or refuses something.
    #[error("{what}: {source}")]
    Kafka {
        /// What was tried, with the topic.
        what: String,
        /// What librdkafka said.
        source: rdkafka::error::KafkaError,
    },
    /// The topic is not there.
    #[error("topic {0} does not exist; make it, or let --create-topics do so")]
    NoTopic(String),
    /// A topic could not be made.
    #[error("topic {topic} could not be made: {reason}")]
    NotMade {
        /// The topic.
        topic: String,
        /// What the broker said.
        reason: String,
    },
    /// Some events were not acknowledged.
    #[error("{count} events to topic {topic} were not delivered; the first: {first}")]
    NotDelivered {
        /// Where to.
        topic: String,
        /// How many.
        count: u64,
        /// Why the first one was not.
        first: String,
    },
    /// The output file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Threads or signals are not to be had.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// How many events, how fast, and when they are said to have happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// Events in all; `None`: without end.
    pub count: Option<u64>,
    /// Events per second of wall time; 0: as fast as it goes.
    pub rate: f64,
    /// Event time of the first one, microseconds since the epoch.
    pub start_us: i64,
    /// Event time between two of them, nanoseconds.
    pub step_ns: u64,
}

impl Pace {
    /// From the options. Errors: options that contradict each other.
    pub fn of(args: &GenerateArgs, now: Timestamp) -> Result<Self, GenerateError> {
        let argument = |name, what: &str| Err(GenerateError::Argument { name, what: what.into() });
        let bounded = args.count.is_some() || args.audience.simulate.is_some();
        let rate = args.rate.unwrap_or(if bounded { 0.0 } else { GENTLE_RATE });
        if !rate.is_finite() || rate < 0.0 {
            return argument("rate", "expected 0 or a number of events per second");
        }
        if let Some(span) = args.audience.simulate {
            let length_us = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
            let start = args.start.unwrap_or(now).as_microsecond();
            let start_us = if args.start.is_some() { start } else { start.saturating_sub(length_us) };
            return Ok(Self { count: args.count, rate, start_us, step_ns: BULK_STEP_NS });
        }
        let step_ns = match (args.spread, args.count) {
            (Some(spread), Some(count)) => {
                u64::try_from(spread.as_nanos() / u128::from(count.max(1))).unwrap_or(u64::MAX)
            }
            (Some(_), None) => return argument("spread", "spreads a number of events; give --count too"),
            // Without end and without a rate, event times would run ahead of the clock for ever.
            (None, None) if rate == 0.0 => return argument("rate", "0 (as fast as it goes) needs --count"),
            (None, _) if rate > 0.0 => (1e9 / rate) as u64,
            (None, _) => BULK_STEP_NS,
        };
        let live = rate > 0.0 && args.spread.is_none();
        let start_us = match (args.start, live) {
            (Some(start), _) => start.as_microsecond(),
            (None, true) => now.as_microsecond(),
            (None, false) => {
                let length_us = u128::from(step_ns) * u128::from(args.count.unwrap_or(0)) / 1_000;
                now.as_microsecond().saturating_sub(i64::try_from(length_us).unwrap_or(i64::MAX))
            }
        };
        Ok(Self { count: args.count, rate, start_us, step_ns })
    }

    fn recipe(&self, args: &GenerateArgs) -> Recipe {
        Recipe {
            seed: args.seed,
            start_us: self.start_us,
            step_ns: self.step_ns,
            sessions: args.sessions,
            cohorts: args.cohorts.clone(),
            v6: args.v6,
            private: args.private,
            unknown: args.unknown,
            malformed: args.malformed,
        }
    }
}

/// ISO 8601 with an offset or `Z`; a date alone, which means its midnight in UTC; or so long ago, such as `-1h`.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = parse_ago(text) {
        return Timestamp::now().checked_sub(ago).map_err(|error| error.to_string());
    }
    let date = jiff::civil::Date::from_str(text).ok().filter(|_| text.len() == 10);
    match date {
        Some(date) => Ok(jiff::tz::Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_err(|e| e.to_string())?),
        None => Timestamp::from_str(text).map_err(|_| "expected a time such as 2026-01-31T12:00:00Z or -1h".into()),
    }
}

/// `-1h`, `-90m`, `-7d`: a minus and a duration, which is not zero.
pub(crate) fn parse_ago(text: &str) -> Option<std::time::Duration> {
    parse_duration(text.strip_prefix('-')?).ok().filter(|ago| !ago.is_zero())
}

pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let span = jiff::Span::from_str(text).map_err(|_| "expected a duration such as 7d, 90m or 1h30m".to_string())?;
    let duration =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| "use weeks, days or smaller units")?;
    std::time::Duration::try_from(duration).map_err(|_| "expected a duration above zero".into())
}

pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map(|n| n / unit).ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share such as 0.02 or 2%".into())
}

#[cfg(test)]
mod tests;
