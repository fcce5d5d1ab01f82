//! What a gazetteer finds, and what it refuses to read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use super::*;

/// A line of cities500.txt: name, alternate names, north, east, feature code, country, admin1, population, time zone.
type CityRow<'a> = (&'a str, &'a str, f64, f64, &'a str, &'a str, &'a str, u32, &'a str);

fn line((name, alternates, north, east, code, country, admin1, people, zone): CityRow<'_>) -> String {
    format!(
        "1\t{name}\t{name}\t{alternates}\t{north}\t{east}\tP\t{code}\t{country}\t\t{admin1}\t\t\t\t{people}\t\t10\t{zone}\t2026-01-01\n"
    )
}

const CITIES: [CityRow<'_>; 17] = [
    ("Paris", "Lutetia,Paname,Париж", 48.85341, 2.3488, "PPLC", "FR", "11", 2_138_551, "Europe/Paris"),
    ("Versailles", "", 48.80359, 2.13424, "PPLA2", "FR", "11", 85_416, "Europe/Paris"),
    ("Lyon", "Lugdunum", 45.74846, 4.84671, "PPLA", "FR", "84", 522_969, "Europe/Paris"),
    ("Saint-Étienne", "", 45.43389, 4.39, "PPLA2", "FR", "84", 176_280, "Europe/Paris"),
    ("Washington", "", 38.89511, -77.03637, "PPLC", "US", "DC", 601_723, "America/New_York"),
    ("Springfield", "", 39.80172, -89.64371, "PPLA", "US", "IL", 114_394, "America/Chicago"),
    ("Springfield", "", 37.21533, -93.29824, "PPLA2", "US", "MO", 169_176, "America/Chicago"),
    ("Springfield", "", 42.10148, -72.58981, "PPLA2", "US", "MA", 155_929, "America/New_York"),
    ("Chicago", "Springfield", 41.85003, -87.65005, "PPLA2", "US", "IL", 2_720_546, "America/Chicago"),
    ("El Paso", "", 31.75872, -106.48693, "PPLA2", "US", "TX", 681_124, "America/Denver"),
    ("Dallas", "", 32.78306, -96.80667, "PPLA2", "US", "TX", 1_300_092, "America/Chicago"),
    ("Austin", "", 30.26715, -97.74306, "PPLA", "US", "TX", 931_830, "America/Chicago"),
    ("Zürich", "Zurich,Zurigo", 47.36667, 8.55, "PPLA", "CH", "ZH", 341_730, "Europe/Zurich"),
    ("Bern", "Berne", 46.94809, 7.44744, "PPLA", "CH", "BE", 121_631, "Europe/Zurich"),
    ("Pristina", "", 42.67272, 21.16688, "PPLC", "XK", "01", 198_000, "Europe/Belgrade"),
    ("Old Paris", "Vieux", 10.0, 10.0, "PPLH", "FR", "11", 9_000_000, "Europe/Paris"),
    ("Nulle Part", "", 47.0, 3.0, "PPL", "FR", "99", 0, ""),
];

const SUBDIVISIONS: &str = "FR.11\tÎle-de-France\tIle-de-France\t1\nFR.84\tAuvergne-Rhône-Alpes\tAuvergne-Rhone-Alpes\t2\n\
                            US.IL\tIllinois\tIllinois\t3\nUS.MO\tMissouri\tMissouri\t4\nUS.MA\tMassachusetts\tMassachusetts\t5\n\
                            US.TX\tTexas\tTexas\t6\nUS.DC\tWashington, D.C.\tWashington, D.C.\t7\nUS.AK\tAlaska\tAlaska\t8\n\
                            CH.ZH\tZurich\tZurich\t9\nCH.BE\tBern\tBern\t10\n";

const COUNTRIES: &str = "# GeoNames.org Country Information\n#ISO\tISO3\nFR\tFRA\t250\tFR\tFrance\tParis\t547030\n\
                         CH\tCHE\t756\tSZ\tSwitzerland\tBerne\t41290\nXK\tXKX\t0\tKV\tKosovo\tPristina\t10908\n";

/// A folder with the files of a gazetteer.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn files(&self) -> GazetteerFiles {
        GazetteerFiles {
            cities: Some(self.write("cities500.txt", CITIES.map(line).concat())),
            subdivisions: Some(self.write("admin1CodesASCII.txt", SUBDIVISIONS)),
            countries: Some(self.write("countryInfo.txt", COUNTRIES)),
        }
    }
}

pub(in crate::place) fn gazetteer() -> Gazetteer {
    Gazetteer::open(&Folder::new().files()).unwrap()
}

pub(in crate::place) fn place(country: &str, subdivision: &str, city: &str) -> Place {
    Place {
        country_code: country.to_owned(),
        subdivision_name: subdivision.to_owned(),
        city_name: city.to_owned(),
        ..Place::unknown()
    }
}

