//! Command line of pressline.

fn main() {}
