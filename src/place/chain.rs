//! From a record of the database to a whole place: mmdb → names → gazetteer → geocoder. Each step fills in what the ones
//! before left empty, and never changes what they gave.
//!
//! The order is that, since each step asks with what the one before found, and the one that tells another machine comes
//! last; of the last two a pipeline may turn it (`place.geocoder.before_gazetteer`).
//! All of it runs when a fragment is made, once a record of the database, never once an event.

use std::sync::Arc;

use ::metrics::{Counter, Label, counter};
use serde::Serialize;

use super::gazetteer::Level;
use super::{FragmentCache, Gazetteer, Geocoder, Place, PlaceKey};
use crate::metrics::PLACE_PARTS;

/// What can fill in a part of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupStep {
    /// The database's record.
    Mmdb,
    /// ISO 3166's tables.
    Names,
    /// GeoNames' files.
    Gazetteer,
    /// The geocoding service.
    Geocoder,
}

impl LookupStep {
    /// Every step, in order.
    pub const ALL: [LookupStep; 4] = [LookupStep::Mmdb, LookupStep::Names, LookupStep::Gazetteer, LookupStep::Geocoder];

    /// Stable name for the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            LookupStep::Mmdb => "mmdb",
            LookupStep::Names => "names",
            LookupStep::Gazetteer => "gazetteer",
            LookupStep::Geocoder => "geocoder",
        }
    }
}

/// Which step gave which part of a place; none where the part is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LookupSteps {
    /// [`Place::country_name`].
    pub country_name: Option<LookupStep>,
    /// [`Place::country_code`].
    pub country_code: Option<LookupStep>,
    /// [`Place::subdivision_name`].
    pub subdivision_name: Option<LookupStep>,
    /// [`Place::subdivision_code`].
    pub subdivision_code: Option<LookupStep>,
    /// [`Place::city_name`].
    pub city_name: Option<LookupStep>,
    /// [`Place::latitude`] and [`Place::longitude`].
    pub coordinates: Option<LookupStep>,
    /// [`Place::time_zone`].
    pub time_zone: Option<LookupStep>,
}

impl LookupSteps {
    /// Every part by its name, in the order of the fields.
    pub fn parts(&self) -> [(&'static str, Option<LookupStep>); 7] {
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
    fn of_record(record: &Place, place: &Place) -> LookupSteps {
        let text = |record: &str, place: &str| match (record.is_empty(), place.is_empty()) {
            (_, true) => None,
            (false, _) => Some(LookupStep::Mmdb),
            (true, _) => Some(LookupStep::Names),
        };
        LookupSteps {
            country_name: text(&record.country_name, &place.country_name),
            country_code: (place.country_code != "--").then_some(LookupStep::Mmdb),
            subdivision_name: text(&record.subdivision_name, &place.subdivision_name),
            subdivision_code: text(&record.subdivision_code, &place.subdivision_code),
            city_name: text(&record.city_name, &place.city_name),
            coordinates: point(place).map(|_| LookupStep::Mmdb),
            time_zone: place.time_zone.as_ref().map(|_| LookupStep::Mmdb),
        }
    }
}

/// The steps behind the database, as a pipeline's configuration has them.
#[derive(Default)]
pub struct Chain {
    gazetteer: Option<Arc<Gazetteer>>,
    geocoder: Option<Arc<Geocoder>>,
    metrics: Option<ChainMetrics>,
}

/// The fragment that a place is made ready for: forgotten when the geocoder's answer is there.
pub type Renew<'a> = (&'a Arc<FragmentCache>, PlaceKey);

impl Chain {
    /// A chain of these steps, counted under the pipeline's name.
    pub fn new(pipeline: &str, gazetteer: Option<Arc<Gazetteer>>, geocoder: Option<Arc<Geocoder>>) -> Chain {
        Chain { gazetteer, geocoder, metrics: Some(ChainMetrics::new(pipeline)) }
    }

    /// The same, uncounted.
    pub fn uncounted(gazetteer: Option<Arc<Gazetteer>>, geocoder: Option<Arc<Geocoder>>) -> Chain {
        Chain { gazetteer, geocoder, metrics: None }
    }

    /// Credits that the data's licences ask for where results are shown.
    pub fn attributions(&self) -> impl Iterator<Item = &'static str> {
        let gazetteer = self.gazetteer.iter().map(|_| "Places by GeoNames (https://www.geonames.org), CC BY 4.0");
        let geocoder = self
            .geocoder
            .iter()
            .map(|_| "Places by OpenStreetMap contributors (https://openstreetmap.org/copyright), ODbL");
        gazetteer.chain(geocoder)
    }

    /// Fills in what a place lacks, counts which step gave what, and gives it. `record` is what the database's record has
    /// of it, nothing completed. With `renew` the geocoder may be asked, and it receives the place's names as they
    /// stand here: what must not leave the process has to be removed before. A place without a country stays as it is, since nothing
    /// can be asked about it.
    pub fn complete(&self, place: &mut Place, record: &Place, renew: Option<Renew<'_>>) -> LookupSteps {
        self.leave_out_of_country(place);
        let mut steps = LookupSteps::of_record(record, place);
        if place.country_code != "--" {
            self.fill_in(place, &mut steps, renew);
        }
        if let Some(metrics) = &self.metrics {
            metrics.count(&steps);
        }
        steps
    }

