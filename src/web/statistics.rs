//! What `/stats` shows, wherever it was counted.

/// Rows of the table of countries.
pub const COUNTRIES: usize = 12;

/// Presses from one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SamePlace {
    /// Its name.
    pub name: String,
    /// In the last hour.
    pub hour: u64,
    /// In all.
    pub all: u64,
}

/// The visitor's own session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// When it began, UTC, for people.
    pub since: String,
    /// Presses that have come through.
    pub presses: u64,
    /// The places that it pressed from last, from the country to the city.
    pub places: Vec<SamePlace>,
}

/// Everything on the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// `None` where none of the session's events has come through yet.
    pub own: Option<Own>,
    /// All presses.
    pub presses: u64,
    /// Those of generated sessions among them.
    pub generated: u64,
    /// Countries with most presses.
    pub countries: Vec<(String, u64)>,
    /// By hour of the day where they were pressed.
    pub hours: Vec<u64>,
}

/// Milliseconds since the epoch as a time for people.
pub fn shown_time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).map(|time| time.strftime("%F %H:%M:%S UTC").to_string());
    time.unwrap_or_default()
}

/// The name of a place, or that there is none.
pub fn place_name(name: &str) -> String {
    if name.is_empty() { "place unknown".into() } else { name.into() }
}
