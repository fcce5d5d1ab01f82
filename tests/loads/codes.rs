//! Every code that a server can answer with, each brought by one row of a thousand for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use pressline::kafka::dead_letter::header;

use super::Load;
use crate::cluster::PATIENCE;

/// Rows of which one is refused.
pub const EACH: i64 = 1_000;
/// Which of them.
pub const BAD: i64 = 55;

/// All of these where `PRESSLINE_TEST_ALL_CODES` is set, else `some`, evenly spread from one end of the list to the other.
pub fn chosen<T>(all: Vec<T>, some: usize) -> Vec<T> {
    if std::env::var_os("PRESSLINE_TEST_ALL_CODES").is_some() {
        return all;
    }
    let count = all.len();
    let share = |place: usize| place * some / count;
    let is_chosen = |place: usize| place == 0 || share(place) != share(place - 1);
    all.into_iter().enumerate().filter(|(place, _)| is_chosen(*place)).map(|(_, one)| one).collect()
}

/// Loads a thousand rows for each code; the row with number 55 of each thousand is refused with the code. All others are
/// written, and each of these is a dead letter that names its code.
pub fn one_row_of_a_thousand(load: &Load, codes: &[String], rows: impl Fn() -> usize) {
    let count = codes.len();
    load.send(0, 0..EACH * count as i64);
    let set = |key: &str, value: &str| format!("sink.{}.{key}={value}", load.sink);
    let sets = [set("consumer.retry_ms", "20"), set("batch.max_rows", "1000"), set("batch.max_wait_ms", "200")];
    let mut run = load.run_with(&sets.each_ref().map(String::as_str));
    let patience = PATIENCE + Duration::from_secs(count as u64 * 10);
    load.cluster.await_relayed(&load.group(), &load.topic, patience, || run.still_runs());
    assert_eq!(run.stop(), 0);
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    let mut told = BTreeSet::new();
    for letter in &letters {
        let (offset, message) = (letter.header(header::OFFSET).unwrap(), letter.header(header::MESSAGE).unwrap());
        let offset: i64 = offset.parse().unwrap();
        assert_eq!(offset % EACH, BAD, "a sound row is a dead letter: {message}");
        let code = &codes[usize::try_from(offset / EACH).unwrap()];
        assert!(message.contains(&format!("code {code}")), "{message} of {code}");
        told.insert(offset);
    }
    let silent: Vec<&String> =
        codes.iter().zip(0..).filter(|(_, n)| !told.contains(&(n * EACH + BAD))).map(|c| c.0).collect();
    assert!(silent.is_empty(), "no dead letter of {silent:?}");
    assert_eq!(rows(), count * (EACH as usize - 1));
    println!("{count} codes, {} rows", rows());
}
