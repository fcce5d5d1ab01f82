//! What a geocoder is asked: names of a place, never anything of who was there.

use reqwest::Url;

use super::super::Place;
use super::super::iso3166::fold;
use crate::config::GeocoderQuery;

/// Country, subdivision and city. Can hold no address, and is made of a [`Place`], which cannot either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    country_code: String,
    country_name: String,
    subdivision_name: String,
    city_name: String,
}

impl Question {
    /// What can be asked about a place; nothing without a country.
    pub(super) fn of(place: &Place) -> Option<Question> {
        (place.country_code != "--").then(|| Question {
            country_code: place.country_code.clone(),
            country_name: place.country_name.clone(),
            subdivision_name: place.subdivision_name.clone(),
            city_name: place.city_name.clone(),
        })
    }

    /// The same for the same place, however its names are written.
    pub(super) fn key(&self) -> String {
        format!("{}|{}|{}", self.country_code, fold(&self.subdivision_name), fold(&self.city_name))
    }

    /// ISO 3166-1 code, in capitals.
    pub(super) fn country_code(&self) -> &str {
        &self.country_code
    }

    /// The request: Nominatim's `/search`, one result, with its address.
    pub(super) fn url(&self, base: &Url, style: GeocoderQuery) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("search");
        }
        let country = if self.country_name.is_empty() { &self.country_code } else { &self.country_name };
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("format", "jsonv2").append_pair("limit", "1").append_pair("addressdetails", "1");
        pairs.append_pair("accept-language", "en");
        pairs.append_pair("countrycodes", &self.country_code.to_ascii_lowercase());
        match style {
            GeocoderQuery::Structured => {
                for (name, value) in
                    [("city", &self.city_name), ("state", &self.subdivision_name), ("country", country)]
                {
                    if !value.is_empty() {
                        pairs.append_pair(name, value);
                    }
                }
            }
            GeocoderQuery::Free => {
                let names = [self.city_name.as_str(), &self.subdivision_name, country];
                let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
                pairs.append_pair("q", &names.join(", "));
            }
        }
        drop(pairs);
        url
    }
}
