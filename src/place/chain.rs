//! From a record of the database to a whole place: mmdb → names → gazetteer → geocoder. Each step fills in what the ones
//! before left empty, and never changes what they gave.
//!
//! The order is fixed: each step asks with what the one before found, and the one that tells another machine comes last.
//! All of it runs when a fragment is made, once a record of the database, never once an event.

use std::sync::Arc;

use serde::Serialize;

use super::gazetteer::{Found, Level};
use super::{Gazetteer, Place, PlaceError, PlaceKey, Places};
use crate::metrics::ChainMetrics;

/// What can fill in a part of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The database's record.
    Mmdb,
    /// ISO 3166's tables.
    Names,
    /// GeoNames' files.
    Gazetteer,
    /// The geocoding service.
    Geocoder,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 4] = [Step::Mmdb, Step::Names, Step::Gazetteer, Step::Geocoder];

    /// Stable name for the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Step::Mmdb => "mmdb",
            Step::Names => "names",
            Step::Gazetteer => "gazetteer",
            Step::Geocoder => "geocoder",
        }
    }
}

/// Which step gave which part of a place; none where the part is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// [`Place::country_name`].
    pub country_name: Option<Step>,
    /// [`Place::country_code`].
    pub country_code: Option<Step>,
    /// [`Place::subdivision_name`].
    pub subdivision_name: Option<Step>,
    /// [`Place::subdivision_code`].
    pub subdivision_code: Option<Step>,
    /// [`Place::city_name`].
    pub city_name: Option<Step>,
    /// [`Place::latitude`] and [`Place::longitude`].
    pub coordinates: Option<Step>,
    /// [`Place::time_zone`].
    pub time_zone: Option<Step>,
}

impl Steps {
    /// Every part by its name, in the order of the fields.
    pub fn parts(&self) -> [(&'static str, Option<Step>); 7] {
        [
            ("country_name", self.country_name),
            ("country_code", self.country_code),
            ("subdivision_name", self.subdivision_name),
            ("subdivision_code", self.subdivision_code),
            ("city_name", self.city_name),
            ("coordinates", self.coordinates),
            ("time_zone", self.time_zone),
        ]
    }

    /// What is in `place` came from the record if `record` has it, else from the tables of names.
    fn of_record(record: &Place, place: &Place) -> Steps {
        let text = |record: &str, place: &str| match (record.is_empty(), place.is_empty()) {
            (_, true) => None,
            (false, _) => Some(Step::Mmdb),
            (true, _) => Some(Step::Names),
        };
        Steps {
            country_name: text(&record.country_name, &place.country_name),
            country_code: (place.country_code != "--").then_some(Step::Mmdb),
            subdivision_name: text(&record.subdivision_name, &place.subdivision_name),
            subdivision_code: text(&record.subdivision_code, &place.subdivision_code),
            city_name: text(&record.city_name, &place.city_name),
            coordinates: point(place).map(|_| Step::Mmdb),
            time_zone: place.time_zone.as_ref().map(|_| Step::Mmdb),
        }
    }
}

/// The steps behind the database, as a pipeline's configuration has them.
#[derive(Default)]
pub struct Chain {
    gazetteer: Option<Arc<Gazetteer>>,
    metrics: Option<ChainMetrics>,
}

impl Chain {
    /// A chain of these steps, counted under the pipeline's name.
    pub fn new(pipeline: &str, gazetteer: Option<Arc<Gazetteer>>) -> Chain {
        Chain { gazetteer, metrics: Some(ChainMetrics::new(pipeline)) }
    }

    /// Credit that the gazetteer's licence asks for where results are shown; "" without one.
    pub fn attribution(&self) -> &'static str {
        if self.gazetteer.is_some() {
            "Coordinates and time zones by GeoNames (https://www.geonames.org), CC BY 4.0"
        } else {
            ""
        }
    }

    /// The whole place of a record, and which step gave what.
    ///
    /// Errors: those of [`Places::place`].
    pub fn place(&self, places: &Places, key: PlaceKey) -> Result<(Place, Steps), PlaceError> {
        let mut place = places.place(key)?;
        let mut steps = Steps::of_record(&places.record(key)?, &place);
        self.complete(&mut place, &mut steps);
        if let Some(metrics) = &self.metrics {
            metrics.count(&steps);
        }
        Ok((place, steps))
    }

    /// Fills in what a place lacks. A place without a country stays as it is: nothing can be asked about it.
    pub fn complete(&self, place: &mut Place, steps: &mut Steps) {
        if place.country_code == "--" {
            return;
        }
        let Some(gazetteer) = &self.gazetteer else { return };
        if place.country_name.is_empty() {
            place.country_name = gazetteer.country_name(&place.country_code).to_owned();
            steps.country_name = (!place.country_name.is_empty()).then_some(Step::Gazetteer);
        }
        if point(place).is_none()
            && let Some(found) = gazetteer.find(place)
        {
            put_point(place, &found);
            steps.coordinates = Some(Step::Gazetteer);
            put_zone(place, steps, found.time_zone);
            // The point of an area says nothing about the time in all of it.
            if found.level < Level::City {
                return;
            }
        }
        if let Some((latitude, longitude)) = point(place)
            && place.time_zone.is_none()
        {
            let zone = gazetteer.zone_at(place, latitude, longitude);
            put_zone(place, steps, zone);
        }
    }
}

/// Both coordinates; one alone is none.
fn point(place: &Place) -> Option<(f64, f64)> {
    place.latitude.zip(place.longitude)
}

/// The radius belongs to the point: a record's own says nothing about another one's.
fn put_point(place: &mut Place, found: &Found<'_>) {
    place.latitude = Some(found.latitude);
    place.longitude = Some(found.longitude);
    place.accuracy_km = found.accuracy_km;
}

fn put_zone(place: &mut Place, steps: &mut Steps, zone: Option<&str>) {
    if place.time_zone.is_none()
        && let Some(zone) = zone
    {
        place.time_zone = Some(zone.to_owned());
        steps.time_zone = Some(Step::Gazetteer);
    }
}

#[cfg(test)]
mod tests;
