//! The statistics of what this process has read.

use super::super::statistics::{COUNTRIES, Own, SamePlace, Statistics, place_name, shown_time};
use super::super::tally::Tally;

/// The numbers for a session.
pub fn ask(tally: &Tally, session: Option<&str>, now_ms: i64) -> Statistics {
    let own = session.and_then(|id| tally.of_session(id)).map(|seen| {
        let same = if seen.presses > 0 { tally.same_places(seen, now_ms) } else { Vec::new() };
        let place = |(name, hour, all): (String, u64, u64)| SamePlace { name: place_name(&name), hour, all };
        Own { since: shown_time(seen.first_ms), presses: seen.presses, places: same.into_iter().map(place).collect() }
    });
    Statistics {
        own,
        presses: tally.presses,
        generated: tally.generated,
        countries: tally.countries(COUNTRIES),
        hours: tally.hours().to_vec(),
    }
}
