//! Each part of a model by itself, on every instruction set of the machine. One program, as in `tests/behaviour`.

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod conform;
mod layers;
mod losses;
mod many_streams;
mod optimizers;
mod pytorch_parity;
mod reference;
#[path = "../common/simd_levels.rs"]
mod simd_levels;
