#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use maxminddb_writer::metadata::IpVersion;
use serde_json::{Value, json};

use super::*;
use crate::place::tests::mmdb;
use crate::place::{Lookup, Place};

/// A file that has the addresses of 81.0.0.0/8 in this city, and 256 more networks of the same country.
fn edition(city: &str) -> Vec<u8> {
    let record = |city: &str| json!({"country_code": "FI", "state1": "Uusimaa", "city": city});
    let networks: Vec<(String, Value)> = (0..256)
        .map(|number| (format!("82.{number}.0.0/16"), record(&format!("Kaupunki {number}"))))
        .chain([("81.0.0.0/8".to_owned(), record(city))])
        .collect();
    let networks: Vec<(&str, Value)> = networks.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    mmdb(IpVersion::V4, &networks)
}

struct Folder {
    dir: tempfile::TempDir,
    file: PathBuf,
}

impl Folder {
    fn with(bytes: &[u8]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("places.mmdb");
        std::fs::write(&file, bytes).unwrap();
        Folder { dir, file }
    }

    fn database_set(&self) -> DatabaseSet {
        let mut database_set = DatabaseSet::open(std::slice::from_ref(&self.file), false).unwrap();
        database_set.settle = Duration::from_millis(60);
        database_set
    }

    /// A new file in the place of the old one.
    fn rename_over(&self, bytes: &[u8]) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}

fn city(database_set: &DatabaseSet) -> String {
    let places = Arc::clone(&database_set.subscribe().borrow());
    match places.lookup_addr("81.2.3.4".parse().unwrap()) {
        Lookup::Found(key) => places.place(key).unwrap().city_name,
        other => panic!("{other:?}"),
    }
}

