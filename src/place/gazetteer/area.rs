//! What stands for a country or a subdivision: a city, never its middle, which is somebody's field.

use std::collections::BTreeMap;

use super::nearest::kilometres;
use super::{Area, City, NO_ZONE, Seat};

/// Share of an area's people that must have a time zone for it to be the area's.
const ZONE_SHARE: f64 = 0.95;

/// Share of an area's people that live within its radius.
const RADIUS_SHARE: f64 = 2.0 / 3.0;

/// The area of the cities with these indices. Its point is `capital` where given, else its seat, else its largest city.
pub(super) fn of(cities: &[City], members: &[u32], seat: Seat, capital: Option<u32>) -> Area {
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
