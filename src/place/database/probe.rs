//! Whether a database may take the place of another: sample addresses are asked of both.

use std::net::IpAddr;

use crate::place::{Lookup, Places};

/// Addresses asked, of each kind and file.
const SAMPLES: u64 = 1_000;
/// Of those that had an answer before, so many hundredths must have one still. Real editions differ by a few; a file for
/// the other IP version, a country file in the place of a city file, or an extract, have none or few.
const LEAST_PERCENT: u64 = 50;

/// What the sample addresses have.
#[derive(Default)]
struct Answers {
    countries: u64,
    cities: u64,
}

/// Refuses `new` where most addresses that `old` knows are unknown to it. Errors: in words, without any address.
pub(crate) fn compare(old: &Places, new: &Places) -> Result<(), String> {
    for kind in ["IPv4", "IPv6"] {
        let samples: Vec<IpAddr> = old.sample_addresses().filter(|ip| ip.is_ipv4() == (kind == "IPv4")).collect();
        let (before, after) = (answers(old, &samples)?, answers(new, &samples)?);
        for (what, before, after) in
            [("country", before.countries, after.countries), ("city", before.cities, after.cities)]
        {
            if after * 100 < before * LEAST_PERCENT {
                return Err(format!(
                    "of {before} sample {kind} addresses that have a {what} in the loaded databases, {after} have one with \
                     the new file, expected at least {LEAST_PERCENT} %; if it is meant, start pressline again"
                ));
            }
        }
    }
    Ok(())
}

fn answers(places: &Places, samples: &[IpAddr]) -> Result<Answers, String> {
    let mut answers = Answers::default();
    for ip in samples {
        if let Lookup::Found(key) = places.lookup_addr(*ip) {
            let place = places.raw_place(key).map_err(|error| error.to_string())?;
            answers.countries += u64::from(place.country_code != "--");
            answers.cities += u64::from(!place.city_name.is_empty());
        }
    }
    Ok(answers)
}

impl Places {
    /// Addresses with a record, the same ones every time, spread over the address space as the records are.
    fn sample_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.files.iter().flat_map(|file| (0..SAMPLES).flat_map(|number| file.sample_addresses(number)))
    }
}
