//! How parameters begin.

use rand::RngCore;
use serde::{Deserialize, Serialize};

use crate::{Real, rng};

/// How a tensor is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Uniform over (−bound, bound).
    Uniform(f64),
}

impl Init {
    /// PyTorch's default for a layer that sums `fan` inputs (for a recurrent one, `fan` = H): U(±1/√fan).
    pub fn pytorch(fan: usize) -> Self {
        Self::Uniform(1.0 / (fan.max(1) as f64).sqrt())
    }

    /// Fills `values` from the stream of random numbers that `key` names.
    pub fn fill<R: Real>(self, values: &mut [R], key: u64) {
        let mut rng = rng::rng(key);
        match self {
            Self::Constant(c) => values.fill(R::from_f64(c)),
            // 53 random bits, moved by half a step so that the interval is open and symmetric.
            Self::Uniform(bound) => values.iter_mut().for_each(|x| {
                let unit = ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
                *x = R::from_f64((2.0 * unit - 1.0) * bound);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_has_the_moments_of_a_uniform() {
        let mut x = vec![0f64; 100_000];
        Init::pytorch(4).fill(&mut x, 1);
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        assert!(x.iter().all(|x| x.abs() < 0.5));
        assert!(mean.abs() < 0.003, "{mean}");
        assert!((variance - 0.25 / 3.0).abs() < 0.001, "{variance}");
    }

    #[test]
    fn a_key_names_a_stream() {
        let (mut a, mut b, mut c) = ([0f32; 4], [0f32; 4], [0f32; 4]);
        Init::Uniform(1.0).fill(&mut a, 1);
        Init::Uniform(1.0).fill(&mut b, 1);
        Init::Uniform(1.0).fill(&mut c, 2);
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
