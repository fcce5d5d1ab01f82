//! From GeoNames' files to the arrays of a [`Gazetteer`].

use std::collections::HashMap;
use std::path::PathBuf;

use figment::value::magic::RelativePathBuf;

use super::super::iso3166::fold;
use super::table::{Column, GazetteerError, Row, each_row};
use super::{ALTERNATE, Area, City, Country, Gazetteer, NO_ZONE, NONE, Seat, area_of, keys_of_subdivision, name_hash};
use crate::config::GazetteerConfig;

/// Cities that are taken; cities500.txt has 235,000.
const MOST_CITIES: usize = 2_000_000;
/// Names that lead to cities; those of cities500.txt are 1.3 million.
const MOST_NAMES: usize = 16_000_000;
/// There are some 420.
const MOST_ZONES: usize = 2_000;

// cities500.txt, by GeoNames' readme.
const NAME: Column = (2, "name");
const ASCII_NAME: Column = (3, "asciiname");
const ALTERNATE_NAMES: Column = (4, "alternatenames");
const LATITUDE: Column = (5, "latitude");
const LONGITUDE: Column = (6, "longitude");
const FEATURE_CLASS: Column = (7, "feature class");
const FEATURE_CODE: Column = (8, "feature code");
const COUNTRY: Column = (9, "country code");
const ADMIN1: Column = (11, "admin1 code");
const POPULATION: Column = (15, "population");
const TIME_ZONE: Column = (18, "timezone");
const CITY_COLUMNS: usize = 19;

// admin1CodesASCII.txt.
const CODE: Column = (1, "code");
const SUBDIVISION_NAME: Column = (2, "name");
const SUBDIVISION_ASCII: Column = (3, "name ascii");

// countryInfo.txt.
const ISO: Column = (1, "ISO");
const COUNTRY_NAME: Column = (5, "Country");
const CAPITAL: Column = (6, "Capital");

/// Places that are no more (historical, abandoned, destroyed), by GeoNames' feature codes.
const GONE: [&str; 3] = ["PPLH", "PPLQ", "PPLW"];

/// Where the files are; each may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GazetteerFiles {
    /// `cities500.txt` or another file with its columns.
    pub cities: Option<PathBuf>,
    /// `admin1CodesASCII.txt`.
    pub subdivisions: Option<PathBuf>,
    /// `countryInfo.txt`.
    pub countries: Option<PathBuf>,
}

impl GazetteerFiles {
    /// The configured files as paths from here; none where none is named.
    pub fn named(config: &GazetteerConfig) -> Option<Self> {
        let path = |file: &Option<RelativePathBuf>| file.as_ref().map(RelativePathBuf::relative);
        let files = Self {
            cities: path(&config.cities),
            subdivisions: path(&config.subdivisions),
            countries: path(&config.countries),
        };
        (files != Self::default()).then_some(files)
    }
}

impl Gazetteer {
    /// Reads the files. Errors: one that cannot be read, or whose lines are not what GeoNames' readme says.
    pub fn open(files: &GazetteerFiles) -> Result<Gazetteer, GazetteerError> {
        let mut loader = Loader::default();
        if let Some(path) = &files.countries {
            each_row(
                path,
                CAPITAL.0,
                "the columns of countryInfo.txt (ISO, ISO3, ISO-Numeric, fips, Country, Capital)",
                |row| loader.add_country(row),
            )?;
        }
        if let Some(path) = &files.subdivisions {
            let expected = "the 4 columns of admin1CodesASCII.txt (code, name, name ascii, geonameid)";
            each_row(path, SUBDIVISION_ASCII.0, expected, |row| loader.add_subdivision(row))?;
        }
        if let Some(path) = &files.cities {
            let expected = "the 19 columns of cities500.txt (geonameid, name, asciiname, …)";
            each_row(path, CITY_COLUMNS, expected, |row| loader.add_city(row))?;
        }
        Ok(loader.finish())
    }
}