/// Level, degrees and time zone that a place is found with.
fn find(gazetteer: &Gazetteer, country: &str, subdivision: &str, city: &str) -> Option<(Level, f64, f64, String)> {
    let found = gazetteer.find(&place(country, subdivision, city))?;
    Some((found.level, found.latitude, found.longitude, found.time_zone.unwrap_or("none").to_owned()))
}

fn paris() -> Option<(Level, f64, f64, String)> {
    Some((Level::City, 48.85341, 2.3488, "Europe/Paris".to_owned()))
}

#[test]
fn a_city_is_found_without_case_and_accents_by_any_of_its_names() {
    let gazetteer = gazetteer();
    for name in ["Paris", "PARIS", "pâris", "Lutetia", "Paname", "Paris (Châtelet)"] {
        assert_eq!(find(&gazetteer, "FR", "", name), paris(), "{name}");
    }
    assert_eq!(find(&gazetteer, "CH", "", "Zurich").unwrap().1, 47.36667);
    assert_eq!(find(&gazetteer, "FR", "", "SAINT ETIENNE").unwrap().1, 45.43389);
    // Not a city of France, and not one that is no more.
    assert_eq!(find(&gazetteer, "FR", "", "Chicago").unwrap().0, Level::Country);
    assert_eq!(find(&gazetteer, "FR", "", "Old Paris").unwrap().0, Level::Country);
    assert_eq!(find(&gazetteer, "--", "", "Paris"), None);
    assert_eq!(find(&gazetteer, "JP", "", "Paris"), None);
}

#[test]
fn of_cities_of_one_name_the_subdivision_tells_and_else_the_people() {
    let gazetteer = gazetteer();
    let north = |subdivision: &str| find(&gazetteer, "US", subdivision, "Springfield").map(|found| (found.0, found.1));
    assert_eq!(north("Illinois"), Some((Level::City, 39.80172)), "not Chicago, which has it as an alternate name");
    assert_eq!(north("massachusetts"), Some((Level::City, 42.10148)));
    assert_eq!(north(""), Some((Level::City, 37.21533)), "the one with most people");
    assert_eq!(north("Atlantis"), Some((Level::City, 37.21533)), "a subdivision that is not known");
    // Texas has no Springfield in these files: better its seat than a city of another state.
    assert_eq!(north("Texas"), Some((Level::Subdivision, 30.26715)));
}

#[test]
fn subdivisions_are_matched_by_name_and_by_the_iso_code_of_a_name() {
    let gazetteer = gazetteer();
    let mut by_code = place("FR", "", "");
    by_code.subdivision_code = "IDF".to_owned();
    let found = gazetteer.find(&by_code).unwrap();
    assert_eq!((found.level, found.latitude), (Level::Subdivision, 48.85341));
    // GeoNames' own code of it is no name and no ISO code.
    by_code.subdivision_code = "11".to_owned();
    assert_eq!(gazetteer.find(&by_code).unwrap().level, Level::Country);
    assert_eq!(find(&gazetteer, "FR", "Auvergne Rhone Alpes", "").unwrap().1, 45.74846, "Lyon, its seat");
    assert_eq!(find(&gazetteer, "US", "Alaska", "").unwrap().0, Level::Country, "no city of it is known");
}

#[test]
fn an_area_is_where_its_seat_is_and_has_a_time_zone_only_where_nearly_all_its_people_have_it() {
    let gazetteer = gazetteer();
    let texas = gazetteer.find(&place("US", "Texas", "")).unwrap();
    assert_eq!((texas.level, texas.latitude), (Level::Subdivision, 30.26715));
    assert_eq!(texas.time_zone, None, "El Paso has another one");
    // Two thirds live in Austin and Dallas, 290 km away.
    assert_eq!(texas.accuracy_km, Some(294));
    let illinois = gazetteer.find(&place("US", "Illinois", "")).unwrap();
    assert_eq!(illinois.time_zone, Some("America/Chicago"));
    assert_eq!(find(&gazetteer, "FR", "", ""), Some((Level::Country, 48.85341, 2.3488, "Europe/Paris".into())));
    // No city of Switzerland is marked as its capital: the file of countries names it, by an alternate name.
    assert_eq!(find(&gazetteer, "CH", "", "").unwrap().1, 46.94809);
    assert_eq!(gazetteer.country_name("XK"), "Kosovo");
    assert_eq!(gazetteer.country_name("US"), "");
}

