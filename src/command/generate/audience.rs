//! A simulated audience: visitors who come from ever farther away, press, and come back less and less often. All of it follows
//! known laws, so that questions asked of the data have known answers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::addresses::{Addresses, draw_within};
use super::malformed::{Line, Malformed};
use super::presses::{Made, PressKind, Recipe, draw_id, quoted, tails};
use super::send::Events;
use super::{GenerateError, parse_duration, parse_share};
use crate::place::{BUNDLED, Lookup, PlaceKey, Places};

/// Seconds between two events of one visit, on average.
const SECONDS_BETWEEN: f64 = 4.0;
/// How far use reaches from the seed city on the first day, whatever the speed: a city has suburbs.
const FIRST_REACH_KM: f64 = 50.0;
/// Moments tried for a visitor's arrival before one at a quiet hour is taken.
const TRIES: usize = 64;
/// Most presses of one visit.
const MOST_PRESSES: f64 = 10_000.0;
const EARTH_KM: f64 = 6371.0;
const US_PER_DAY: f64 = 86_400e6;

/// Options of a simulated audience.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "A simulated audience")]
pub struct AudienceArgs {
    /// Simulate an audience for this long, such as 56d, instead of a steady stream: visitors come, press and return by the laws below
    #[arg(long, value_name = "DURATION", value_parser = parse_span, conflicts_with_all = ["spread", "sessions"])]
    pub simulate: Option<Duration>,
    /// Visitors in all
    #[arg(long, default_value_t = 5_000, value_name = "N", requires = "simulate")]
    pub visitors: u32,
    /// New visitors a day double in this time, such as 7d [default: as many each day]
    #[arg(long, value_name = "DURATION", value_parser = parse_span, requires = "simulate")]
    pub doubling: Option<Duration>,
    /// City where it begins, such as Helsinki or Paris,FR: others are reached by and by [default: everywhere at once]
    #[arg(long, value_name = "CITY", requires = "simulate")]
    pub seed_city: Option<String>,
    /// How much farther from the seed city visitors come from each day, in km
    #[arg(long, default_value_t = 250.0, value_name = "KM", requires = "seed_city")]
    pub reach: f64,
    /// How often a visitor returns, on average, given time
    #[arg(long, default_value_t = 3.0, value_name = "N", requires = "simulate")]
    pub returns: f64,
    /// Boredom: a visitor's returns become half as frequent in this time
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = parse_span, requires = "simulate")]
    pub boredom: Duration,
    /// Presses of a visit, on average
    #[arg(long, default_value_t = 6.0, value_name = "N", requires = "simulate")]
    pub presses: f64,
    /// Cohorts that press more or less, such as 2=1.3: 1.3 times as often in a visit
    #[arg(long, value_delimiter = ',', value_name = "COHORT=FACTOR,...", requires = "cohorts")]
    pub cohort_effect: Vec<CohortEffect>,
    /// Day rhythm: how much more comes at the busiest local hour, and less at the opposite one, than on average; 0 is no rhythm
    #[arg(long, default_value = "70%", value_name = "SHARE", value_parser = parse_share, requires = "simulate")]
    pub rhythm: f64,
    /// The busiest local hour, by the longitude of the visitor's place
    #[arg(long, default_value_t = 20.0, value_name = "HOUR", requires = "simulate")]
    pub busiest_hour: f64,
}

/// How many times as often a cohort presses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CohortEffect {
    /// The cohort.
    pub cohort: i16,
    /// Above zero.
    pub factor: f64,
}

impl FromStr for CohortEffect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(cohort, factor)| {
            let (cohort, factor) = (cohort.trim().parse().ok()?, factor.trim().parse::<f64>().ok()?);
            (factor.is_finite() && factor > 0.0).then_some(Self { cohort, factor })
        });
        parsed.ok_or_else(|| "expected a cohort and a factor such as 2=1.3".into())
    }
}

/// Longer than nothing.
fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .and_then(|span| if span.is_zero() { Err("expected a duration above zero".into()) } else { Ok(span) })
}

struct Visitor {
    id: [u8; 36],
    kind: PressKind,
    cohort: String,
    ip: String,
    tail: usize,
}

/// One time that a visitor has the page open.
struct Visit {
    start_us: i64,
    visitor: usize,
    presses: u32,
    /// Malformed events beside the presses, at the end.
    malformed: u32,
    made: u32,
}

/// Makes the events of all visits in the order of their time.
pub struct Audience {
    start_us: i64,
    rng: Pcg64,
    tails: Vec<String>,
    visitors: Vec<Visitor>,
    /// In the order of their start; those before `begun` have begun.
    visits: Vec<Visit>,
    begun: usize,
    /// When the next event of a visit is due, for visits that have begun.
    open: BinaryHeap<Reverse<(i64, usize)>>,
    malformed: usize,
}

