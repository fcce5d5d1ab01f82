//! Names and codes of countries and subdivisions, by ISO 3166.
//!
//! Files give an English or local name for a subdivision, ISO 3166-2 mostly the local one. A code is given only where
//! the name determines it; where two subdivisions of the country could be meant, it gives no code.

use std::collections::HashMap;
use std::sync::OnceLock;

use rust_iso3166::iso3166_2::{self, Subdivision};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::Place;
use super::aliases;

/// Fills in what a record left out: the country's name by its code, the subdivision's code by its name or the other way.
/// What the record has stays.
pub(super) fn complete(mut place: Place) -> Place {
    if place.country_name.is_empty() {
        place.country_name = country_name(&place.country_code).to_owned();
    }
    if place.subdivision_code.is_empty() {
        place.subdivision_code = subdivision_code(&place.country_code, &place.subdivision_name).to_owned();
    } else if place.subdivision_name.is_empty() {
        place.subdivision_name = subdivision_name(&place.country_code, &place.subdivision_code).to_owned();
    }
    place
}

/// The English short name of a country as people say it; "" for a code ISO 3166-1 has not (XK for Kosovo excepted).
pub(super) fn country_name(code: &str) -> &'static str {
    aliases::COUNTRIES
        .iter()
        .find(|(own, _)| *own == code)
        .map(|(_, name)| *name)
        .or_else(|| rust_iso3166::from_alpha2(code).map(|country| country.name))
        .unwrap_or_default()
}

/// The name of a subdivision by its code without the country prefix; "" unknown.
pub(super) fn subdivision_name(country: &str, code: &str) -> &'static str {
    iso3166_2::from_code(&format!("{country}-{code}")).map(|subdivision| subdivision.name).unwrap_or_default()
}

/// The code of a subdivision, without the country prefix, where its name determines it; else "".
pub(super) fn subdivision_code(country: &str, name: &str) -> &'static str {
    let folded = fold(name);
    if folded.is_empty() {
        return "";
    }
    let Some(index) = index().get(country) else { return "" };
    index.code_of(&folded)
}

/// The subdivisions of a country by name: as folded, and stripped of words for their kind.
#[derive(Default)]
struct Index {
    /// First-level subdivisions by folded name, then all; and so for the stripped names.
    by_name: [HashMap<String, Candidate>; 2],
    by_stem: [HashMap<String, Candidate>; 2],
    /// By the root of an adjective; empty if the country's names are not adjectives.
    by_root: HashMap<String, Candidate>,
}

#[derive(Clone, Copy)]
enum Candidate {
    One(&'static str, PlaceKind),
    Several,
}

/// Cities and the regions around them often share a name.
#[derive(Clone, Copy, PartialEq)]
enum PlaceKind {
    City,
    Region,
}

fn index() -> &'static HashMap<&'static str, Index> {
    static INDEX: OnceLock<HashMap<&'static str, Index>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index: HashMap<&'static str, Index> = HashMap::new();
        for (country, subdivisions) in iso3166_2::SUBDIVISION_COUNTRY_MAP.entries() {
            let of_country = index.entry(country).or_default();
            for subdivision in subdivisions.iter() {
                of_country.add(subdivision);
            }
        }
        for (country, names) in aliases::SUBDIVISIONS {
            let of_country = index.entry(country).or_default();
            for (name, code) in names.split('|').filter_map(|alias| alias.split_once('=')) {
                of_country.by_name[0].insert(name.to_owned(), Candidate::One(code, PlaceKind::Region));
            }
        }
        index
    })
}

impl Index {
    fn add(&mut self, subdivision: &Subdivision) {
        let code = subdivision.region_code;
        let kind = kind_of_type(subdivision.subdivision_type);
        let second_level = aliases::SECOND_LEVEL.iter().any(|(country, types)| {
            *country == subdivision.country_code && types.contains(&subdivision.subdivision_type)
        });
        for name in alternatives(subdivision.name) {
            let folded = fold(name);
            let stem = strip(&folded).0;
            if aliases::ADJECTIVES.contains(&subdivision.country_code) {
                put(&mut self.by_root, root(&stem), code, kind);
            }
            let levels = if second_level { 1..2 } else { 0..2 };
            for level in levels {
                put(&mut self.by_name[level], folded.clone(), code, kind);
                put(&mut self.by_stem[level], stem.clone(), code, kind);
            }
        }
    }

