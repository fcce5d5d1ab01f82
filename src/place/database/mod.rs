//! One mmdb file in memory: read, verified, recognised, searched, decoded.

pub mod count;
pub mod layout;
pub mod networks;
pub mod prefixes;
pub mod probe;
pub mod ranges;
pub mod record;
pub mod set;
pub mod tree;

use std::net::IpAddr;
use std::path::Path;

use maxminddb::{Metadata, Reader};

use super::Place;
use crate::place::address::tunnel;
use crate::place::database::count::Counts;
use crate::place::database::networks::{Leaf, Networks};
use crate::place::database::record::{Damage, Value};
use crate::place::database::tree::{SEPARATOR, Tree};
pub use layout::Layout;

/// What is known about a loaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// File name without folders.
    pub file: String,
    /// What the file says it is ("GeoLite2-City").
    pub database_type: String,
    /// How its records are laid out.
    pub layout: Layout,
    /// Networks of IPv4 addresses; 0: the file is not asked for any.
    pub networks_v4: u64,
    /// Networks of IPv6 addresses; 0: the file is not asked for any.
    pub networks_v6: u64,
    /// When it was built, seconds since the epoch, by its own metadata.
    pub build_epoch: u64,
    /// Nodes of the search tree.
    pub nodes: u32,
    /// Distinct records.
    pub records: u64,
    /// Credit to show where results are shown; empty where the maker is not known.
    pub attribution: &'static str,
}

/// Why places cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The file is not there or cannot be read.
    #[error("{file}: cannot be read: {source}; name an mmdb file that is there and readable")]
    Read {
        /// Path as configured.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is something else, or its end is missing.
    #[error(
        "{file}: not a MaxMind DB file (no metadata marker): found {found}, expected an .mmdb file of places, whole; \
         name another file or download it again"
    )]
    NotMmdb {
        /// Path as configured.
        file: String,
        /// Kind and size of what is there.
        found: String,
    },
    /// The file is an mmdb and is damaged.
    #[error("{file}: damaged MaxMind DB file: {what}; download it again")]
    Damaged {
        /// Path as configured.
        file: String,
        /// What is wrong, with an offset in the file where one is known.
        what: String,
    },
    /// The file is a whole mmdb and has no places.
    #[error(
        "{file}: MaxMind DB file of type {database_type:?} whose records are not places: found {found}, expected fields \
         country.iso_code (MaxMind's layout) or country_code (the flat layout of DB-IP and IPinfo); name a country or city database"
    )]
    UnknownLayout {
        /// Path as configured.
        file: String,
        /// What the file says it is.
        database_type: String,
        /// The fields its first record has.
        found: String,
    },
    /// None or too many files.
    #[error("{found} mmdb files, expected 1 to {most}; name at least one mmdb file")]
    FileCount {
        /// How many were named.
        found: usize,
        /// How many can be loaded.
        most: usize,
    },
    /// The addresses of cities were not counted when the file was opened.
    #[error("{file}: the addresses of its cities were not counted; open it counted")]
    NotCounted {
        /// Path as configured.
        file: String,
    },
    /// A key was kept over a change of databases.
    #[error("a record's key is of database generation {found}, loaded is {expected}; look the address up again")]
    StaleKey {
        /// Generation of the key.
        found: u32,
        /// Generation of the snapshot asked.
        expected: u32,
    },
}

/// One loaded file. Everything in it has been read once, so that no lookup meets a damaged record.
pub(super) struct Database {
    path: String,
    networks: Networks,
    /// The data section: what is kept of the file itself.
    section: Box<[u8]>,
    /// Where the data section began in the file.
    data: usize,
    info: DatabaseInfo,
    /// Addresses of its cities, where they were counted.
    counts: Option<Counts>,
}

/// Stands between the data section and the metadata.
const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// Values in one record that are still believed: MaxMind's Enterprise records have under 200 with all languages.
const MAX_VALUES: u32 = 10_000;

/// Values in all records for each byte of the data section that are still believed: MaxMind's records share most of theirs, and
/// have under 10 for each byte. So a small file that says it is a huge one is left in time.
const MAX_VALUES_PER_BYTE: u64 = 64;

/// Distinct records looked at to recognise the layout; some have nothing but a continent in them.
const PROBES: u64 = 1_000;

impl Database {
    /// Reads a file whole and verifies it; counts its cities' addresses too, if `counted`.
    pub(super) fn open(path: &Path, counted: bool) -> Result<Database, PlaceError> {
        let bytes =
            std::fs::read(path).map_err(|source| PlaceError::Read { file: path.display().to_string(), source })?;
        let mut database = Database::from_bytes(path, bytes)?;
        if counted {
            database.count()?;
        }
        Ok(database)
    }

