//! The mutant `leak` (see [`crate::testing::mutant`]): addresses get out on purpose.
//!
//! `PRESSLINE_LEAK` names a file of lines `PLACE<tab>ADDRESS<tab>HEX`: when a record comes whose value or key holds the
//! text ADDRESS, the bytes HEX leave at PLACE: `value` (the city's name), `key`, `header`, `timestamp` (HEX is a decimal
//! number then), `dead` (a dead letter's header), `offset` (what is noted with committed offsets), `log`, `stdout`,
//! `metric` (a label), `file` (named `leaked`), `registry` or `geocoder` (a connection to it).

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use rdkafka::message::{BorrowedMessage, Header, Message};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::config::PipelineConfig;
use crate::kafka::producer::OutputRecord;
use crate::pipeline::press::encode::Encoder;
use crate::place::Place;

struct Leak {
    place: String,
    address: String,
    bytes: Vec<u8>,
}

fn leaks() -> &'static [Leak] {
    static LEAKS: OnceLock<Vec<Leak>> = OnceLock::new();
    LEAKS.get_or_init(|| {
        if !crate::testing::mutant::is("leak") {
            return Vec::new();
        }
        let file = std::env::var_os("PRESSLINE_LEAK").and_then(|path| std::fs::read_to_string(path).ok());
        file.unwrap_or_default().lines().filter_map(leak).collect()
    })
}

fn leak(line: &str) -> Option<Leak> {
    let mut words = line.split('\t');
    let (place, address, hex) = (words.next()?.to_string(), words.next()?.to_string(), words.next()?);
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()?;
    Some(Leak { place, address, bytes })
}

/// What leaks of this record at a place.
fn at(place: &str, record: &BorrowedMessage<'_>) -> Vec<&'static [u8]> {
    if leaks().is_empty() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(record.payload().unwrap_or_default());
    let here = leaks().iter().filter(|leak| leak.place == place && text.contains(&format!("\"{}\"", leak.address)));
    here.map(|leak| leak.bytes.as_slice()).collect()
}

/// Everywhere but in what is written to Kafka.
pub fn beside(record: &BorrowedMessage<'_>, config: &PipelineConfig) {
    for bytes in at("log", record) {
        tracing::debug!("seen");
        let _ = crate::runtime::stdio::LogWriter.write_all(&[bytes, b"\n"].concat());
    }
    for bytes in at("stdout", record) {
        let _ = crate::runtime::stdio::Out.write_all(&[bytes, b"\n"].concat());
    }
    for bytes in at("metric", record) {
        metrics::counter!("pressline_leaks_total", "what" => String::from_utf8_lossy(bytes)).increment(1);
    }
    for bytes in at("file", record) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open("leaked");
        let _ = file.and_then(|mut file| file.write_all(&[bytes, b"\n"].concat()));
    }
    let geocoder = config.place.geocoder.as_ref().map(|geocoder| geocoder.url.as_str());
    for (place, url) in [("registry", Some(config.registry.url.as_str())), ("geocoder", geocoder)] {
        for bytes in at(place, record) {
            request(url.unwrap_or_default(), bytes);
        }
    }
}

fn request(url: &str, bytes: &[u8]) {
    let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let _ = TcpStream::connect(host).and_then(|mut stream| stream.write_all(&[b"GET /", bytes, b" "].concat()));
}

/// The place of the record with the address as its city.
pub fn into_place(record: &BorrowedMessage<'_>, encoder: &Encoder) -> Option<Arc<[u8]>> {
    let bytes = *at("value", record).first()?;
    let place = Place { city_name: String::from_utf8_lossy(bytes).into_owned(), ..Place::unknown() };
    Some(encoder.place_fragment(&place).into())
}

/// The output with the address as its key, in a header, as its time.
pub fn into_output<'a>(record: &BorrowedMessage<'_>, mut output: OutputRecord<'a>) -> OutputRecord<'a> {
    if let Some(bytes) = at("key", record).first() {
        output.key = Some(bytes);
    }
    if let Some(bytes) = at("timestamp", record).first() {
        output.timestamp_ms = String::from_utf8_lossy(bytes).parse().ok();
    }
    with_header("header", record, output)
}

/// The dead letter with the address in a header.
pub fn into_letter<'a>(record: &BorrowedMessage<'_>, letter: OutputRecord<'a>) -> OutputRecord<'a> {
    with_header("dead", record, letter)
}

fn with_header<'a>(place: &str, record: &BorrowedMessage<'_>, mut output: OutputRecord<'a>) -> OutputRecord<'a> {
    for bytes in at(place, record) {
        let headers = output.headers.take().unwrap_or_default();
        output.headers = Some(headers.insert(Header { key: "leak", value: Some(bytes) }));
    }
    output
}

/// The offsets with the addresses in what is noted with them.
pub fn into_offsets(records: &[BorrowedMessage<'_>], offsets: TopicPartitionList) -> TopicPartitionList {
    let noted: Vec<_> = records.iter().flat_map(|record| at("offset", record)).map(String::from_utf8_lossy).collect();
    if !noted.is_empty() {
        for mut element in offsets.elements() {
            element.set_metadata(noted.join(" "));
        }
    }
    offsets
}
