//! Which step gives what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::gazetteer::tests::{gazetteer, place};
use super::*;

fn complete(chain: &Chain, place: &Place) -> (Place, LookupSteps) {
    let mut place = place.clone();
    let record = place.clone();
    let steps = chain.complete(&mut place, &record, None);
    (place, steps)
}

fn with_gazetteer() -> Chain {
    Chain { gazetteer: Some(Arc::new(gazetteer())), ..Chain::default() }
}

#[test]
fn what_the_record_has_stays() {
    let whole = Place {
        country_name: "Frankreich".to_owned(),
        latitude: Some(1.0),
        longitude: Some(2.0),
        accuracy_km: Some(3),
        time_zone: Some("Indian/Reunion".to_owned()),
        ..place("FR", "Bretagne", "Paris")
    };
    let (completed, steps) = complete(&with_gazetteer(), &whole);
    assert_eq!(completed, whole);
    assert_eq!((steps.coordinates, steps.time_zone), (Some(LookupStep::Mmdb), Some(LookupStep::Mmdb)));
    assert_eq!(steps.subdivision_code, None);
}

#[test]
fn the_gazetteer_fills_in_coordinates_time_zone_and_country() {
    // A radius without coordinates is about another point than the gazetteer's.
    let bare = Place { accuracy_km: Some(5), ..place("XK", "", "Pristina") };
    let (completed, steps) = complete(&with_gazetteer(), &bare);
    assert_eq!(completed.country_name, "Kosovo");
    assert_eq!(
        (completed.latitude, completed.longitude, completed.accuracy_km),
        (Some(42.67272), Some(21.16688), None)
    );
    assert_eq!(completed.time_zone.as_deref(), Some("Europe/Belgrade"));
    let all_three = (Some(LookupStep::Gazetteer), Some(LookupStep::Gazetteer), Some(LookupStep::Gazetteer));
    assert_eq!((steps.country_name, steps.coordinates, steps.time_zone), all_three);
    assert_eq!((steps.country_code, steps.city_name), (Some(LookupStep::Mmdb), Some(LookupStep::Mmdb)));
}

#[test]
fn coordinates_of_the_record_tell_the_time_zone() {
    let near_el_paso = Place { latitude: Some(31.8), longitude: Some(-106.0), ..place("US", "Texas", "") };
    let (completed, steps) = complete(&with_gazetteer(), &near_el_paso);
    assert_eq!((completed.latitude, completed.longitude), (Some(31.8), Some(-106.0)));
    assert_eq!(completed.time_zone.as_deref(), Some("America/Denver"));
    assert_eq!((steps.coordinates, steps.time_zone), (Some(LookupStep::Mmdb), Some(LookupStep::Gazetteer)));
}

#[test]
fn the_seat_of_an_area_does_not_tell_the_time_of_all_of_it() {
    let (completed, steps) = complete(&with_gazetteer(), &place("US", "Texas", ""));
    assert_eq!((completed.latitude, completed.accuracy_km), (Some(30.26715), Some(294)));
    assert_eq!((completed.time_zone, steps.time_zone), (None, None));
}

/// GeoLite2 of 2026 gives 63 % of American addresses, of which it knows no more than the country, Chicago's time and a lake in Kansas.
#[test]
fn a_country_of_several_time_zones_has_none_and_no_middle() {
    let record = |country: &str| Place {
        latitude: Some(37.751),
        longitude: Some(-97.822),
        accuracy_km: Some(1_000),
        time_zone: Some("America/Chicago".to_owned()),
        ..place(country, "", "")
    };
    let (america, steps) = complete(&Chain::default(), &record("US"));
    assert_eq!(america, place("US", "", ""));
    assert_eq!((steps.coordinates, steps.time_zone), (None, None));
    // Of a country with one zone, of a state and of a city they stay.
    let whole = [
        record("FR"),
        Place { subdivision_name: "Texas".to_owned(), ..record("US") },
        Place { subdivision_code: "TX".to_owned(), ..record("US") },
        Place { city_name: "El Paso".to_owned(), ..record("US") },
    ];
    for place in whole {
        assert_eq!(complete(&Chain::default(), &place).0, place);
        assert_eq!(complete(&with_gazetteer(), &place).0.time_zone, place.time_zone);
    }
    // The gazetteer's seat of the country takes the place of the middle, with its radius, and tells no time.
    let (america, steps) = complete(&with_gazetteer(), &record("US"));
    assert_eq!((america.time_zone, steps.time_zone), (None, None));
    assert_eq!((america.latitude, steps.coordinates), (Some(38.89511), Some(LookupStep::Gazetteer)));
    assert!(america.accuracy_km.is_some());
}

#[test]
fn a_place_without_country_and_a_chain_without_steps_change_nothing() {
    let unknown = place("--", "Texas", "Austin");
    assert_eq!(complete(&with_gazetteer(), &unknown), (unknown.clone(), LookupSteps::of_record(&unknown, &unknown)));
    let paris = place("FR", "", "Paris");
    assert_eq!(complete(&Chain::default(), &paris).0, paris);
}

#[test]
fn the_record_and_the_tables_of_names_are_told_apart() {
    let record = place("FI", "Uusimaa", "Helsinki");
    let named = super::super::iso3166::complete(record.clone());
    let steps = LookupSteps::of_record(&record, &named);
    assert_eq!((steps.country_name, steps.country_code), (Some(LookupStep::Names), Some(LookupStep::Mmdb)));
    assert_eq!((steps.subdivision_name, steps.subdivision_code), (Some(LookupStep::Mmdb), Some(LookupStep::Names)));
    assert_eq!(
        serde_json::to_string(&steps).unwrap(),
        r#"{"country_name":"names","country_code":"mmdb","subdivision_name":"mmdb","subdivision_code":"names","city_name":"mmdb","coordinates":null,"time_zone":null}"#
    );
}
