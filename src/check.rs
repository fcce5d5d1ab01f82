//! To come.
/// Stub until the branch lands.
pub fn command(_: &crate::config::load::Sources, _: bool, _: bool) -> std::process::ExitCode { std::process::ExitCode::FAILURE }