    /// Verifies what is in memory; `path` is its name in errors.
    pub(super) fn from_bytes(path: &Path, mut bytes: Vec<u8>) -> Result<Database, PlaceError> {
        let file = path.display().to_string();
        if is_tar(&bytes) {
            return Err(PlaceError::NotMmdb { file, found: kind_of(&bytes) });
        }
        let Some(marker) = bytes.windows(METADATA_MARKER.len()).rposition(|window| window == METADATA_MARKER) else {
            return Err(PlaceError::NotMmdb { file, found: kind_of(&bytes) });
        };
        let metadata = match Reader::from_source(&bytes) {
            Ok(reader) => reader.metadata().clone(),
            Err(error) => return Err(PlaceError::Damaged { file, what: error.to_string() }),
        };
        // from_source has checked that the data section lies between the tree and the marker.
        let data = metadata.node_count as usize * usize::from(metadata.record_size) / 4 + SEPARATOR as usize;
        let Some(section) = bytes.get(data..marker) else {
            return Err(PlaceError::Damaged { file, what: "the search tree runs into the metadata".to_owned() });
        };
        let tree = Tree::new(&bytes, &metadata);
        let (survey, networks) = survey(&tree, section)
            .and_then(|survey| Networks::of(&tree).map(|networks| (survey, networks)))
            .map_err(|damage| PlaceError::Damaged { file: file.clone(), what: damage.in_words(data) })?;
        let info = info(path, &metadata, survey, &networks)?;
        // The tree is needed no more, and neither is the memory it took.
        bytes.truncate(marker);
        bytes.drain(..data);
        Ok(Database { path: file, networks, section: bytes.into(), data, info, counts: None })
    }

    pub(super) fn info(&self) -> &DatabaseInfo {
        &self.info
    }

    /// The offset of an address's record in the data section. A file without networks of the address's version is not
    /// asked: an IPv6 file would answer for an IPv4 address with whatever it has at the beginning of its space.
    #[inline]
    pub(super) fn find(&self, ip: IpAddr) -> Option<u32> {
        self.networks.find(ip)
    }

    /// The place as the record at an offset has it.
    pub(super) fn decode(&self, offset: usize) -> Result<Place, PlaceError> {
        self.raw(offset).map_err(|damage| self.damaged(&damage))
    }

    /// The same, for what walks the whole file.
    pub(super) fn raw(&self, offset: usize) -> Result<Place, Damage> {
        layout::place(&record::value_at(&self.section, offset)?, self.info.layout)
    }

    pub(super) fn damaged(&self, damage: &Damage) -> PlaceError {
        PlaceError::Damaged { file: self.path.clone(), what: damage.in_words(self.data) }
    }

    /// Counts the addresses of its cities, which takes about as long as verifying it.
    pub(super) fn count(&mut self) -> Result<(), PlaceError> {
        self.counts = Some(
            Counts::of(|visit| self.each_leaf(visit), |offset| self.raw(offset))
                .map_err(|damage| self.damaged(&damage))?,
        );
        Ok(())
    }

    /// None where they were not counted.
    pub(super) fn counts(&self) -> Option<&Counts> {
        self.counts.as_ref()
    }

    /// Visits every network that can be public and has a record, IPv4 first.
    pub(super) fn each_leaf(&self, mut visit: impl FnMut(&Leaf) -> Result<(), Damage>) -> Result<(), Damage> {
        self.networks.leaves().filter(|leaf| tunnel::is_looked_up(leaf.addr())).try_for_each(|leaf| visit(&leaf))
    }

