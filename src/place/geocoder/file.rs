//! The geocoder's cache on disk: a line that names format and version, one JSON object an entry, and a last line with their
//! number and checksum. Written to a new file and renamed, so that there is always one whole file.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::memory::{Entry, Seconds};

/// First line.
const HEADER: &str = "pressline geocoder cache 1";

/// Largest file that is read: more than a million entries.
const MOST_BYTES: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    place: std::borrow::Cow<'a, str>,
    at: Seconds,
    point: Option<(f64, f64)>,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Last {
    entries: u64,
    fnv1a: String,
}

/// Why a file was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It cannot be read: left where it is.
    Unreadable(String),
    /// It is no cache of this version, or is damaged: moved to this path, if that was possible.
    MovedAside(String, Option<PathBuf>),
}

/// The entries of a file; none where there is no file yet. Errors: see [`Unusable`].
pub(super) fn load(path: &Path, now: Seconds) -> Result<Vec<(String, Entry)>, Unusable> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(metadata) if metadata.len() > MOST_BYTES => {
            return Err(aside(path, now, "larger than any such file".into()));
        }
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|error| Unusable::Unreadable(error.to_string()))?;
    parse(&bytes).map_err(|what| aside(path, now, what))
}

fn aside(path: &Path, now: Seconds, what: String) -> Unusable {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".refused-{now}"));
    let name = PathBuf::from(name);
    let moved = std::fs::rename(path, &name).is_ok().then_some(name);
    Unusable::MovedAside(what, moved)
}

fn parse(bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let Some(rest) = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')) else {
        return Err(format!("does not begin with `{HEADER}`: another version, or no such file"));
    };
    let whole = rest.strip_suffix('\n').ok_or("its end is missing")?;
    let (lines, last) = whole.rsplit_once('\n').unwrap_or(("", whole));
    let mut entries = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let entry = serde_json::from_str::<Line<'_>>(line).ok().filter(|line| line.point.is_none_or(is_on_earth));
        let entry = entry.ok_or_else(|| format!("line {} is no entry", index + 2))?;
        entries.push((entry.place.into_owned(), Entry { point: entry.point, at: entry.at }));
    }
    let found = serde_json::from_str::<Last>(last).map_err(|_| "its end is missing".to_owned())?;
    let body = rest.get(..rest.len() - last.len() - 1).unwrap_or_default();
    let expected = Last { entries: entries.len() as u64, fnv1a: checksum(body.as_bytes()) };
    if found == expected { Ok(entries) } else { Err("its checksum is wrong".to_owned()) }
}

fn is_on_earth((north, east): (f64, f64)) -> bool {
    (-90.0..=90.0).contains(&north) && (-180.0..=180.0).contains(&east)
}

/// Writes a file beside `path` and renames it. Errors: in words; the file at `path` is as it was.
pub(super) fn save<'a>(path: &Path, entries: impl Iterator<Item = (&'a str, &'a Entry)>) -> Result<(), String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = write(&beside, entries).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // A half-written file is useless.
        let _ = std::fs::remove_file(&beside);
        format!("{}: {error}", path.display())
    })
}

fn write<'a>(path: &Path, entries: impl Iterator<Item = (&'a str, &'a Entry)>) -> std::io::Result<()> {
    let mut body = Vec::new();
    let mut count = 0;
    for (place, entry) in entries {
        serde_json::to_writer(&mut body, &Line { place: place.into(), at: entry.at, point: entry.point })?;
        body.push(b'\n');
        count += 1;
    }
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "{HEADER}")?;
    out.write_all(&body)?;
    serde_json::to_writer(&mut out, &Last { entries: count, fnv1a: checksum(&body) })?;
    writeln!(out)?;
    // The rename must not reach the disk before the bytes.
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

/// FNV-1a, 64 bits: against a torn or edited file, not against an enemy, who could write a sound one.
fn checksum(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn entries() -> Vec<(String, Entry)> {
        vec![
            ("FR|ile de france|paris".into(), Entry { point: Some((48.8534951, 2.3483915)), at: 1_795_262_400 }),
            ("DE||\"quoted\\ \u{1F600}".into(), Entry { point: None, at: 7 }),
        ]
    }

    fn saved(folder: &Path) -> PathBuf {
        let path = folder.join("geocoder.cache");
        save(&path, entries().iter().map(|(key, entry)| (key.as_str(), entry))).unwrap();
        path
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        assert_eq!(load(&path, 0).unwrap(), entries());
        save(&path, std::iter::empty()).unwrap();
        assert_eq!(load(&path, 0).unwrap(), []);
        assert_eq!(load(&folder.path().join("absent"), 0).unwrap(), []);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// Who dies while saving leaves the old file whole: the new one is another file until it is renamed.
    #[test]
    fn the_old_file_is_never_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let (before, link) = (std::fs::read(&path).unwrap(), folder.path().join("link"));
        std::fs::hard_link(&path, &link).unwrap();
        save(&path, std::iter::empty()).unwrap();
        assert_ne!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read(&link).unwrap(), before);
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(checksum(b""), "cbf29ce484222325");
        assert_eq!(checksum(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_is_moved_aside_and_never_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let sound = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let moved = PathBuf::from(format!("{}.refused-42", path.display()));
            match load(&path, 42) {
                Err(Unusable::MovedAside(_, Some(to))) => {
                    assert_eq!((&to, path.exists()), (&moved, false));
                    assert_eq!(std::fs::read(&moved).unwrap(), bytes);
                    std::fs::remove_file(moved).unwrap();
                }
                other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
            }
        };
        for length in 0..sound.len() {
            refused(&sound[..length]);
        }
        for index in 0..sound.len() {
            for bit in [0x01, 0x20, 0x80] {
                let mut changed = sound.clone();
                changed[index] ^= bit;
                refused(&changed);
            }
        }
        let newer = String::from_utf8(sound).unwrap().replace("cache 1", "cache 2");
        refused(newer.as_bytes());
        refused(b"\0\0\0\0");
    }

    #[test]
    fn a_place_to_save_that_is_none_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("geocoder.cache");
        assert!(save(&path, std::iter::empty()).unwrap_err().contains("geocoder.cache: "));
        // A directory cannot be replaced by the rename.
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), "").unwrap();
        assert!(save(&path, std::iter::empty()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(load(&path, 0), Err(Unusable::Unreadable(_))));
    }
}