impl Audience {
    /// `files`: the databases that the addresses are drawn from; none: the bundled one. Errors: an option that does not work,
    /// or a file that is no such database.
    pub fn new(
        args: &AudienceArgs,
        span: Duration,
        recipe: Recipe,
        addresses: &Addresses,
        files: &[PathBuf],
    ) -> Result<Self, GenerateError> {
        recipe.check()?;
        args.check(&recipe)?;
        let networks = Networks::new(addresses, files, args.seed_city.as_deref())?;
        let mut rng = Pcg64::seed_from_u64(recipe.seed ^ 0x000a_0d1e_0ce5);
        let laws = Laws { args, recipe: &recipe, networks: &networks, span_days: days(span) };
        let tails = tails();
        let mut visitors = Vec::with_capacity(args.visitors as usize);
        let mut visits = Vec::new();
        for number in 0..args.visitors as usize {
            let (came, longitude, kind, ip) = laws.arrival(addresses, &mut rng);
            let cohort = recipe.draw_cohort(&mut rng);
            let tail = rng.random_range(0..tails.len());
            let mean = args.presses * args.factor(&cohort);
            for day in laws.visits(came, longitude, &mut rng) {
                let presses = geometric(mean, &mut rng);
                let malformed = (0..=presses).filter(|_| rng.random::<f64>() < recipe.malformed).count() as u32;
                let start_us = recipe.start_us.saturating_add((day * US_PER_DAY) as i64);
                visits.push(Visit { start_us, visitor: number, presses, malformed, made: 0 });
            }
            visitors.push(Visitor { id: draw_id(&mut rng), kind, cohort, ip, tail });
        }
        visits.sort_by_key(|visit| (visit.start_us, visit.visitor));
        let start_us = recipe.start_us;
        Ok(Self { start_us, rng, tails, visitors, visits, begun: 0, open: BinaryHeap::new(), malformed: 0 })
    }

    /// How many events there are in all.
    pub fn events(&self) -> u64 {
        self.visits.iter().map(|visit| u64::from(visit.events())).sum()
    }

    /// The visit that the next event is of, and its time.
    fn next_visit(&mut self) -> Option<(i64, usize)> {
        let due = self.open.peek().map(|Reverse((time, _))| *time);
        let starts = self.visits.get(self.begun).map(|visit| visit.start_us);
        match (due, starts) {
            (Some(due), Some(start)) if start < due => self.begin(start),
            (Some(_), _) => self.open.pop().map(|Reverse(next)| next),
            (None, Some(start)) => self.begin(start),
            (None, None) => None,
        }
    }

    fn begin(&mut self, start_us: i64) -> Option<(i64, usize)> {
        self.begun += 1;
        Some((start_us, self.begun - 1))
    }
}

impl Events for Audience {
    fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Option<Made> {
        let (timestamp_us, at) = self.next_visit()?;
        let visit = &mut self.visits[at];
        let visitor = &self.visitors[visit.visitor];
        key.clear();
        value.clear();
        key.extend_from_slice(&visitor.id);
        let line = Line {
            session: &visitor.id,
            timestamp_us,
            cohort: &visitor.cohort,
            action: if visit.made == 0 { "EnterPage" } else { "PressButton" },
            ip: &visitor.ip,
            tail: &self.tails[visitor.tail],
        };
        let mut made = Made { kind: visitor.kind, timestamp_us, has_value: true };
        if visit.made > visit.presses {
            let mistake = Malformed::ALL[self.malformed % Malformed::ALL.len()];
            self.malformed += 1;
            mistake.write(&line, value);
            made = Made { kind: PressKind::Malformed(mistake), has_value: mistake != Malformed::NullValue, ..made };
        } else {
            line.write(value);
        }
        visit.made += 1;
        if visit.made < visit.events() {
            let pause_us = (exponential(&mut self.rng) * SECONDS_BETWEEN * 1e6) as i64;
            self.open.push(Reverse((timestamp_us.saturating_add(pause_us.max(1)), at)));
        }
        debug_assert!(timestamp_us >= self.start_us);
        Some(made)
    }
}

impl Visit {
    fn events(&self) -> u32 {
        1 + self.presses + self.malformed
    }
}

