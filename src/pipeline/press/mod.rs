//! Button presses: the event, its decoder, the place lookup and the encoder.

pub mod decode;
pub mod encode;
pub mod enrich;
pub mod event;