    /// Leaves out the time zone and the coordinates of a record that knows the country alone, unless 95 % of its people have one
    /// time zone: GeoLite2 gives two thirds of all American addresses Chicago's time, and a lake in Kansas.
    pub fn leave_out_of_country(&self, place: &mut Place) {
        let knows_more =
            !place.city_name.is_empty() || !place.subdivision_name.is_empty() || !place.subdivision_code.is_empty();
        if knows_more || (place.time_zone.is_none() && point(place).is_none()) {
            return;
        }
        let known = self.gazetteer.as_deref().and_then(|gazetteer| gazetteer.has_one_zone(&place.country_code));
        if !known.unwrap_or_else(|| !several_zones(&place.country_code)) {
            place.time_zone = None;
            (place.latitude, place.longitude, place.accuracy_km) = (None, None, None);
        }
    }

    fn fill_in(&self, place: &mut Place, steps: &mut LookupSteps, renew: Option<Renew<'_>>) {
        if let Some(gazetteer) = self.gazetteer.as_deref()
            && place.country_name.is_empty()
        {
            place.country_name = gazetteer.country_name(&place.country_code).to_owned();
            steps.country_name = (!place.country_name.is_empty()).then_some(LookupStep::Gazetteer);
        }
        if point(place).is_none() {
            let level = self.locate(place, steps, renew);
            // The seat of an area says nothing about the time in all of it.
            if level.is_some_and(|level| level < Level::City) {
                return;
            }
        }
        if let (Some((latitude, longitude)), Some(gazetteer)) = (point(place), &self.gazetteer)
            && place.time_zone.is_none()
        {
            let zone = gazetteer.zone_at(place, latitude, longitude);
            put_zone(place, steps, zone);
        }
    }

    /// Coordinates by the names; gives how exactly the gazetteer knew them, if they are the gazetteer's. What it knows only
    /// by the area around goes on to the geocoder, where that comes first all of it, and stands until that answers.
    fn locate(&self, place: &mut Place, steps: &mut LookupSteps, renew: Option<Renew<'_>>) -> Option<Level> {
        let found = self.gazetteer.as_deref().and_then(|gazetteer| gazetteer.find(place));
        let geocoder = self.geocoder.as_deref();
        let asks = geocoder.is_some_and(Geocoder::comes_first) || found.is_none_or(|found| found.level < finest(place));
        if asks && let Some((latitude, longitude)) = geocoder.and_then(|geocoder| geocoder.point(place, renew)) {
            put_point(place, latitude, longitude, None);
            steps.coordinates = Some(LookupStep::Geocoder);
            return None;
        }
        let found = found?;
        put_point(place, found.latitude, found.longitude, found.accuracy_km);
        steps.coordinates = Some(LookupStep::Gazetteer);
        put_zone(place, steps, found.time_zone);
        Some(found.level)
    }
}

/// Countries of whose people fewer than 95 % have the same time zone, by the populations of GeoNames' cities of 2026: what holds
/// without a gazetteer.
const SEVERAL_ZONES: [&str; 24] = [
    "AQ", "AR", "AU", "BR", "CA", "CD", "CY", "FM", "ID", "KI", "KZ", "MH", "MN", "MX", "MY", "PG", "PS", "PT", "RU",
    "UA", "UM", "US", "UZ", "VN",
];

fn several_zones(country_code: &str) -> bool {
    SEVERAL_ZONES.contains(&country_code)
}

/// How exactly a place is named.
fn finest(place: &Place) -> Level {
    match (place.city_name.is_empty(), place.subdivision_name.is_empty()) {
        (false, _) => Level::City,
        (true, false) => Level::Subdivision,
        (true, true) => Level::Country,
    }
}

/// Both coordinates; `None` unless both are known.
fn point(place: &Place) -> Option<(f64, f64)> {
    place.latitude.zip(place.longitude)
}

/// The radius belongs to the point: a record's own says nothing about another one's.
fn put_point(place: &mut Place, latitude: f64, longitude: f64, accuracy_km: Option<i32>) {
    place.latitude = Some(latitude);
    place.longitude = Some(longitude);
    place.accuracy_km = accuracy_km;
}

fn put_zone(place: &mut Place, steps: &mut LookupSteps, zone: Option<&str>) {
    if place.time_zone.is_none()
        && let Some(zone) = zone
    {
        place.time_zone = Some(zone.to_owned());
        steps.time_zone = Some(LookupStep::Gazetteer);
    }
}

/// Value of the label `step` for what no step knew.
const NO_STEP: &str = "none";

/// A pipeline's counters: made once, so that counting a place is a few atomic additions.
pub struct ChainMetrics {
    /// By part, then by step, the last for none.
    counters: Vec<Vec<Counter>>,
}

impl ChainMetrics {
    /// Counters of one pipeline.
    pub fn new(pipeline: &str) -> Self {
        let counter = |part, step| {
            let own = Label::new("pipeline", pipeline.to_string());
            counter!(PLACE_PARTS, vec![own, Label::new("part", part), Label::new("step", step)])
        };
        let steps = || LookupStep::ALL.map(LookupStep::label).into_iter().chain([NO_STEP]);
        let parts = LookupSteps::default().parts();
        Self { counters: parts.iter().map(|(part, _)| steps().map(|step| counter(*part, step)).collect()).collect() }
    }

    /// Counts a place that was made ready.
    pub fn count(&self, steps: &LookupSteps) {
        for (counters, (_, given)) in self.counters.iter().zip(steps.parts()) {
            let index = LookupStep::ALL.iter().position(|step| Some(*step) == given).unwrap_or(LookupStep::ALL.len());
            if let Some(counter) = counters.get(index) {
                counter.increment(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
