//! Stands in for the example until it is written.
#![allow(dead_code)]

mod plots;

fn main() {}