impl AudienceArgs {
    fn check(&self, recipe: &Recipe) -> Result<(), GenerateError> {
        let argument = |name, what: String| Err(GenerateError::Argument { name, what });
        let numbers = [("reach", self.reach), ("returns", self.returns), ("presses", self.presses)];
        for (name, number) in numbers {
            if !number.is_finite() || number < 0.0 {
                return argument(name, format!("found {number}, expected 0 or a number above it"));
            }
        }
        if !(0.0..24.0).contains(&self.busiest_hour) {
            return argument(
                "busiest-hour",
                format!("found {}, expected an hour from 0 to below 24", self.busiest_hour),
            );
        }
        match self.cohort_effect.iter().find(|effect| !recipe.cohorts.contains(&effect.cohort)) {
            Some(effect) => {
                argument("cohort-effect", format!("found cohort {}, expected one of --cohorts", effect.cohort))
            }
            None => Ok(()),
        }
    }

    fn factor(&self, cohort: &str) -> f64 {
        let effect = self.cohort_effect.iter().find(|effect| effect.cohort.to_string() == cohort);
        effect.map_or(1.0, |effect| effect.factor)
    }
}

/// When visitors come and return.
struct Laws<'a> {
    args: &'a AudienceArgs,
    recipe: &'a Recipe,
    networks: &'a Networks,
    span_days: f64,
}

impl Laws<'_> {
    /// A visitor's first moment (days from the start), longitude and address: moments grow exponentially in number, places
    /// lie within reach at that moment, and the local hour has its rhythm.
    fn arrival(&self, addresses: &Addresses, rng: &mut Pcg64) -> (f64, f64, PressKind, String) {
        let nowhere = self.recipe.draw_nowhere(addresses, rng);
        let mut tries = 0;
        loop {
            let day = self.moment(rng);
            let reach_km = FIRST_REACH_KM.max(self.args.reach * day);
            let network = nowhere.is_none().then(|| self.networks.draw(reach_km, self.recipe.v6, rng));
            let longitude = network.map_or(0.0, |network| network.longitude);
            tries += 1;
            if !self.accepts(day, longitude, rng) && tries < TRIES {
                continue;
            }
            return match (nowhere, network) {
                (Some((kind, ip)), _) => (day, longitude, kind, ip),
                (None, Some(network)) => {
                    (day, longitude, PressKind::Good, quoted(draw_within(network.base, network.prefix, rng)))
                }
                (None, None) => (day, longitude, PressKind::Unknown, "null".into()),
            };
        }
    }

    /// By the inverse of the distribution whose density doubles every so often.
    fn moment(&self, rng: &mut Pcg64) -> f64 {
        let draw: f64 = rng.random();
        match self.args.doubling.map(days) {
            None => self.span_days * draw,
            Some(doubling) => {
                let least = (-self.span_days / doubling).exp2();
                (self.span_days + doubling * (draw + (1.0 - draw) * least).log2()).max(0.0)
            }
        }
    }

    /// The days of all visits until the end. Returns are a Poisson process whose rate halves with each `boredom`.
    fn visits(&self, came: f64, longitude: f64, rng: &mut Pcg64) -> Vec<f64> {
        let (half_life, returns) = (days(self.args.boredom), self.args.returns);
        let mut days = vec![came];
        // More than wanted, of which the rhythm leaves as many as wanted.
        let drawn = returns * (1.0 + self.args.rhythm);
        let mut mass = 0.0;
        loop {
            mass += exponential(rng);
            if mass >= drawn {
                return days;
            }
            let day = came - half_life * (1.0 - mass / drawn).log2();
            if day >= self.span_days {
                return days;
            }
            if self.accepts(day, longitude, rng) {
                days.push(day);
            }
        }
    }

    /// Whether an event at this moment and longitude is one that the day's rhythm leaves.
    fn accepts(&self, day: f64, longitude: f64, rng: &mut Pcg64) -> bool {
        let start_hours = self.recipe.start_us as f64 / 3_600e6;
        let hour = (start_hours + day * 24.0 + longitude / 15.0).rem_euclid(24.0);
        let rhythm = self.args.rhythm;
        let wanted = 1.0 + rhythm * ((hour - self.args.busiest_hour) / 24.0 * std::f64::consts::TAU).cos();
        rng.random::<f64>() * (1.0 + rhythm) < wanted
    }
}

#[derive(Clone, Copy)]
struct Located {
    base: IpAddr,
    prefix: u8,
    longitude: f64,
    /// From the seed city; 0 where there is none.
    km: f64,
}

/// Networks with a place, nearest to the seed city first.
struct Networks {
    v4: Vec<Located>,
    v6: Vec<Located>,
}