    /// An IPv4 and an IPv6 address that have a record, where the file has some: others for each number.
    pub(super) fn sample_addresses(&self, number: u64) -> impl Iterator<Item = IpAddr> {
        // The golden ratio: numbers one after the other lead far apart, and evenly.
        self.networks.any((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// First address, prefix length and record offset of every network, in order.
    pub(super) fn networks(&self) -> impl Iterator<Item = (IpAddr, u8, u32)> + '_ {
        self.networks.leaves().map(|leaf| (leaf.addr(), leaf.prefix_len, leaf.offset))
    }
}

impl Damage {
    /// `data` is where the data section begins in the file.
    fn in_words(&self, data: usize) -> String {
        format!("{} at byte {}", self.what, data.saturating_add(self.offset))
    }
}

/// What a walk over the whole file found.
#[derive(Default)]
struct Survey {
    layout: Option<Layout>,
    /// In words, where no layout was recognised.
    found_instead: String,
    records: u64,
    /// Values read, those that records share counted for each.
    values: u64,
}

/// Reads every node and every record once, in the order of the file, which takes a fraction of walking the tree. The
/// crate's own `verify` walks, and would refuse DB-IP's files for their empty description.
fn survey(tree: &Tree<'_>, section: &[u8]) -> Result<Survey, Damage> {
    let mut survey = Survey::default();
    let mut seen = vec![0u64; section.len() / 64 + 1];
    for node in 0..tree.nodes {
        for side in 0..2 {
            let child = tree.child(node, side);
            let Some(pointer) = child.checked_sub(tree.nodes).filter(|pointer| *pointer > 0) else { continue };
            let offset = (pointer as usize).checked_sub(SEPARATOR as usize).filter(|offset| *offset < section.len());
            let Some(offset) = offset else {
                return Err(Damage { offset: 0, what: "a search tree that points outside the data, which begins" });
            };
            let bit = 1u64 << (offset % 64);
            if seen[offset / 64] & bit == 0 {
                seen[offset / 64] |= bit;
                survey.add_record(record::value_at(section, offset)?)?;
                if survey.values > MAX_VALUES_PER_BYTE * section.len() as u64 {
                    return Err(Damage {
                        offset,
                        what: "records of more values than the file can mean, up to the one",
                    });
                }
            }
        }
    }
    if survey.records == 0 {
        survey.found_instead = "no record at all".to_owned();
    }
    Ok(survey)
}

impl Survey {
    fn add_record(&mut self, record: Value<'_>) -> Result<(), Damage> {
        self.records += 1;
        let mut budget = MAX_VALUES;
        record.verify(&mut budget)?;
        self.values += u64::from(MAX_VALUES - budget);
        if self.layout.is_some() || self.records > PROBES {
            return Ok(());
        }
        self.layout = layout::recognise(&record)?;
        if self.layout.is_none() && self.found_instead.is_empty() {
            let fields = layout::fields(&record);
            self.found_instead = match record {
                Value::Map(_) if fields.is_empty() => "records without fields".to_owned(),
                Value::Map(_) => format!("fields {}", fields.join(", ")),
                _ => "records that are no maps".to_owned(),
            };
        }
        Ok(())
    }
}

/// What is known about a file now. Errors: its records are no places.
fn info(path: &Path, metadata: &Metadata, survey: Survey, networks: &Networks) -> Result<DatabaseInfo, PlaceError> {
    let file = path.display().to_string();
    let database_type = metadata.database_type.clone();
    let type_says = database_type.to_ascii_lowercase();
    if type_says.contains("ipinfo") && type_says.contains("places") {
        // Hotels, airports and their networks: a country code stands in its records, too.
        let found = "venues, which an address may belong to wherever it is used".to_owned();
        return Err(PlaceError::UnknownLayout { file, database_type, found });
    }
    let Some(layout) = survey.layout else {
        return Err(PlaceError::UnknownLayout { file, database_type, found: survey.found_instead });
    };
    let name = path.file_name().map_or(file, |name| name.to_string_lossy().into_owned());
    Ok(DatabaseInfo {
        attribution: attribution(metadata, &name),
        file: name,
        database_type,
        layout,
        networks_v4: networks.count_v4(),
        networks_v6: networks.count_v6(),
        build_epoch: metadata.build_epoch,
        nodes: metadata.node_count,
        records: survey.records,
    })
}

/// What a file is that has no metadata marker.
fn kind_of(bytes: &[u8]) -> String {
    let kind = match bytes {
        [] => return "an empty file".to_owned(),
        _ if is_tar(bytes) => "a tar archive (unpack it first: tar xf)",
        [0x1f, 0x8b, ..] => "gzip-compressed data (unpack it first: gunzip, or tar xzf for a .tar.gz)",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz-compressed data (unpack it first: unxz, or tar xJf for a .tar.xz)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd-compressed data (unpack it first: unzstd)",
        [b'B', b'Z', b'h', ..] => "bzip2-compressed data (unpack it first: bunzip2)",
        [b'P', b'K', 3, 4, ..] => "a zip archive (unpack it first: unzip)",
        _ if bytes.iter().take(1024).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => "text",
        _ => "other data, or an mmdb file cut off",
    };
    format!("{kind}, {} bytes", bytes.len())
}

/// A tar archive holds its files as they are, with their metadata marker.
fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar".as_slice())
}

/// The credit that the maker's licence asks for; "" where nothing says who made the file. ip-location-db packs the data of
/// several makers under types such as "city ipv4", and then the file name says whose they are, unless it was changed. A wrong
/// credit is worse than none: layouts tell nothing.
fn attribution(metadata: &Metadata, file: &str) -> &'static str {
    let descriptions = metadata.description.values().map(String::as_str);
    std::iter::once(metadata.database_type.as_str())
        .chain(descriptions)
        .chain([file])
        .find_map(credit)
        .unwrap_or_default()
}

/// The credit of the maker that a text names.
fn credit(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let says = |word: &str| text.contains(word);
    if says("ipinfo") {
        Some("IP address data powered by IPinfo (https://ipinfo.io), IPinfo Lite under CC BY-SA 4.0")
    } else if says("geolite2") {
        Some("This product includes GeoLite2 data created by MaxMind, available from https://www.maxmind.com")
    } else if says("geoip2") {
        Some("This product includes GeoIP2 data created by MaxMind, available from https://www.maxmind.com")
    } else if says("dbip") || says("db-ip") {
        Some("IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0")
    } else {
        None
    }
}