#[test]
fn the_time_at_a_point_is_that_of_the_named_city_or_of_the_nearest_one_of_the_country() {
    let gazetteer = gazetteer();
    let zone = |country, city, north, east| gazetteer.zone_at(&place(country, "", city), north, east);
    assert_eq!(zone("US", "", 31.8, -106.0), Some("America/Denver"));
    assert_eq!(zone("US", "", 32.0, -97.0), Some("America/Chicago"));
    assert_eq!(zone("US", "Austin", 30.3, -97.7), Some("America/Chicago"));
    assert_eq!(zone("US", "Austin", 42.0, -73.0), Some("America/New_York"), "the name and the point contradict");
    assert_eq!(zone("FR", "", 47.37, 8.55), Some("Europe/Paris"), "Zurich is nearer, and in another country");
    assert_eq!(zone("FR", "", 47.0, 3.0), Some("Europe/Paris"), "the nearest one has no time zone in the file");
    assert_eq!(zone("FR", "", 0.0, 0.0), None, "no city is anywhere near");
    assert_eq!(zone("JP", "", 35.0, 139.0), None);
    assert_eq!(zone("--", "", 35.0, 139.0), None);
}

#[test]
fn each_file_may_be_missing() {
    let folder = Folder::new();
    let all = folder.files();
    let only_cities = Gazetteer::open(&GazetteerFiles { cities: all.cities.clone(), ..Default::default() }).unwrap();
    assert_eq!(find(&only_cities, "FR", "", "Paris"), paris());
    assert_eq!(find(&only_cities, "FR", "Auvergne-Rhône-Alpes", "Paris"), paris(), "no subdivision is known");
    let no_cities = Gazetteer::open(&GazetteerFiles { cities: None, ..all }).unwrap();
    assert_eq!(find(&no_cities, "FR", "Île-de-France", "Paris"), None);
    assert_eq!(no_cities.country_name("XK"), "Kosovo");
    assert_eq!(find(&Gazetteer::open(&GazetteerFiles::default()).unwrap(), "FR", "", "Paris"), None);
}

#[test]
fn a_bad_line_is_refused_with_its_place() {
    let folder = Folder::new();
    let paris = line(CITIES[0]);
    let refused = |text: &[u8]| {
        let path = folder.write("cities.txt", text);
        let files = GazetteerFiles { cities: Some(path), ..Default::default() };
        let error = Gazetteer::open(&files).err().expect("refused").to_string();
        error.replace(&folder.0.path().display().to_string(), "DIR")
    };
    let with = |from: &str, to: &str| refused(format!("{paris}{}", paris.replacen(from, to, 1)).as_bytes());
    assert_eq!(
        with("48.85341", "48,85"),
        "DIR/cities.txt:2: column 5 (latitude): found `48,85`, expected degrees from -90 to 90; take the file from \
         GeoNames' dump as it is, or fix the line"
    );
    for (from, to, expected) in [
        ("48.85341", "NaN", "column 5 (latitude): found `NaN`, expected degrees from -90 to 90"),
        ("48.85341", "90.1", "column 5 (latitude): found `90.1`"),
        ("2.3488", "-180.5", "column 6 (longitude): found `-180.5`, expected degrees from -180 to 180"),
        ("\tFR\t", "\tFRA\t", "column 9 (country code): found `FRA`, expected a country code of two capital letters"),
        ("2138551", "many", "column 15 (population): found `many`, expected a number of people"),
        ("2138551", "-1", "column 15 (population): found `-1`"),
        ("Europe/Paris", "../../etc/passwd", "column 18 (timezone): found `../../etc/passwd`, expected an IANA"),
        ("Europe/Paris\t", "Europe/Paris ", "the line: found 18 columns, expected the 19 columns of cities500.txt"),
    ] {
        let error = with(from, to);
        assert!(error.starts_with(&format!("DIR/cities.txt:2: {expected}")), "{error}");
    }
    let long = with("48.85341", &"9".repeat(1000));
    assert!(long.contains(&format!("found `{}…`", "9".repeat(40))), "{long}");
    for (bytes, expected) in [
        (&b"PK\x03\x04\xff"[..], ":1: the line: found a zip archive"),
        (b"\x1f\x8b\x08\xff", ":1: the line: found gzip-compressed data"),
        (b"Paris\xff\n", ":1: the line: found bytes that are not UTF-8"),
        (b"", ": found no row, expected the 19 columns"),
        (b"# nothing\n\n", ": found no row"),
    ] {
        let error = refused(bytes);
        assert!(error.starts_with(&format!("DIR/cities.txt{expected}")), "{error}");
    }
    let endless = refused(&vec![b'a'; 200_000]);
    assert!(endless.contains(":1: the line: found more than 65536 bytes"), "{endless}");
    let files = GazetteerFiles { subdivisions: Some(folder.write("s.txt", "FR\tx\tx\t1\n")), ..Default::default() };
    let error = Gazetteer::open(&files).err().unwrap().to_string();
    assert!(
        error.contains("s.txt:1: column 1 (code): found `FR`, expected country and subdivision apart by a dot"),
        "{error}"
    );
    let files = GazetteerFiles { countries: Some(folder.0.path().join("absent.txt")), ..Default::default() };
    let error = Gazetteer::open(&files).err().unwrap().to_string();
    assert!(error.contains("absent.txt: cannot be read: "), "{error}");
}

