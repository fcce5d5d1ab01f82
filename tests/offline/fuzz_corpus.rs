//! The fuzz targets' checks (fuzz/checks.rs) on the committed corpus, where every input that ever broke one belongs.
//!
//! `PRESSLINE_WRITE_CORPUS=1 cargo test --release --test offline fuzz_corpus` rewrites the seeds of the corpus.

#[path = "../../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz_seeds/mod.rs"]
mod fuzz_seeds;

use std::path::{Path, PathBuf};

/// Largest file of the corpus, in bytes: mutating larger ones is slow and finds no more.
const LARGEST: usize = 8192;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn write(target: &str, seeds: Vec<(String, Vec<u8>)>) {
    std::fs::create_dir_all(corpus(target)).unwrap();
    for (name, bytes) in seeds.into_iter().filter(|(_, bytes)| bytes.len() <= LARGEST) {
        std::fs::write(corpus(target).join(name), bytes).unwrap();
    }
}

#[track_caller]
fn holds(target: &str, check: fn(&[u8]), seeds: fn() -> Vec<(String, Vec<u8>)>) {
    if std::env::var_os("PRESSLINE_WRITE_CORPUS").is_some() {
        write(target, seeds());
    }
    let mut files: Vec<_> = std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 3, "the corpus of {target} is missing");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() <= LARGEST, "{} is too large", file.display());
        // Captured output is shown with a failure: the last one named is it.
        println!("{}", file.display());
        check(&bytes);
    }
}

#[test]
fn any_record_is_accepted_or_refused_for_what_it_is() {
    holds("decode", checks::decode, fuzz_seeds::decode);
}

#[test]
fn any_text_of_a_time_is_read_as_jiff_reads_it() {
    holds("timestamp", checks::timestamp, fuzz_seeds::timestamp);
}

#[test]
fn any_text_of_an_address_is_looked_up_as_the_address_it_is() {
    holds("address", checks::address, fuzz_seeds::address);
}

#[test]
fn any_place_database_that_opens_is_sound() {
    holds("mmdb", checks::mmdb, fuzz_seeds::mmdb);
}

#[test]
fn any_datum_is_skipped_as_it_is_read() {
    holds("avro", checks::avro, fuzz_seeds::avro);
}
