//! Where an address is: lookup in mmdb files, names completed from ISO 3166, ready-made fragments cached by record.
//!
//! [`Places::lookup`] runs once per event: it looks the full address up and gives a [`PlaceKey`], which names the record
//! found, not the address. Decoding ([`Places::place`]) runs once per record, and its result is kept in a [`FragmentCache`]
//! in the form the output wants. So no address outlives the lookup.

mod address;
mod aliases;
mod cache;
pub mod chain;
mod database;
mod gazetteer;
mod geocoder;
mod granularity;
mod iso3166;
mod lookup;
mod places;
pub mod reload;
mod report;

pub use address::ClientIp;
pub use cache::{CacheStats, FragmentCache};
pub use chain::Chain;
pub use database::count::Held;
pub use database::set::{DatabaseSet, ReloadEvent};
pub use database::{DatabaseInfo, Layout, PlaceError};
pub use gazetteer::{Gazetteer, GazetteerError, GazetteerFiles};
pub use geocoder::{Answer, Geocoder};
pub use granularity::Coarsening;
pub use lookup::{Lookup, Network, Place, PlaceKey};
pub use places::{BUNDLED, Places};
pub use report::{Report, Share};

#[cfg(test)]
mod tests;