/// Looks until nothing is unsettled any more.
fn settle(database_set: &DatabaseSet) -> Vec<ReloadEvent> {
    let begun = Instant::now();
    loop {
        let events = database_set.look(false);
        if !events.iter().any(|events| matches!(events, ReloadEvent::Unsettled)) {
            return events;
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn refusal(events: &[ReloadEvent]) -> &str {
    match events {
        [ReloadEvent::Refused { reason, .. }] => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_renamed_over_another_is_taken_and_told() {
    let folder = Folder::with(&edition("Helsinki"));
    let database_set = folder.database_set();
    let mut word = database_set.subscribe();
    assert!(settle(&database_set).is_empty() && !word.has_changed().unwrap());
    folder.rename_over(&edition("Espoo"));
    let events = settle(&database_set);
    assert!(
        matches!(&events[..], [ReloadEvent::Taken { path, info }] if *path == folder.file && info.networks_v4 == 257),
        "{events:?}"
    );
    assert_eq!(city(&database_set), "Espoo");
    assert!(word.has_changed().unwrap());
    word.mark_unchanged();
    assert!(settle(&database_set).is_empty() && !word.has_changed().unwrap(), "taken once");
}

#[test]
fn a_link_led_elsewhere_is_followed() {
    let folder = Folder::with(&edition("Helsinki"));
    let (october, november) = (folder.dir.path().join("october"), folder.dir.path().join("november"));
    std::fs::rename(&folder.file, &october).unwrap();
    std::os::unix::fs::symlink(&october, &folder.file).unwrap();
    let database_set = folder.database_set();
    std::fs::write(&november, edition("Espoo")).unwrap();
    let link = folder.dir.path().join("link");
    std::os::unix::fs::symlink(&november, &link).unwrap();
    std::fs::rename(link, &folder.file).unwrap();
    assert!(matches!(settle(&database_set)[..], [ReloadEvent::Taken { .. }]));
    assert_eq!(city(&database_set), "Espoo");
}

#[test]
fn a_file_that_is_being_written_in_place_is_not_read_before_it_is_left_alone() {
    let folder = Folder::with(&edition("Helsinki"));
    let database_set = folder.database_set();
    let new = edition("Espoo");
    // Each part comes well within the time that a file must be left alone: no look may read it, not even to refuse it.
    for part in 1..=20 {
        std::fs::write(&folder.file, &new[..new.len() * part / 20]).unwrap();
        let events = database_set.look(false);
        assert!(matches!(events[..], [ReloadEvent::Unsettled]), "part {part}: {events:?}");
        assert_eq!(city(&database_set), "Helsinki");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(settle(&database_set)[..], [ReloadEvent::Taken { .. }]));
    assert_eq!(city(&database_set), "Espoo");
}

#[test]
fn half_a_file_is_refused_once_and_its_end_makes_it_good() {
    let folder = Folder::with(&edition("Helsinki"));
    let database_set = folder.database_set();
    let new = edition("Espoo");
    std::fs::write(&folder.file, &new[..new.len() / 2]).unwrap();
    let events = settle(&database_set);
    assert!(refusal(&events).contains("places.mmdb: not a MaxMind DB file"), "{events:?}");
    assert!(settle(&database_set).is_empty(), "told once");
    assert_eq!(city(&database_set), "Helsinki");
    std::fs::write(&folder.file, &new).unwrap();
    assert!(matches!(settle(&database_set)[..], [ReloadEvent::Taken { .. }]));
    assert_eq!(city(&database_set), "Espoo");
}

#[test]
fn a_damaged_a_missing_and_an_emptier_file_are_refused_and_the_old_one_answers() {
    let folder = Folder::with(&edition("Helsinki"));
    let database_set = folder.database_set();
    let mut damaged = edition("Espoo");
    // Into the search tree: pointers that lead nowhere.
    damaged[60..200].fill(0xff);
    folder.rename_over(&damaged);
    assert!(refusal(&settle(&database_set)).contains("damaged MaxMind DB file"), "damaged");
    std::fs::remove_file(&folder.file).unwrap();
    assert!(refusal(&settle(&database_set)).contains("cannot be read"), "missing");
    let other_version = mmdb(IpVersion::V6, &[("2a00::/16", json!({"country_code": "FI", "city": "Espoo"}))]);
    folder.rename_over(&other_version);
    let events = settle(&database_set);
    assert!(refusal(&events).contains("sample IPv4 addresses that have a country"), "{events:?}");
    let without_cities = mmdb(IpVersion::V4, &[("80.0.0.0/6", json!({"country_code": "FI"}))]);
    folder.rename_over(&without_cities);
    let events = settle(&database_set);
    assert!(refusal(&events).contains("sample IPv4 addresses that have a city"), "{events:?}");
    assert_eq!(city(&database_set), "Helsinki");
}

#[test]
fn an_urgent_look_reads_at_once_what_looks_unchanged() {
    let folder = Folder::with(&edition("Helsinki"));
    let database_set = folder.database_set();
    let before = database_set.subscribe().borrow().generation();
    assert!(matches!(database_set.look(true)[..], [ReloadEvent::Taken { .. }]));
    assert_ne!(database_set.subscribe().borrow().generation(), before);
    folder.rename_over(&edition("Espoo"));
    assert!(matches!(database_set.look(true)[..], [ReloadEvent::Taken { .. }]), "without waiting for it to settle");
    assert_eq!(city(&database_set), "Espoo");
    folder.rename_over(b"not a database");
    assert!(matches!(database_set.look(true)[..], [ReloadEvent::Refused { .. }]));
    assert!(
        matches!(database_set.look(true)[..], [ReloadEvent::Refused { .. }]),
        "an operator who asks again is told again"
    );
}

#[test]
fn of_several_files_each_is_judged_alone_and_the_others_are_not_read_again() {
    let folder = Folder::with(&edition("Helsinki"));
    let second = folder.dir.path().join("second.mmdb");
    std::fs::write(&second, mmdb(IpVersion::V6, &[("2a00::/16", json!({"country_code": "FI"}))])).unwrap();
    let mut database_set = DatabaseSet::open(&[folder.file.clone(), second.clone()], false).unwrap();
    database_set.settle = Duration::from_millis(60);
    let first = Arc::clone(&database_set.subscribe().borrow().files[0]);
    std::fs::write(&second, b"nothing").unwrap();
    assert!(matches!(&settle(&database_set)[..], [ReloadEvent::Refused { path, .. }] if *path == second));
    std::fs::write(&second, mmdb(IpVersion::V6, &[("2a00::/15", json!({"country_code": "SE"}))])).unwrap();
    assert!(matches!(&settle(&database_set)[..], [ReloadEvent::Taken { path, .. }] if *path == second));
    let places = Arc::clone(&database_set.subscribe().borrow());
    assert!(Arc::ptr_eq(&places.files[0], &first));
    let Lookup::Found(key) = places.lookup_addr("2a01::1".parse().unwrap()) else { panic!("not found") };
    assert_eq!(places.place(key).unwrap().country_name, "Sweden");
    assert_ne!(places.place(key).unwrap(), Place::unknown());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_taken_though_what_was_read_is_sound() {
    let folder = Folder::with(&edition("Helsinki"));
    let database_set = folder.database_set();
    // A pipe can be read to its end, and whoever writes into it changes its time.
    std::fs::remove_file(&folder.file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&folder.file).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(50));
    let (file, new) = (folder.file.clone(), edition("Espoo"));
    let writer = std::thread::spawn(move || std::fs::write(file, new).unwrap());
    let events = database_set.look(true);
    writer.join().unwrap();
    assert!(matches!(events[..], [ReloadEvent::Unsettled]), "{events:?}");
    assert_eq!(city(&database_set), "Helsinki");
}
