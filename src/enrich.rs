//! From an address to the ready-made Avro bytes of its place.

/// How the lookup of one record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupOutcome {
    /// The place was in the cache.
    Hit,
    /// The place was read from the database and put into the cache.
    Miss,
    /// The address is private, loopback or otherwise not of the public internet.
    Private,
    /// No database knows the address.
    NotFound,
    /// The record has no address.
    NoAddress,
    /// The database's record could not be read; the place is given as unknown.
    Failed,
}

impl LookupOutcome {
    /// Every outcome.
    pub const ALL: [LookupOutcome; 6] = [
        LookupOutcome::Hit,
        LookupOutcome::Miss,
        LookupOutcome::Private,
        LookupOutcome::NotFound,
        LookupOutcome::NoAddress,
        LookupOutcome::Failed,
    ];

    /// Stable name for the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            LookupOutcome::Hit => "hit",
            LookupOutcome::Miss => "miss",
            LookupOutcome::Private => "private",
            LookupOutcome::NotFound => "not_found",
            LookupOutcome::NoAddress => "no_address",
            LookupOutcome::Failed => "failed",
        }
    }
}
