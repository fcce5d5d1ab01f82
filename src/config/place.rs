//! `[place]`: where places come from, and how exact they are in the output.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::magic::RelativePathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[place]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceConfig {
    /// MaxMind DB files (DB-IP's or MaxMind's layout); the first that knows an address answers.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub files: Vec<RelativePathBuf>,
    /// Credit that the licence of the files asks for, where they do not say who made them.
    #[serde(default)]
    pub attribution: Option<String>,
    /// Files with coordinates and time zones by name.
    #[serde(default)]
    pub gazetteer: GazetteerConfig,
    /// Service that is asked for coordinates which neither has.
    #[serde(default)]
    pub geocoder: Option<GeocoderConfig>,
    /// Seconds between looks at the files; where the system tells of changes, they are seen at once. 0: they are read
    /// again at SIGHUP only.
    #[serde(default = "poll_seconds")]
    pub poll_seconds: u64,
    /// Days after a database's build from which it is stale; 0: never.
    #[serde(default)]
    pub max_age_days: u64,
    /// What comes of a stale database, beside its metric and a line in the log.
    #[serde(default)]
    pub on_stale: OnStale,
    /// Tell in a header of each output record when the database of its place was built.
    #[serde(default)]
    pub build_header: bool,
    /// A city with fewer addresses is given as its subdivision, and that as its country; 0: every city is given.
    #[serde(default)]
    pub min_addresses: u64,
    /// Degrees that coordinates are rounded to; 0: as the database has them.
    #[serde(default)]
    pub round_coordinates: f64,
}

fn poll_seconds() -> u64 {
    60
}

/// See [`PlaceConfig::on_stale`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// Nothing else.
    #[default]
    Warn,
    /// Output records have the header of [`PlaceConfig::build_header`] for as long as one is stale.
    Tag,
    /// `/readyz` answers 503; the relay goes on.
    FailReadiness,
}

impl Default for PlaceConfig {
    fn default() -> Self {
        Self::of(std::iter::empty())
    }
}

impl PlaceConfig {
    /// These files, and everything else at its default.
    pub fn of(files: impl Iterator<Item = PathBuf>) -> Self {
        Self {
            files: files.map(RelativePathBuf::from).collect(),
            attribution: None,
            gazetteer: GazetteerConfig::default(),
            geocoder: None,
            poll_seconds: poll_seconds(),
            max_age_days: 0,
            on_stale: OnStale::default(),
            build_header: false,
            min_addresses: 0,
            round_coordinates: 0.0,
        }
    }

    /// The files, as paths from here.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(RelativePathBuf::relative).collect()
    }

    /// The credit for a database: its maker's, else the one that is configured. "" where neither is known.
    pub fn credit<'a>(&'a self, makers: &'a str) -> &'a str {
        if makers.is_empty() { self.attribution.as_deref().unwrap_or_default() } else { makers }
    }

    /// Pause between looks at the files, unless they are read again at SIGHUP only.
    pub fn poll(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.poll_seconds)).filter(|pause| !pause.is_zero())
    }
}

/// `[place.gazetteer]`: files with GeoNames' dump columns; without any, the step is left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GazetteerConfig {
    /// `cities500.txt`, or another file with its columns.
    #[schemars(with = "Option<String>")]
    pub cities: Option<RelativePathBuf>,
    /// `admin1CodesASCII.txt`.
    #[schemars(with = "Option<String>")]
    pub subdivisions: Option<RelativePathBuf>,
    /// `countryInfo.txt`.
    #[schemars(with = "Option<String>")]
    pub countries: Option<RelativePathBuf>,
}

/// `[place.geocoder]`: a server with Nominatim's `/search`. It receives names of countries, subdivisions and cities, never
/// an address.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeocoderConfig {
    /// Base address: what stands before `/search`.
    pub url: String,
    /// Mail or web address of whoever runs pressline, sent along in `User-Agent`, as usage policies ask for.
    pub contact: String,
    /// How places are asked for.
    #[serde(default)]
    pub query: GeocoderQuery,
    /// Ask it before the gazetteer, whose answer then stands only until this one's is there, or where there is none.
    #[serde(default)]
    pub before_gazetteer: bool,
    /// Most requests in a second, of all pipelines of the process that use this server.
    #[serde(default = "one_per_second")]
    pub requests_per_second: f64,
    /// Milliseconds one request may take.
    #[serde(default = "geocoder_timeout_ms")]
    pub timeout_ms: u64,
    /// Milliseconds a record waits at most for an answer; 0: it goes out without.
    #[serde(default)]
    pub max_wait_ms: u64,
    /// Certificate authority of the server, trusted besides the system's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<RelativePathBuf>,
    /// File that keeps answers and misses over restarts.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub cache_file: Option<RelativePathBuf>,
    /// Most answers and misses that are kept.
    #[serde(default = "geocoder_cache_entries")]
    pub cache_entries: usize,
    /// Days after which an answer is asked for again.
    #[serde(default = "geocoder_answer_days")]
    pub answer_days: u32,
    /// Days after which a place that was not found is asked for again.
    #[serde(default = "geocoder_miss_days")]
    pub miss_days: u32,
}

fn one_per_second() -> f64 {
    1.0
}

fn geocoder_timeout_ms() -> u64 {
    10_000
}

fn geocoder_cache_entries() -> usize {
    100_000
}

fn geocoder_answer_days() -> u32 {
    180
}

fn geocoder_miss_days() -> u32 {
    7
}

/// See [`GeocoderConfig::query`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeocoderQuery {
    /// `city`, `state` and `country` apart.
    #[default]
    Structured,
    /// All in one, as `q`.
    Free,
}