impl Networks {
    fn new(addresses: &Addresses, files: &[PathBuf], seed_city: Option<&str>) -> Result<Self, GenerateError> {
        let places = match files {
            [] => Places::from_bytes("bundled demo.mmdb", BUNDLED.to_vec()),
            files => Places::open(files),
        };
        let file = files.first().cloned().unwrap_or_default();
        let places = places.map_err(|error| GenerateError::NoDatabase { file, reason: error.to_string() })?;
        let mut atlas = Atlas { places, points: HashMap::new() };
        let seed = seed_city.map(|city| atlas.find(addresses, city)).transpose()?;
        let mut this = Self { v4: Vec::new(), v6: Vec::new() };
        for (base, prefix) in addresses.all() {
            let point = atlas.point(base).and_then(|spot| spot.point);
            // From nowhere one cannot spread; without a seed city the place of a network is not needed.
            let (longitude, km) = match (point, seed) {
                (Some(point), Some(seed)) => (point.1, distance_km(seed, point)),
                (None, Some(_)) => continue,
                (point, None) => (point.map_or(0.0, |point| point.1), 0.0),
            };
            let list = if base.is_ipv4() { &mut this.v4 } else { &mut this.v6 };
            list.push(Located { base, prefix, longitude, km });
        }
        for list in [&mut this.v4, &mut this.v6] {
            list.sort_by(|a, b| a.km.total_cmp(&b.km));
        }
        Ok(this)
    }

    /// One within reach; the nearest where there is none.
    fn draw(&self, reach_km: f64, v6_share: f64, rng: &mut Pcg64) -> Located {
        let within = |list: &[Located]| list.partition_point(|network| network.km <= reach_km);
        let (v4, v6) = (within(&self.v4), within(&self.v6));
        let wants_v6 = v6 > 0 && (v4 == 0 || rng.random::<f64>() < v6_share);
        match (wants_v6, v4) {
            (true, _) => self.v6[rng.random_range(0..v6)],
            (false, 1..) => self.v4[rng.random_range(0..v4)],
            (false, 0) => *self.v4.first().unwrap_or_else(|| &self.v6[0]),
        }
    }
}

#[derive(Clone)]
struct Spot {
    city: String,
    country: String,
    point: Option<(f64, f64)>,
}

/// Where networks are.
struct Atlas {
    places: Places,
    points: HashMap<PlaceKey, Spot>,
}

impl Atlas {
    fn point(&mut self, base: IpAddr) -> Option<&Spot> {
        let Lookup::Found(key) = self.places.lookup_addr(base) else { return None };
        if !self.points.contains_key(&key) {
            let place = self.places.place(key).ok()?;
            let point = place.latitude.zip(place.longitude);
            self.points.insert(key, Spot { city: place.city_name, country: place.country_code, point });
        }
        self.points.get(&key)
    }

    /// Coordinates of a city; of several with that name, those of the one with the most networks.
    fn find(&mut self, addresses: &Addresses, wanted: &str) -> Result<(f64, f64), GenerateError> {
        let (name, country) = match wanted.rsplit_once(',') {
            Some((name, country)) => (name.trim(), Some(country.trim())),
            None => (wanted.trim(), None),
        };
        let mut found = BTreeMap::<String, (usize, (f64, f64))>::new();
        for (base, _) in addresses.all() {
            let Some(Spot { city, country: code, point: Some(point) }) = self.point(base) else { continue };
            // Some databases give the part of the city in brackets.
            let is_it = city.split(" (").next().unwrap_or(city).eq_ignore_ascii_case(name)
                && country.is_none_or(|country| code.eq_ignore_ascii_case(country));
            if is_it {
                found.entry(code.clone()).or_insert((0, *point)).0 += 1;
            }
        }
        let best = found.into_values().max_by_key(|(networks, _)| *networks);
        best.map(|(_, point)| point).ok_or_else(|| GenerateError::Argument {
            name: "seed-city",
            what: format!(
                "found {wanted}, expected a city that the GeoIP databases know, such as Helsinki or Paris,FR"
            ),
        })
    }
}

/// Over the great circle.
fn distance_km(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (from_north, to_north) = (from.0.to_radians(), to.0.to_radians());
    let across = ((to.1 - from.1).to_radians() / 2.0).sin();
    let up = ((to_north - from_north) / 2.0).sin();
    let half = up * up + from_north.cos() * to_north.cos() * across * across;
    2.0 * EARTH_KM * half.sqrt().min(1.0).asin()
}

fn days(span: Duration) -> f64 {
    span.as_secs_f64() / 86_400.0
}

/// From 0 on, with mean 1.
fn exponential(rng: &mut Pcg64) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// Whole numbers from 0 on with this mean: after each press the visitor goes on with the same chance.
fn geometric(mean: f64, rng: &mut Pcg64) -> u32 {
    if mean <= 0.0 {
        return 0;
    }
    (exponential(rng) / (1.0 + 1.0 / mean).ln()).floor().min(MOST_PRESSES) as u32
}
