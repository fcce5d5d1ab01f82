//! Coordinates and time zones by name: country, subdivision and city, from files with GeoNames' dump columns.
//!
//! Everything is loaded once into arrays: 24 bytes a city, 8 bytes a name (main name, ASCII name and those alternate names
//! that are in Latin letters, as the names of GeoIP databases are). No name is kept as text: a name is the 40-bit hash of
//! country and folded name, and the city it leads to must be of the same country.

mod load;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::iso3166::fold;
use super::{Place, iso3166};
pub use load::GazetteerFiles;
pub use table::GazetteerError;

/// A city's coordinates are believed to be meant by a name only within this distance of those that are known, in km.
const SAME_CITY_KM: f64 = 100.0;

/// How exactly a place was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The capital stands for the country.
    Country,
    /// The seat stands for the subdivision.
    Subdivision,
    /// The city itself.
    City,
}

/// A place's point and clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// How exactly.
    pub level: Level,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Kilometres around the point within which two thirds of the area's people live; none for a city.
    pub accuracy_km: Option<i32>,
    /// IANA time zone; of an area only where at least 95 % of its people have it.
    pub time_zone: Option<&'a str>,
}

/// Cities, subdivisions and countries, in memory.
#[derive(Default)]
pub struct Gazetteer {
    /// By country, then from south to north.
    cities: Vec<City>,
    /// Sorted: hash of country and name (40 bits), whether the name is an alternate one (1), index of the city (23).
    names: Vec<u64>,
    countries: HashMap<[u8; 2], Country>,
    subdivisions: Vec<Area>,
    /// By country and folded name or ISO 3166-2 code; none where several could be meant.
    subdivision_names: HashMap<([u8; 2], String), Option<u32>>,
    /// IANA names.
    zones: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct City {
    /// Degrees times 100,000, which is all that GeoNames gives.
    latitude: i32,
    longitude: i32,
    population: u32,
    /// Index in `subdivisions`, or `NONE`.
    subdivision: u32,
    country: [u8; 2],
    /// Index in `zones`, or `NO_ZONE`.
    zone: u16,
    seat: Seat,
}

/// What a city is the seat of, by GeoNames' feature code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seat {
    /// Of nothing that matters here.
    None,
    /// PPLA: of a first-level subdivision.
    Subdivision,
    /// PPLC: of the country.
    Country,
}

const NONE: u32 = u32::MAX;
const NO_ZONE: u16 = u16::MAX;

#[derive(Default)]
struct Country {
    /// "" where there is no file of countries.
    name: String,
    /// Folded; "" unknown.
    capital: String,
    cities: Range<usize>,
    area: Area,
}

/// What stands for a country or subdivision as a whole.
#[derive(Clone, Copy, Default)]
struct Area {
    /// Index of its seat or largest city.
    city: Option<u32>,
    zone: Option<u16>,
    radius_km: i32,
}

impl City {
    fn degrees(&self) -> (f64, f64) {
        (f64::from(self.latitude) / 1e5, f64::from(self.longitude) / 1e5)
    }
}

impl Gazetteer {
    /// Cities loaded.
    pub fn cities(&self) -> usize {
        self.cities.len()
    }

    /// Names that lead to a city.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Subdivisions loaded.
    pub fn subdivisions(&self) -> usize {
        self.subdivisions.len()
    }

    /// The country's name, "" unknown.
    pub fn country_name(&self, code: &str) -> &str {
        country_key(code).and_then(|key| self.countries.get(&key)).map_or("", |country| &country.name)
    }

    /// Whether 95 % of a country's people have the same time zone; `None`: the country is not known.
    pub fn has_one_zone(&self, code: &str) -> Option<bool> {
        let country = self.countries.get(&country_key(code)?)?;
        country.area.city.map(|_| country.area.zone.is_some())
    }

