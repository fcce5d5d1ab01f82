//! What a database knows: the share of its addresses that have a country, subdivision, city and coordinates.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Place, PlaceError, Places};
use crate::place::database::Database;
use crate::place::database::count::{Held, NameKey, Quick, Sum};
use crate::place::database::record::Damage;

/// Addresses by what is known about them: IPv4 addresses, and IPv6 networks of /64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// With a record.
    pub all: Held,
    /// With a country.
    pub country: Held,
    /// With a subdivision.
    pub subdivision: Held,
    /// With a city.
    pub city: Held,
    /// With coordinates.
    pub coordinates: Held,
    /// With a city that has fewer addresses than asked for.
    pub small: Held,
    /// Cities.
    pub cities: u64,
    /// Of these, those with fewer addresses.
    pub small_cities: u64,
}

/// What the databases know, in all and country by country.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Fewer addresses than this make a city small; IPv4 addresses and IPv6 networks of /56 are added.
    pub min_addresses: u64,
    /// All countries, and what has none.
    pub all: Share,
    /// By two-letter code; `--`: none.
    pub countries: BTreeMap<String, Share>,
}

/// A city, or a country's addresses without one.
struct Group {
    country: String,
    has_city: bool,
    sums: [Sum; 5],
}

/// Positions of the sums; 0 is all.
const COUNTRY: usize = 1;
const SUBDIVISION: usize = 2;
const CITY: usize = 3;
const COORDINATES: usize = 4;

impl Places {
    /// Reads every network and every record: seconds for a full database. Files are taken together: a city that two files
    /// know is one city, and what both have of it is added, so report on files that do not overlap.
    ///
    /// Errors: a file whose tree is damaged.
    pub fn report(&self, min_addresses: u64) -> Result<Report, PlaceError> {
        let mut groups: HashMap<NameKey, Group, Quick> = HashMap::default();
        for file in &self.files {
            add(file, &mut groups).map_err(|damage| file.damaged(&damage))?;
        }
        let mut report = Report { min_addresses, ..Report::default() };
        for group in groups.into_values() {
            let share = group.share(min_addresses);
            report.countries.entry(group.country).or_default().add(&share);
            report.all.add(&share);
        }
        Ok(report)
    }
}

/// Adds a file's networks to the groups of their cities.
fn add(file: &Database, groups: &mut HashMap<NameKey, Group, Quick>) -> Result<(), Damage> {
    let mut known: HashMap<u32, (NameKey, [bool; 5]), Quick> = HashMap::default();
    file.each_leaf(|leaf| {
        let (name, has) = match known.get(&leaf.offset) {
            Some(known) => *known,
            None => {
                let place = file.raw(leaf.offset as usize)?;
                let found = (NameKey::city(&place), has(&place));
                groups.entry(found.0).or_insert_with(|| Group {
                    country: place.country_code,
                    has_city: found.1[CITY],
                    sums: Default::default(),
                });
                known.insert(leaf.offset, found);
                found
            }
        };
        if let Some(group) = groups.get_mut(&name) {
            for (sum, _) in group.sums.iter_mut().zip(has).filter(|(_, has)| *has) {
                sum.add(leaf);
            }
        }
        Ok(())
    })
}

fn has(place: &Place) -> [bool; 5] {
    let mut has = [true; 5];
    has[COUNTRY] = place.country_code != "--";
    has[SUBDIVISION] = !place.subdivision_name.is_empty();
    has[CITY] = !place.city_name.is_empty();
    has[COORDINATES] = place.latitude.is_some() && place.longitude.is_some();
    has
}

impl Group {
    fn share(&self, min_addresses: u64) -> Share {
        let [all, country, subdivision, city, coordinates] = self.sums.map(Sum::held);
        let is_small = self.has_city && all.lines() < min_addresses;
        Share {
            all,
            country,
            subdivision,
            city,
            coordinates,
            small: if is_small { city } else { Held::default() },
            cities: u64::from(self.has_city),
            small_cities: u64::from(is_small),
        }
    }
}

impl Share {
    fn add(&mut self, other: &Share) {
        for (sum, more) in [
            (&mut self.all, other.all),
            (&mut self.country, other.country),
            (&mut self.subdivision, other.subdivision),
            (&mut self.city, other.city),
            (&mut self.coordinates, other.coordinates),
            (&mut self.small, other.small),
        ] {
            *sum = Held { v4: sum.v4.saturating_add(more.v4), v6: sum.v6.saturating_add(more.v6) };
        }
        self.cities += other.cities;
        self.small_cities += other.small_cities;
    }
}