#[derive(Default)]
struct Loader {
    gazetteer: Gazetteer,
    zones: HashMap<String, u16>,
    /// By GeoNames' code ("US.CA").
    subdivisions: HashMap<String, u32>,
}

impl Loader {
    fn add_country(&mut self, row: &Row<'_>) -> Result<(), GazetteerError> {
        let country = self.gazetteer.countries.entry(row.country(ISO)?).or_default();
        country.name = row.text(COUNTRY_NAME).to_owned();
        country.capital = fold(row.text(CAPITAL));
        Ok(())
    }

    fn add_subdivision(&mut self, row: &Row<'_>) -> Result<(), GazetteerError> {
        let code = row.text(CODE);
        let country = code.split_once('.').filter(|(_, own)| !own.is_empty()).map(|(country, _)| country.as_bytes());
        let Some(&[a @ b'A'..=b'Z', b @ b'A'..=b'Z']) = country else {
            return Err(row.bad(CODE, "country and subdivision apart by a dot, such as US.CA"));
        };
        let index = self.gazetteer.subdivisions.len() as u32;
        self.gazetteer.subdivisions.push(Area::default());
        self.subdivisions.insert(code.to_owned(), index);
        for key in keys_of_subdivision([a, b], [row.text(SUBDIVISION_NAME), row.text(SUBDIVISION_ASCII)]) {
            self.gazetteer
                .subdivision_names
                .entry(([a, b], key))
                .and_modify(|found| *found = None)
                .or_insert(Some(index));
        }
        Ok(())
    }

    fn add_city(&mut self, row: &Row<'_>) -> Result<(), GazetteerError> {
        let code = row.text(FEATURE_CODE);
        // GeoNames' larger files have mountains and rivers, too.
        if row.text(FEATURE_CLASS) != "P" || GONE.contains(&code) {
            return Ok(());
        }
        let country = row.country(COUNTRY)?;
        let index = self.gazetteer.cities.len();
        if index >= MOST_CITIES {
            return Err(row.too_many(MOST_CITIES, "cities"));
        }
        let subdivision = format!("{}.{}", row.text(COUNTRY), row.text(ADMIN1));
        let city = City {
            latitude: hundred_thousandths(row.number(LATITUDE, 90.0, "degrees from -90 to 90")?),
            longitude: hundred_thousandths(row.number(LONGITUDE, 180.0, "degrees from -180 to 180")?),
            population: population(row)?,
            subdivision: self.subdivisions.get(&subdivision).copied().unwrap_or(NONE),
            country,
            zone: self.zone(row)?,
            seat: match code {
                "PPLC" => Seat::Country,
                "PPLA" => Seat::Subdivision,
                _ => Seat::None,
            },
        };
        self.gazetteer.cities.push(city);
        for (name, alternate) in names(row) {
            let folded = fold(name);
            if !folded.is_empty() {
                self.gazetteer.names.push(name_hash(country, &folded) << 24 | alternate | index as u64);
            }
        }
        if self.gazetteer.names.len() > MOST_NAMES {
            return Err(row.too_many(MOST_NAMES, "names"));
        }
        Ok(())
    }

