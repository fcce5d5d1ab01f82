//! What cannot be written with an address: each example must not compile, and beside each stands its twin with another
//! value in the address's place, which must, so that the first fails for the address and nothing else.
//!
//! An address is not printed:
//! ```compile_fail
//! let ip = pressline::place::ClientIp::parse("192.0.2.1").unwrap();
//! println!("{ip}");
//! ```
//! ```
//! let ip = "192.0.2.1".parse::<std::net::IpAddr>().unwrap();
//! println!("{ip}");
//! ```
//! ```compile_fail
//! let ip = pressline::place::ClientIp::parse("192.0.2.1");
//! println!("{ip:?}");
//! ```
//! ```
//! let session_id = pressline::pipeline::press::event::SessionId::parse("c0ffee00-abcd-4abc-8def-0123456789ab");
//! println!("{session_id:?}");
//! ```
//! Nor logged, nor is the press that it came with:
//! ```compile_fail
//! fn log(press: &pressline::pipeline::press::event::Press) {
//!     tracing::info!(press = ?press, "seen");
//! }
//! ```
//! ```
//! fn log(press: &pressline::pipeline::press::event::Press) {
//!     tracing::info!(press = ?press.body, "seen");
//! }
//! ```
//! Nor serialised:
//! ```compile_fail
//! let ip = pressline::place::ClientIp::parse("192.0.2.1").unwrap();
//! serde_json::to_string(&ip).unwrap();
//! ```
//! ```
//! let ip = "192.0.2.1".parse::<std::net::IpAddr>().unwrap();
//! serde_json::to_string(&ip).unwrap();
//! ```
//! Nor taken out, by field or by method:
//! ```compile_fail
//! fn take_out(ip: &pressline::place::ClientIp) -> std::net::IpAddr {
//!     ip.0
//! }
//! ```
//! ```compile_fail
//! fn take_out(ip: &pressline::place::ClientIp) -> std::net::IpAddr {
//!     ip.addr()
//! }
//! ```
//! ```
//! fn take_out(id: &pressline::pipeline::press::event::SessionId) -> &str {
//!     id.as_str()
//! }
//! ```
//! Nor kept as the key of a cache:
//! ```compile_fail
//! let ip = pressline::place::ClientIp::parse("192.0.2.1").unwrap();
//! std::collections::HashMap::new().insert(ip, 1);
//! ```
//! ```
//! let id = pressline::pipeline::press::event::SessionId::parse("c0ffee00-abcd-4abc-8def-0123456789ab").unwrap();
//! std::collections::HashMap::new().insert(id, 1);
//! ```
//! Nor copied:
//! ```compile_fail
//! fn twice(ip: &pressline::place::ClientIp) -> pressline::place::ClientIp {
//!     ip.clone()
//! }
//! ```
//! ```
//! use pressline::pipeline::press::event::PressBody;
//! fn twice(body: &PressBody) -> PressBody {
//!     body.clone()
//! }
//! ```
//! The encoder takes neither an address nor the press that holds one:
//! ```compile_fail
//! use pressline::pipeline::press::{encode::Encoder, event::Press};
//! fn write(encoder: &Encoder, press: &Press, out: &mut Vec<u8>) {
//!     encoder.encode(press, &[], out);
//! }
//! ```
//! ```
//! use pressline::pipeline::press::{encode::Encoder, event::Press};
//! fn write(encoder: &Encoder, press: &Press, out: &mut Vec<u8>) {
//!     encoder.encode(&press.body, &[], out);
//! }
//! ```
//! What is written has no field for it:
//! ```compile_fail
//! use pressline::pipeline::press::event::{ClientIp, PressBody};
//! fn hide(body: PressBody, ip: ClientIp) -> PressBody {
//!     PressBody { session_id: ip, ..body }
//! }
//! ```
//! ```
//! use pressline::pipeline::press::event::{PressBody, SessionId};
//! fn hide(body: PressBody, id: SessionId) -> PressBody {
//!     PressBody { session_id: id, ..body }
//! }
//! ```
//! The place of an event cannot name it:
//! ```compile_fail
//! use pressline::place::{ClientIp, Place};
//! fn hide(ip: ClientIp) -> Place {
//!     Place { city_name: ip.into(), ..Place::unknown() }
//! }
//! ```
//! ```
//! use pressline::place::Place;
//! fn hide(name: &str) -> Place {
//!     Place { city_name: name.into(), ..Place::unknown() }
//! }
//! ```
//! And a dead letter's words are all written in the program, none at run time:
//! ```compile_fail
//! use pressline::kafka::dead_letter::{Reason, Reject};
//! fn refuse(payload: &str) -> Reject {
//!     Reject::field(Reason::BadIp, "ip", payload)
//! }
//! ```
//! ```
//! use pressline::kafka::dead_letter::{Reason, Reject};
//! fn refuse() -> Reject {
//!     Reject::field(Reason::BadIp, "ip", "looks like a name")
//! }
//! ```
