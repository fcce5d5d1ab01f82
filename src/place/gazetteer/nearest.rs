//! Distances, and the city nearest to a point.

use super::{City, NO_ZONE};

/// Farther than this, in km, no city says anything about the time at a point: the coordinates are probably wrong.
const FARTHEST_KM: f64 = 500.0;

/// Mean radius of the Earth in km.
const EARTH_KM: f64 = 6371.0;

/// Great-circle distance of two points in degrees (north, east), by the haversine formula.
pub(super) fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (north_a, north_b) = (a.0.to_radians(), b.0.to_radians());
    let (north, east) = (north_b - north_a, (b.1 - a.1).to_radians());
    let haversine = (north / 2.0).sin().powi(2) + north_a.cos() * north_b.cos() * (east / 2.0).sin().powi(2);
    2.0 * EARTH_KM * haversine.min(1.0).sqrt().asin()
}

/// The nearest of cities that are sorted from south to north, among those with a time zone. Looks from the point's
/// latitude to both sides, and no farther than the nearest found: some hundred of a large country's cities.
pub(super) fn city(cities: &[City], latitude: f64, longitude: f64) -> Option<&City> {
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
