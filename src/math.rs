//! Functions that the platform's mathematical library computes elsewhere: here, they are the same bits on all platforms.
//!
//! Addition, multiplication, division and square roots are exact to the bit by IEEE 754; exponentials, powers, logarithms
//! and cosines are not, and each C library rounds them differently.

pub use libm::{cos, exp, log as ln, log1p as ln_1p};

/// xⁿ
pub fn power(x: f64, n: u64) -> f64 {
    libm::pow(x, n as f64)
}