    /// The place's point, as exactly as its names lead to one: its city, else its subdivision, else its country.
    pub fn find(&self, place: &Place) -> Option<Found<'_>> {
        let key = country_key(&place.country_code)?;
        let subdivision = self.subdivision(key, place);
        if let Some(city) = self.city(key, place, subdivision) {
            return Some(self.found(Level::City, city, None, city.zone));
        }
        let area = |level, area: Area| {
            let city = self.cities.get(area.city? as usize)?;
            Some(self.found(level, city, Some(area.radius_km), area.zone.unwrap_or(NO_ZONE)))
        };
        let subdivision = subdivision.and_then(|index| self.subdivisions.get(index as usize));
        subdivision
            .and_then(|found| area(Level::Subdivision, *found))
            .or_else(|| area(Level::Country, self.countries.get(&key)?.area))
    }

    /// The time zone at coordinates: that of the city the place names if it is near, else that of the nearest city of
    /// the country; none where that is far.
    pub fn zone_at(&self, place: &Place, latitude: f64, longitude: f64) -> Option<&str> {
        let key = country_key(&place.country_code)?;
        let named = self.city(key, place, self.subdivision(key, place)).filter(|city| {
            let (north, east) = city.degrees();
            kilometres((latitude, longitude), (north, east)) <= SAME_CITY_KM
        });
        let country = self.cities.get(self.countries.get(&key)?.cities.clone())?;
        let city = named.filter(|city| city.zone != NO_ZONE).or_else(|| nearest_city(country, latitude, longitude))?;
        self.zone(city.zone)
    }

    fn found(&self, level: Level, city: &City, accuracy_km: Option<i32>, zone: u16) -> Found<'_> {
        let (latitude, longitude) = city.degrees();
        Found { level, latitude, longitude, accuracy_km, time_zone: self.zone(zone) }
    }

    fn zone(&self, zone: u16) -> Option<&str> {
        self.zones.get(usize::from(zone)).map(String::as_str)
    }

    /// GeoNames' codes of subdivisions are not ISO 3166-2's: the name leads to it, or the ISO code of a name.
    fn subdivision(&self, country: [u8; 2], place: &Place) -> Option<u32> {
        let by = |text: String| self.subdivision_names.get(&(country, text)).copied().flatten();
        let name = fold(&place.subdivision_name);
        let by_name = if name.is_empty() { None } else { by(name) };
        by_name.or_else(|| by(code_key(&place.subdivision_code)?))
    }

    /// The city that a place names. Of several in the subdivision (in the country, where the subdivision is not known)
    /// the one with most people. A city of the name in another subdivision is not it.
    fn city(&self, country: [u8; 2], place: &Place, subdivision: Option<u32>) -> Option<&City> {
        let index = spellings(&place.city_name).find_map(|name| self.named(country, &name, subdivision))?;
        self.cities.get(index as usize)
    }

    /// Index of the city that a folded name means.
    fn named(&self, country: [u8; 2], folded: &str, subdivision: Option<u32>) -> Option<u32> {
        let hash = name_hash(country, folded);
        let first = self.names.partition_point(|name| name >> 24 < hash);
        let named = self.names.get(first..)?.iter().take_while(|name| **name >> 24 == hash);
        let ranked = named.filter_map(|name| {
            let index = (name & INDEX) as u32;
            let city = self.cities.get(index as usize)?;
            let is_there = subdivision.is_none_or(|there| city.subdivision == there || city.subdivision == NONE);
            let rank = (name & ALTERNATE == 0, city.population, city.seat);
            (city.country == country && is_there).then_some((rank, index))
        });
        ranked.max().map(|(_, index)| index)
    }
}

const ALTERNATE: u64 = 1 << 23;
const INDEX: u64 = ALTERNATE - 1;

/// 40 bits of a name in its country.
fn name_hash(country: [u8; 2], folded: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (country, folded).hash(&mut hasher);
    hasher.finish() >> 24
}

/// Ways to read a city's name, folded: as it is; without what is in brackets, which is a quarter in DB-IP's files.
fn spellings(city_name: &str) -> impl Iterator<Item = String> {
    let whole = fold(city_name);
    let outside = city_name.split_once(" (").map(|(outside, _)| fold(outside));
    std::iter::once(whole).chain(outside).filter(|name| !name.is_empty())
}

fn country_key(code: &str) -> Option<[u8; 2]> {
    <[u8; 2]>::try_from(code.as_bytes()).ok().filter(|key| key.iter().all(u8::is_ascii_uppercase))
}

