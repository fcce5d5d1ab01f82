//! Fail points and mutants: one line each in production files, compiled away in a release.

pub mod fail_point;
pub mod mutant;
