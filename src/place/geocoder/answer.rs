//! Judges a geocoder's answer: it may be wrong, damaged, or from another server.

use std::time::Duration;

use serde::Deserialize;

/// Degrees north and east, within ±90 and ±180.
pub(super) type Point = (f64, f64);

/// Largest answer that is read, in bytes: one result has some thousand.
pub(super) const MOST_BYTES: usize = 256 << 10;

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Where the place is.
    Found(Point),
    /// The geocoder does not know the place.
    NotFound,
    /// It gave a point that cannot be this place's.
    Refused(&'static str),
    /// It gave something that is no answer.
    Unreadable(&'static str),
    /// It asked for a pause, of that length if it said one.
    RateLimited(Option<Duration>),
    /// It gave an error, or nothing: in words, and the pause it asked for.
    Failed(String, Option<Duration>),
}

impl Answer {
    /// Values of the metric's label.
    pub const LABELS: [&'static str; 6] = ["found", "not_found", "refused", "unreadable", "rate_limited", "failed"];

    /// Stable name for the metric's label, one of [`Answer::LABELS`].
    pub fn label(&self) -> &'static str {
        match self {
            Answer::Found(_) => "found",
            Answer::NotFound => "not_found",
            Answer::Refused(_) => "refused",
            Answer::Unreadable(_) => "unreadable",
            Answer::RateLimited(_) => "rate_limited",
            Answer::Failed(..) => "failed",
        }
    }
}

/// Of `format=jsonv2`, an array of these, what is used.
#[derive(Deserialize)]
struct Hit {
    lat: Degrees,
    lon: Degrees,
    #[serde(default)]
    address: Address,
}

/// Nominatim writes text, others numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Degrees {
    Number(f64),
    Text(String),
}

#[derive(Default, Deserialize)]
struct Address {
    #[serde(default)]
    country_code: String,
}

impl Degrees {
    /// Within ±`most`; `None` for NaN and for what is not a number.
    fn within(&self, most: f64) -> Option<f64> {
        let degrees = match self {
            Degrees::Number(number) => *number,
            Degrees::Text(text) => text.trim().parse().ok()?,
        };
        (-most..=most).contains(&degrees).then_some(degrees)
    }
}

/// Judges the body of a 200.
pub(super) fn judge(body: &[u8], country_code: &str) -> Answer {
    // serde_json's own words may quote the answer, which is a stranger's.
    let Ok(hits) = serde_json::from_slice::<Vec<Hit>>(body) else {
        return Answer::Unreadable("not the JSON of format=jsonv2");
    };
    let Some(hit) = hits.first() else { return Answer::NotFound };
    let (Some(latitude), Some(longitude)) = (hit.lat.within(90.0), hit.lon.within(180.0)) else {
        return Answer::Refused("coordinates that are none");
    };
    if !hit.address.country_code.eq_ignore_ascii_case(country_code) {
        return Answer::Refused("a place in another country, or without one");
    }
    Answer::Found((latitude, longitude))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Answer {
        judge(body.as_bytes(), "FR")
    }

    #[test]
    fn a_sound_answer_is_taken() {
        let paris = r#"[{"place_id":1,"lat":"48.8534951","lon":"2.3483915","display_name":"Paris","address":{"city":"Paris","country_code":"fr"}}]"#;
        assert_eq!(of(paris), Answer::Found((48.8534951, 2.3483915)));
        assert_eq!(of(r#"[{"lat":48.5,"lon":-2,"address":{"country_code":"FR"}}]"#), Answer::Found((48.5, -2.0)));
        assert_eq!(of("[]"), Answer::NotFound);
    }

    #[test]
    fn lies_are_refused() {
        for (lat, lon) in [
            (r#""90.1""#, r#""2""#),
            (r#""1""#, r#""-180.001""#),
            (r#""NaN""#, r#""2""#),
            (r#""1""#, r#""inf""#),
            (r#""north""#, r#""2""#),
            ("1e300", "2"),
        ] {
            let body = format!(r#"[{{"lat":{lat},"lon":{lon},"address":{{"country_code":"fr"}}}}]"#);
            assert!(matches!(of(&body), Answer::Refused("coordinates that are none")), "{body}");
        }
        for address in [r#","address":{"country_code":"de"}"#, r#","address":{}"#, ""] {
            let body = format!(r#"[{{"lat":"1","lon":"2"{address}}}]"#);
            assert!(matches!(of(&body), Answer::Refused("a place in another country, or without one")), "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_is_unreadable() {
        for body in
            ["", "{}", "null", "<html>log in</html>", r#"{"error":"busy"}"#, "[{}]", "[[]]", r#"[{"lat":"1"}]"#, "[{"]
        {
            assert!(matches!(of(body), Answer::Unreadable(_)), "{body}");
        }
        let deep = "[".repeat(200_000);
        assert!(matches!(of(&deep), Answer::Unreadable(_)));
    }
}