/// Key of an ISO 3166-2 code among the names of subdivisions; folded names hold no such sign.
fn code_key(code: &str) -> Option<String> {
    (!code.is_empty()).then(|| format!("#{code}"))
}

/// The names and the ISO code by which a subdivision is found.
fn keys_of_subdivision(country: [u8; 2], names: [&str; 2]) -> Vec<String> {
    let code = std::str::from_utf8(&country).unwrap_or_default();
    let mut keys: Vec<String> = names.iter().map(|name| fold(name)).filter(|name| !name.is_empty()).collect();
    keys.extend(names.iter().find_map(|name| code_key(iso3166::subdivision_code(code, name))));
    keys.sort();
    keys.dedup();
    keys
}

/// Farther than this, in km, no city says anything about the time at a point: the coordinates are probably wrong.
const FARTHEST_KM: f64 = 500.0;

/// Mean radius of the Earth in km.
const EARTH_KM: f64 = 6371.0;

/// Great-circle distance of two points in degrees (north, east), by the haversine formula.
fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (north_a, north_b) = (a.0.to_radians(), b.0.to_radians());
    let (north, east) = (north_b - north_a, (b.1 - a.1).to_radians());
    let haversine = (north / 2.0).sin().powi(2) + north_a.cos() * north_b.cos() * (east / 2.0).sin().powi(2);
    2.0 * EARTH_KM * haversine.min(1.0).sqrt().asin()
}

/// The nearest of cities that are sorted from south to north, among those with a time zone. Looks from the point's
/// latitude to both sides, and no farther than the nearest found: some hundred of a large country's cities.
fn nearest_city(cities: &[City], latitude: f64, longitude: f64) -> Option<&City> {
    let middle = cities.partition_point(|city| city.degrees().0 < latitude);
    let (south, north) = cities.split_at_checked(middle)?;
    let (mut best, mut best_km) = (None, FARTHEST_KM);
    for side in [&mut south.iter().rev() as &mut dyn Iterator<Item = &City>, &mut north.iter()] {
        for city in side {
            let (city_north, city_east) = city.degrees();
            if ((city_north - latitude).to_radians() * EARTH_KM).abs() > best_km {
                break;
            }
            let km = kilometres((latitude, longitude), (city_north, city_east));
            if km < best_km && city.zone != NO_ZONE {
                (best, best_km) = (Some(city), km);
            }
        }
    }
    best
}

/// Share of an area's people that must have a time zone for it to be the area's.
const ZONE_SHARE: f64 = 0.95;

/// Share of an area's people that live within its radius.
const RADIUS_SHARE: f64 = 2.0 / 3.0;

/// The area of the cities with these indices. Its point is `capital` where given, else its seat, else its largest city.
fn area_of(cities: &[City], members: &[u32], seat: Seat, capital: Option<u32>) -> Area {
    let get = |index: &u32| cities.get(*index as usize);
    let largest = || {
        let by_rank = |index: &&u32| get(index).map(|city| (city.seat >= seat, city.population));
        members.iter().max_by_key(by_rank).copied()
    };
    let Some(index) = capital.or_else(largest) else { return Area::default() };
    let Some(centre) = get(&index).map(City::degrees) else { return Area::default() };
    let mut people_by_zone: BTreeMap<u16, f64> = BTreeMap::new();
    let mut by_distance: Vec<(f64, f64)> = Vec::with_capacity(members.len());
    let mut all = 0.0;
    for city in members.iter().filter_map(get) {
        // Someone lives also where GeoNames knows no number.
        let people = f64::from(city.population.max(1));
        all += people;
        *people_by_zone.entry(city.zone).or_default() += people;
        by_distance.push((kilometres(centre, city.degrees()), people));
    }
    by_distance.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut within = 0.0;
    let radius = by_distance.iter().find(|(_, people)| {
        within += people;
        within >= all * RADIUS_SHARE
    });
    let zone = people_by_zone.into_iter().find(|(zone, people)| *zone != NO_ZONE && *people >= all * ZONE_SHARE);
    Area {
        city: Some(index),
        zone: zone.map(|(zone, _)| zone),
        radius_km: radius.map_or(1, |(km, _)| km.ceil().max(1.0) as i32),
    }
}

#[cfg(test)]
pub(super) mod tests;
