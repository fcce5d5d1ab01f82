//! The databases of a pipeline, asked one after the other.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::place::address::ClientIp;
use crate::place::database::count::{Held, NameKey};
use crate::place::database::{Database, DatabaseInfo, PlaceError};
use crate::place::lookup::{GENERATION_MASK, Lookup, Network, Place, PlaceKey};

/// The bundled database of some thousand real cities: an extract of DB-IP's City Lite (CC BY 4.0, see data/README.md).
/// A static, so that it stands in the program once.
pub static BUNDLED: &[u8] = include_bytes!("../../data/demo.mmdb");

/// The index of a file has eight bits in a key.
const MAX_FILES: usize = 256;

/// Every set of files opened in this process gets the next number, so that a key of a replaced set is never mistaken for
/// one of the new set.
static NEXT_GENERATION: AtomicU32 = AtomicU32::new(1);

/// All loaded databases, an immutable snapshot. The first file that has an answer wins.
pub struct Places {
    generation: u32,
    pub(super) files: Vec<Arc<Database>>,
}

impl Places {
    /// Reads and verifies mmdb files, in order of precedence. Each is read whole, never mapped: a mapped file that is
    /// replaced in place kills the process.
    ///
    /// Errors: no file or more than 256; a file that cannot be read, is no mmdb, is damaged anywhere, or has a layout
    /// that is neither MaxMind's nor DB-IP's.
    pub fn open(files: &[PathBuf]) -> Result<Places, PlaceError> {
        Places::of(files.iter().map(|path| Database::open(path, false)))
    }

    /// The same, and counts the addresses of every city and subdivision, for [`crate::place::Coarsening::reduce`].
    ///
    /// Errors: as for [`Places::open`].
    pub fn open_counted(files: &[PathBuf]) -> Result<Places, PlaceError> {
        Places::of(files.iter().map(|path| Database::open(path, true)))
    }

