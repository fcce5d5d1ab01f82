//! Tests of lookups in files of both layouts.