    fn zone(&mut self, row: &Row<'_>) -> Result<u16, GazetteerError> {
        let name = row.text(TIME_ZONE);
        if name.is_empty() {
            return Ok(NO_ZONE);
        }
        if let Some(zone) = self.zones.get(name) {
            return Ok(*zone);
        }
        let is_name = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
        if !is_name || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(row.bad(TIME_ZONE, "an IANA time zone such as Europe/Paris"));
        }
        if self.zones.len() >= MOST_ZONES {
            return Err(row.too_many(MOST_ZONES, "time zones"));
        }
        let zone = self.zones.len() as u16;
        self.zones.insert(name.to_owned(), zone);
        self.gazetteer.zones.push(name.to_owned());
        Ok(zone)
    }

    fn finish(mut self) -> Gazetteer {
        self.sort_cities();
        self.find_areas();
        self.gazetteer
    }

    /// By country and latitude; the names follow.
    fn sort_cities(&mut self) {
        let Gazetteer { cities, names, .. } = &mut self.gazetteer;
        let mut order: Vec<u32> = (0..cities.len() as u32).collect();
        order.sort_by_key(|index| cities.get(*index as usize).map(|city| (city.country, city.latitude)));
        let mut rank = vec![0u64; cities.len()];
        for (new, old) in order.iter().enumerate() {
            if let Some(rank) = rank.get_mut(*old as usize) {
                *rank = new as u64;
            }
        }
        *cities = order.iter().filter_map(|index| cities.get(*index as usize).copied()).collect();
        for name in names.iter_mut() {
            let old = (*name & super::INDEX) as usize;
            *name = *name & !super::INDEX | rank.get(old).copied().unwrap_or_default();
        }
        names.sort_unstable();
        names.dedup();
        names.shrink_to_fit();
    }

    fn find_areas(&mut self) {
        let Gazetteer { cities, countries, subdivisions, .. } = &mut self.gazetteer;
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); subdivisions.len()];
        let mut start = 0;
        for group in cities.chunk_by(|a, b| a.country == b.country) {
            let range = start..start + group.len();
            start = range.end;
            let Some(first) = group.first() else { continue };
            countries.entry(first.country).or_insert_with(Country::default).cities = range;
        }
        for (index, city) in cities.iter().enumerate() {
            if let Some(members) = members.get_mut(city.subdivision as usize) {
                members.push(index as u32);
            }
        }
        for (subdivision, members) in subdivisions.iter_mut().zip(&members) {
            *subdivision = area_of(cities, members, Seat::Subdivision, None);
        }
        let keys: Vec<[u8; 2]> = self.gazetteer.countries.keys().copied().collect();
        for key in keys {
            let area = self.area_of_country(key);
            if let (Some(country), Some(area)) = (self.gazetteer.countries.get_mut(&key), area) {
                country.area = area;
            }
        }
    }

    /// Its point is the city that is marked as capital, else the one that the file of countries names.
    fn area_of_country(&self, key: [u8; 2]) -> Option<Area> {
        let Gazetteer { cities, countries, .. } = &self.gazetteer;
        let country = countries.get(&key)?;
        let members: Vec<u32> = country.cities.clone().map(|index| index as u32).collect();
        let marked =
            members.iter().any(|index| cities.get(*index as usize).is_some_and(|city| city.seat == Seat::Country));
        let named = if marked { None } else { self.gazetteer.named(key, &country.capital, None) };
        Some(area_of(cities, &members, Seat::Country, named))
    }
}

fn hundred_thousandths(degrees: f64) -> i32 {
    (degrees * 1e5).round() as i32
}

fn population(row: &Row<'_>) -> Result<u32, GazetteerError> {
    match row.text(POPULATION) {
        "" => Ok(0),
        text => text.parse().map_err(|_| row.bad(POPULATION, "a number of people")),
    }
}

/// A city's names and whether each is an alternate one.
fn names<'a>(row: &Row<'a>) -> impl Iterator<Item = (&'a str, u64)> {
    let main = [row.text(NAME), row.text(ASCII_NAME)].map(|name| (name, 0));
    let alternates = row.text(ALTERNATE_NAMES).split(',').filter(|name| is_latin(name));
    main.into_iter().chain(alternates.map(|name| (name, ALTERNATE)))
}

/// Whether a name is in Latin letters, with or without accents: GeoIP databases have no others.
fn is_latin(name: &str) -> bool {
    name.chars().all(|c| !c.is_alphabetic() || c < '\u{250}' || ('\u{1e00}'..'\u{1f00}').contains(&c))
}