    fn code_of(&self, folded: &str) -> &'static str {
        let (stem, said) = strip(folded);
        // Both ways within the first level before any within the second: Madrid is "Madrid, Comunidad de" before it is the
        // province in it.
        for (names, stems) in self.by_name.iter().zip(&self.by_stem) {
            match names.get(folded) {
                Some(Candidate::One(code, _)) => return code,
                Some(Candidate::Several) => return "",
                None => {}
            }
            match stems.get(&stem) {
                Some(Candidate::One(code, kind)) if said.is_none_or(|said| said == *kind) => return code,
                Some(_) => return "",
                None => {}
            }
        }
        match self.by_root.get(&root(&stem)) {
            Some(Candidate::One(code, kind)) if said.is_none_or(|said| said == *kind) => code,
            _ => "",
        }
    }
}

fn put(names: &mut HashMap<String, Candidate>, name: String, code: &'static str, kind: PlaceKind) {
    if name.is_empty() {
        return;
    }
    names
        .entry(name)
        .and_modify(|found| {
            if !matches!(found, Candidate::One(own, _) if *own == code) {
                *found = Candidate::Several;
            }
        })
        .or_insert(Candidate::One(code, kind));
}

/// The names in "Haute-Sangha / Mambéré-Kadéï" and "Guyane (française)", without what is in brackets.
fn alternatives(name: &str) -> impl Iterator<Item = &str> {
    let outside = name.split(['(', '[']).next().unwrap_or(name);
    let parts = if outside.contains(" / ") { outside.split(" / ") } else { outside.split("\n") };
    parts.map(str::trim)
}

fn kind_of_type(subdivision_type: &str) -> PlaceKind {
    let is_city = ["city", "City", "Capital", "unicipality", "Metropolitan administration"];
    if is_city.iter().any(|word| subdivision_type.contains(word)) { PlaceKind::City } else { PlaceKind::Region }
}

/// Lower case without accents, apostrophes and punctuation, words apart by one space: "Île-de-France" and "Ile de France"
/// become the same.
pub(super) fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            'ø' => folded.push('o'),
            'ł' => folded.push('l'),
            'đ' | 'ð' => folded.push('d'),
            'ı' => folded.push('i'),
            'ə' => folded.push('a'),
            'ħ' => folded.push('h'),
            // Apostrophes and the letters that stand for them in transcriptions, and what NFKD leaves of dotted capitals.
            '\'' | '’' | '‘' | '`' | '´' | 'ʻ' | 'ʼ' | 'ʹ' | 'ʾ' | 'ʿ' => {}
            c if c.is_alphanumeric() => folded.push(c),
            _ if !folded.is_empty() && !folded.ends_with(' ') => folded.push(' '),
            _ => {}
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// A folded name without the words for what it is and without spaces, and whether those words said city or region.
fn strip(folded: &str) -> (String, Option<PlaceKind>) {
    let mut said = None;
    let mut stem = String::with_capacity(folded.len());
    for word in folded.split(' ') {
        if aliases::CITY_WORDS.contains(&word) {
            said = Some(PlaceKind::City);
        } else if aliases::REGION_WORDS.contains(&word) {
            said = Some(PlaceKind::Region);
        } else if !aliases::SMALL_WORDS.contains(&word) {
            stem.push_str(word);
        }
    }
    (stem, said)
}

/// What a place's name and its adjective share: "samar" of Samara and Samarskaya, "om" of Omsk and Omskaya.
fn root(stem: &str) -> String {
    let endings = ["skaya", "skiy", "sky", "ska", "sk", "s"];
    let root = endings.iter().find_map(|ending| stem.strip_suffix(ending)).unwrap_or(stem);
    root.trim_end_matches(['a', 'e', 'i', 'o', 'u', 'y']).to_owned()
}

#[cfg(test)]
mod tests;