#[test]
fn lines_may_end_as_windows_has_them() {
    let folder = Folder::new();
    let text = CITIES.map(line).concat().replace('\n', "\r\n");
    let files = GazetteerFiles { cities: Some(folder.write("cities.txt", text)), ..Default::default() };
    assert_eq!(find(&Gazetteer::open(&files).unwrap(), "FR", "", "Paris"), paris());
}

/// The search that stops early finds what a search through all finds.
#[test]
fn the_nearest_city_is_the_nearest_of_all() {
    let mut cities: Vec<City> = (0..2_000u32)
        .map(|n| City {
            latitude: (n.wrapping_mul(2_654_435_761) % 2_000_000) as i32 + 4_000_000,
            longitude: (n.wrapping_mul(40_503) % 3_000_000) as i32 - 1_000_000,
            population: 1,
            subdivision: NONE,
            country: *b"FR",
            zone: (n % 7) as u16,
            seat: Seat::None,
        })
        .collect();
    cities.sort_by_key(|city| city.latitude);
    for step in 0..500 {
        let point = (40.0 + f64::from(step) * 0.04, -10.0 + f64::from(step * 7 % 500) * 0.06);
        let distance = |city: &City| kilometres(point, city.degrees());
        let best = cities.iter().map(distance).min_by(f64::total_cmp).unwrap();
        let found = nearest_city(&cities, point.0, point.1).unwrap();
        assert!(distance(found) <= best + 1e-9, "{point:?}: {} km, nearest {best} km", distance(found));
    }
}

#[test]
fn distances_are_those_of_the_globe() {
    let (paris, new_york) = ((48.85341, 2.3488), (40.71427, -74.00597));
    assert!((kilometres(paris, new_york) - 5837.0).abs() < 10.0);
    // Over the date line.
    assert!((kilometres((0.0, 179.5), (0.0, -179.5)) - 111.2).abs() < 0.5);
    assert_eq!(kilometres(paris, paris), 0.0);
}

/// Prints how many networks of full databases a gazetteer finds, how far from the database's own coordinates, and the
/// commonest cities that it does not find. `PRESSLINE_TEST_MMDB=a.mmdb,b.mmdb PRESSLINE_GAZETTEER=folder cargo test
/// --release --lib share_of_cities -- --ignored --nocapture`
#[test]
#[ignore = "needs full databases and GeoNames' files"]
fn share_of_cities() {
    let files: Vec<PathBuf> = std::env::var("PRESSLINE_TEST_MMDB").unwrap().split(',').map(PathBuf::from).collect();
    let folder = PathBuf::from(std::env::var_os("PRESSLINE_GAZETTEER").unwrap());
    let gazetteer = Gazetteer::open(&GazetteerFiles {
        cities: Some(folder.join("cities500.txt")),
        subdivisions: Some(folder.join("admin1CodesASCII.txt")),
        countries: Some(folder.join("countryInfo.txt")),
    });
    let gazetteer = gazetteer.unwrap();
    let places = crate::place::Places::open(&files).unwrap();
    let mut networks: HashMap<_, u64> = HashMap::new();
    for network in places.sample_networks(500_000) {
        *networks.entry(network.key).or_default() += 1;
    }
    let (mut levels, mut far, mut zones, mut missing) = ([0u64; 4], [0u64; 4], [0u64; 2], HashMap::new());
    for (key, count) in networks {
        let place = places.place(key).unwrap();
        if place.city_name.is_empty() {
            continue;
        }
        let found = gazetteer.find(&place);
        levels[found.map_or(3, |found| found.level as usize)] += count;
        let point = place.latitude.zip(place.longitude);
        if let (Some(point), Some(found)) = (point, found) {
            zones[usize::from(gazetteer.zone_at(&place, point.0, point.1).is_some())] += count;
            if found.level == Level::City {
                let km = kilometres(point, (found.latitude, found.longitude));
                far[[5.0, 25.0, 100.0].iter().position(|most| km <= *most).unwrap_or(3)] += count;
            } else {
                *missing.entry((place.country_code, place.subdivision_name, place.city_name)).or_default() += count;
            }
        }
    }
    println!("networks found as country, subdivision, city, not at all: {levels:?}; with a time zone: {zones:?}");
    println!("cities within 5, 25, 100 km and farther: {far:?}");
    let mut missing: Vec<(_, u64)> = missing.into_iter().collect();
    missing.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (name, count) in missing.iter().take(80) {
        println!("{count} {name:?}");
    }
}
