//! The two ways mmdb files of places lay out a record.
//!
//! MaxMind's is nested (`country.iso_code`, `city.names.en`, `location.latitude`), and files from db-ip.com use it too; the
//! flat one of ip-location-db has `country_code`, `state1`, `state2`, `city`, `postcode`, `latitude`, `longitude`, `timezone`
//! side by side. IPinfo's is flat as well, with `region`, `region_code` and `radius`; in its older files `country` is the code,
//! and coordinates are `lat` and `lng`, or text.

use std::ops::ControlFlow;

use super::record::{Damage, Value};
use crate::place::Place;

/// How the records of a file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// MaxMind's: `country.iso_code`, `city.names.en`, `location.latitude` and so on.
    Nested,
    /// DB-IP's as ip-location-db packs it, and IPinfo's: `country_code`, `state1` or `region`, `city`, `latitude` side by side.
    Flat,
}

/// Recognises a record's layout; none if it is neither (or has nothing in it to tell).
pub(crate) fn recognise(record: &Value<'_>) -> Result<Option<Layout>, Damage> {
    if matches!(record.get("country_code")?, Value::Text(_)) {
        return Ok(Some(Layout::Flat));
    }
    // A country's code alone may be that of the network's owner.
    if country_code(&record.get("country")?) != "--" {
        for key in ["city", "region", "continent", "lat", "latitude"] {
            if !matches!(record.get(key)?, Value::Other) {
                return Ok(Some(Layout::Flat));
            }
        }
    }
    for key in ["country", "registered_country", "city", "location"] {
        if matches!(record.get(key)?, Value::Map(_)) {
            return Ok(Some(Layout::Nested));
        }
    }
    Ok(None)
}

/// The names of a record's fields, for saying what was found instead of a place.
pub(crate) fn fields(record: &Value<'_>) -> Vec<String> {
    let mut names = Vec::new();
    if let Value::Map(map) = record {
        // A record that cannot be read to its end has been refused before; its first names are enough here.
        let _ = map.each_entry(|name, _| {
            names.push(name.chars().filter(|c| !c.is_control()).take(40).collect());
            if names.len() < 8 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
    names
}

/// The place as the record has it, nothing completed.
pub(crate) fn place(record: &Value<'_>, layout: Layout) -> Result<Place, Damage> {
    match layout {
        Layout::Flat => flat(record),
        Layout::Nested => nested(record),
    }
}

fn flat(record: &Value<'_>) -> Result<Place, Damage> {
    let code = match record.get("country_code")? {
        Value::Other => record.get("country")?,
        code => code,
    };
    let country_code = country_code(&code);
    if country_code == "--" {
        return Ok(Place::unknown());
    }
    let (latitude, longitude) = point(&either(record, ["latitude", "lat"])?, &either(record, ["longitude", "lng"])?);
    Ok(Place {
        country_code,
        subdivision_name: either(record, ["state1", "region"])?.text().to_owned(),
        subdivision_code: record.get("region_code")?.text().to_owned(),
        city_name: record.get("city")?.text().to_owned(),
        latitude,
        longitude,
        accuracy_km: metres(&record.get("radius")?),
        time_zone: some_text(&record.get("timezone")?),
        ..Place::unknown()
    })
}

/// Latitude and longitude in degrees; one without the other says nothing.
fn point(latitude: &Value<'_>, longitude: &Value<'_>) -> (Option<f64>, Option<f64>) {
    degrees(latitude, 90.0).zip(degrees(longitude, 180.0)).unzip()
}

/// The first of two fields that is there.
fn either<'v>(record: &Value<'v>, keys: [&str; 2]) -> Result<Value<'v>, Damage> {
    let [first, second] = keys;
    match record.get(first)? {
        Value::Other => record.get(second),
        found => Ok(found),
    }
}

/// `registered_country` says who holds the network, not where it is: never used.
fn nested(record: &Value<'_>) -> Result<Place, Damage> {
    let country = record.get("country")?;
    let country_code = country_code(&country.get("iso_code")?);
    if country_code == "--" {
        // Known by its continent at most: GeoLite2 gives "Europe" the time and the coordinates of Liechtenstein.
        return Ok(Place { country_name: english_name(&country)?, ..Place::unknown() });
    }
    let subdivision = record.get("subdivisions")?.first()?;
    let location = record.get("location")?;
    let (latitude, longitude) = point(&location.get("latitude")?, &location.get("longitude")?);
    Ok(Place {
        country_name: english_name(&country)?,
        country_code,
        subdivision_name: english_name(&subdivision)?,
        subdivision_code: subdivision.get("iso_code")?.text().to_owned(),
        city_name: english_name(&record.get("city")?)?,
        latitude,
        longitude,
        accuracy_km: kilometres(&location.get("accuracy_radius")?),
        time_zone: some_text(&location.get("time_zone")?),
    })
}

fn english_name(part: &Value<'_>) -> Result<String, Damage> {
    Ok(part.get("names")?.get("en")?.text().to_owned())
}

/// Two letters in capitals; "--" for anything else and for ZZ, which DB-IP writes for unused addresses.
fn country_code(value: &Value<'_>) -> String {
    let code = value.text().to_ascii_uppercase();
    let is_code = code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()) && code != "ZZ";
    if is_code { code } else { "--".to_owned() }
}

/// Degrees within ±`most`; `None` for NaN and for anything else.
fn degrees(value: &Value<'_>, most: f64) -> Option<f64> {
    number(value).filter(|degrees| (-most..=most).contains(degrees))
}

/// A number, also one that is written as text.
fn number(value: &Value<'_>) -> Option<f64> {
    value.number().or_else(|| value.text().parse().ok())
}

fn metres(value: &Value<'_>) -> Option<i32> {
    number(value).filter(|metres| (0.0..=40_000_000.0).contains(metres)).map(|metres| (metres / 1_000.0).ceil() as i32)
}

fn kilometres(value: &Value<'_>) -> Option<i32> {
    value.number().filter(|km| (0.0..=40_000.0).contains(km)).map(|km| km as i32)
}

fn some_text(value: &Value<'_>) -> Option<String> {
    Some(value.text()).filter(|text| !text.is_empty()).map(str::to_owned)
}
