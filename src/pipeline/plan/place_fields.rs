//! The fields of a place as one fragment: where each begins, then their Avro bytes one behind the other. Made once for each
//! record of a database.

use crate::avro::Shape;
use crate::avro::format::datum;
use crate::config::transforms::PLACE_FIELDS;
use crate::pipeline::press::enrich::Fragments;
use crate::place::Place;

/// Fields of a place.
pub const COUNT: usize = PLACE_FIELDS.len();
/// In front of the fields stands where each ends, two bytes each.
const ENDS: usize = 2 * COUNT;

/// Makes the fragments.
pub struct PlaceFields;

impl Fragments for PlaceFields {
    fn place_fragment(&self, place: &Place) -> Box<[u8]> {
        let mut out = vec![0; ENDS];
        for field in 0..COUNT {
            match field {
                0 => datum::bytes(place.country_name.as_bytes(), &mut out),
                1 => datum::bytes(place.country_code.as_bytes(), &mut out),
                2 => datum::bytes(place.subdivision_name.as_bytes(), &mut out),
                3 => datum::bytes(place.subdivision_code.as_bytes(), &mut out),
                4 => datum::bytes(place.city_name.as_bytes(), &mut out),
                5 => some(place.latitude, &mut out, |degrees, out| out.extend_from_slice(&degrees.to_le_bytes())),
                6 => some(place.longitude, &mut out, |degrees, out| out.extend_from_slice(&degrees.to_le_bytes())),
                7 => some(place.accuracy_km, &mut out, |km, out| datum::long(i64::from(km), out)),
                _ => some(place.time_zone.as_deref(), &mut out, |zone, out| datum::bytes(zone.as_bytes(), out)),
            }
            // Names in databases are far shorter than 64 KB in all: a longer place is left empty.
            let Ok(end) = u16::try_from(out.len()) else { return self.place_fragment(&Place::unknown()) };
            out[2 * field..2 * field + 2].copy_from_slice(&end.to_le_bytes());
        }
        out.into_boxed_slice()
    }
}

fn some<T>(value: Option<T>, out: &mut Vec<u8>, put: impl FnOnce(T, &mut Vec<u8>)) {
    out.push(if value.is_some() { 2 } else { 0 });
    if let Some(value) = value {
        put(value, out);
    }
}

/// The type of a field of a place.
pub fn shape(field: usize) -> Shape {
    let optional = |some: Shape| Shape::Optional { null_first: true, some: Box::new(some) };
    match field {
        0..=4 => Shape::String,
        5 | 6 => optional(Shape::Double),
        7 => optional(Shape::Int),
        _ => optional(Shape::String),
    }
}

/// The bytes of the fields from `first` to `last` of a fragment.
#[inline]
pub fn slice(fragment: &[u8], first: usize, last: usize) -> &[u8] {
    let end = |field: usize| {
        let bytes = fragment.get(2 * field..2 * field + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, |bytes| usize::from(u16::from_le_bytes(bytes)))
    };
    let start = if first == 0 { ENDS } else { end(first - 1) };
    fragment.get(start..end(last)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::avro::Cursor;

    #[test]
    fn each_field_is_found_and_is_of_its_type() {
        let place =
            Place { city_name: "Helsinki".into(), latitude: Some(60.2), accuracy_km: Some(20), ..Place::unknown() };
        let fragment = PlaceFields.place_fragment(&place);
        let mut whole = Cursor::new(slice(&fragment, 0, COUNT - 1));
        for field in 0..COUNT {
            let mut cursor = Cursor::new(slice(&fragment, field, field));
            cursor.skip(&shape(field)).unwrap();
            cursor.finish().unwrap();
            whole.skip(&shape(field)).unwrap();
        }
        whole.finish().unwrap();
        assert_eq!(Cursor::new(slice(&fragment, 4, 4)).text(), Ok("Helsinki"));
        assert_eq!(slice(&fragment, 6, 6), [0], "no longitude");
    }
}
