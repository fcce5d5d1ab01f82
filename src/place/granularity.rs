//! Small places identify people: a city with few addresses is given as its subdivision, that as its country, and
//! coordinates may be rounded.

use super::{Place, PlaceError, PlaceKey, Places};
use crate::config::PlaceConfig;

/// How exact a place may be in the output. By default as exact as the database has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Coarsening {
    /// A city, or a subdivision, with fewer addresses is not told; 0: all are. IPv4 addresses and IPv6 networks of /56
    /// are added.
    pub min_addresses: u64,
    /// Degrees that latitude and longitude are rounded to; none: as they are.
    pub round_coordinates: Option<f64>,
}

impl From<&PlaceConfig> for Coarsening {
    fn from(config: &PlaceConfig) -> Self {
        let round_coordinates = Some(config.round_coordinates).filter(|degrees| *degrees > 0.0);
        Self { min_addresses: config.min_addresses, round_coordinates }
    }
}

impl Coarsening {
    /// Takes away what would tell a place of fewer addresses: the city with coordinates, accuracy and time zone; the
    /// subdivision. `place` is that of `key`, before anything is looked up by its city's name.
    ///
    /// Errors: those of [`Places::held`]; then the place must not be written.
    pub fn reduce(&self, places: &Places, key: PlaceKey, place: &mut Place) -> Result<(), PlaceError> {
        if self.min_addresses == 0 {
            return Ok(());
        }
        let (city, subdivision) = places.held(key)?;
        if city.lines() < self.min_addresses {
            place.city_name.clear();
            // Time zones can be small too: America/Indiana/Vevay is one county.
            (place.latitude, place.longitude, place.accuracy_km, place.time_zone) = (None, None, None, None);
        }
        if subdivision.lines() < self.min_addresses {
            place.subdivision_name.clear();
            place.subdivision_code.clear();
        }
        Ok(())
    }

    /// Rounds coordinates, wherever they came from; the last step on a place's way.
    pub fn round(&self, place: &mut Place) {
        let Some(degrees) = self.round_coordinates.filter(|degrees| *degrees > 0.0) else { return };
        // Dividing by whole numbers gives the nearest double to 60.2; multiplying by 0.1 would give 60.2000…01.
        let steps = 1.0 / degrees;
        let rounded = |value: f64| {
            let rounded = if steps.fract() == 0.0 {
                (value * steps).round() / steps
            } else {
                (value / degrees).round() * degrees
            };
            // Not -0.0.
            rounded + 0.0
        };
        place.latitude = place.latitude.map(|value| rounded(value).clamp(-90.0, 90.0));
        place.longitude = place.longitude.map(|value| rounded(value).clamp(-180.0, 180.0));
    }
}
