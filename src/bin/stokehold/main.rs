//! The `stokehold` program.
fn main() {}