    /// Verifies a file that is in memory already, such as the bundled one; `name` is what errors call it.
    ///
    /// Errors: as for [`Places::open`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Places, PlaceError> {
        Places::of(std::iter::once(Database::from_bytes(Path::new(name), bytes)))
    }

    /// The same, and counts the addresses of every city and subdivision.
    ///
    /// Errors: as for [`Places::open`].
    pub fn from_bytes_counted(name: &str, bytes: Vec<u8>) -> Result<Places, PlaceError> {
        let mut database = Database::from_bytes(Path::new(name), bytes)?;
        database.count()?;
        Places::of(std::iter::once(Ok(database)))
    }

    fn of(files: impl ExactSizeIterator<Item = Result<Database, PlaceError>>) -> Result<Places, PlaceError> {
        if files.len() == 0 || files.len() > MAX_FILES {
            return Err(PlaceError::FileCount { found: files.len(), most: MAX_FILES });
        }
        Ok(Places::next(files.map(|file| file.map(Arc::new)).collect::<Result<Vec<_>, _>>()?))
    }

    fn next(files: Vec<Arc<Database>>) -> Places {
        Places { generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed) & GENERATION_MASK, files }
    }

    /// The same databases with another one in the place of the file at `index`; the others are shared.
    pub(super) fn with(&self, index: usize, database: Database) -> Places {
        let mut files = self.files.clone();
        if let Some(file) = files.get_mut(index) {
            *file = Arc::new(database);
        }
        Places::next(files)
    }

    /// Tells snapshots apart: another number, other databases.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Looks a visitor's address up. This is the only thing that is done with it.
    #[inline]
    pub fn lookup(&self, ip: &ClientIp) -> Lookup {
        self.lookup_addr(ip.addr())
    }

    /// Looks an address up, with all its bits; an IPv6 address that stands for an IPv4 one, such as `::ffff:a.b.c.d`, as that.
    /// Allocates and decodes nothing.
    #[inline]
    pub fn lookup_addr(&self, ip: IpAddr) -> Lookup {
        let ip = super::address::tunnel::inner(ip);
        if super::address::private::is_private(ip) {
            return Lookup::Private;
        }
        for (index, file) in self.files.iter().enumerate() {
            if let Some(offset) = file.find(ip) {
                return Lookup::Found(PlaceKey::new(self.generation, index as u8, offset));
            }
        }
        Lookup::Unknown
    }

    /// Decodes a record and completes its names and codes from ISO 3166. Cold: callers keep the result by its key.
    ///
    /// Errors: a key of another snapshot, or a record that cannot be read (which opening would have found).
    pub fn place(&self, key: PlaceKey) -> Result<Place, PlaceError> {
        Ok(super::iso3166::complete(self.raw_place(key)?))
    }

    /// Decodes a record and completes nothing.
    ///
    /// Errors: as for [`Places::place`].
    pub fn raw_place(&self, key: PlaceKey) -> Result<Place, PlaceError> {
        self.file_of(key)?.decode(key.offset())
    }

    fn file_of(&self, key: PlaceKey) -> Result<&Database, PlaceError> {
        let stale = PlaceError::StaleKey { found: key.generation(), expected: self.generation };
        if key.generation() != self.generation {
            return Err(stale);
        }
        self.files.get(key.file()).map(Arc::as_ref).ok_or(stale)
    }

    /// Addresses of the city and of the subdivision of a record, by their names, in all files; of each kind the most that
    /// any file has.
    ///
    /// Errors: as for [`Places::place`]; files that were opened without counting.
    pub fn held(&self, key: PlaceKey) -> Result<(Held, Held), PlaceError> {
        let place = self.raw_place(key)?;
        let (city, subdivision) = (NameKey::city(&place), NameKey::subdivision(&place));
        let mut held = (Held::default(), Held::default());
        for file in &self.files {
            let counts = file.counts().ok_or_else(|| PlaceError::NotCounted { file: file.info().file.clone() })?;
            held = (held.0.most(counts.held(city)), held.1.most(counts.held(subdivision)));
        }
        Ok(held)
    }

    /// When the database that a key's record stands in was built, seconds since the epoch.
    pub fn build_epoch(&self, key: PlaceKey) -> Option<u64> {
        Some(self.files.get(key.file())?.info().build_epoch)
    }

    /// Name of the file that a key's record stands in.
    pub fn file_name(&self, key: PlaceKey) -> Option<&str> {
        Some(&self.files.get(key.file())?.info().file)
    }

    /// What is loaded, in order of precedence.
    pub fn databases(&self) -> Vec<DatabaseInfo> {
        self.files.iter().map(|file| file.info().clone()).collect()
    }

    /// Every network that has a record and can be public, file by file, in order of address. Of a network that an earlier
    /// file answers for, the later file's record is given all the same. Millions of networks in a full database; see
    /// [`Places::sample_networks`].
    pub fn networks(&self) -> impl Iterator<Item = Network> + '_ {
        self.files.iter().enumerate().flat_map(move |(index, file)| {
            file.networks().filter(|(addr, _, _)| super::address::tunnel::is_looked_up(*addr)).map(
                move |(addr, prefix_len, offset)| Network {
                    addr,
                    prefix_len,
                    key: PlaceKey::new(self.generation, index as u8, offset),
                },
            )
        })
    }

    /// At most `most` networks spread evenly over those of [`Places::networks`]; the same ones every time for the same
    /// files. IPv4 and IPv6 come in the shares the files have.
    pub fn sample_networks(&self, most: usize) -> Vec<Network> {
        if most == 0 {
            return Vec::new();
        }
        let total: u64 = self.files.iter().map(|file| file.info().networks_v4 + file.info().networks_v6).sum();
        let step = usize::try_from(total.div_ceil(most as u64)).unwrap_or(usize::MAX).max(1);
        self.networks().step_by(step).take(most).collect()
    }
}
