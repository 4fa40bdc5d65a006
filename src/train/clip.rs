//! Clipping of gradients.

use serde::{Deserialize, Serialize};

use crate::Real;

/// How gradients are clipped before the optimizer sees them; see [`Trainer::clip`](super::Trainer::clip).
///
/// # Examples
/// ```
/// use bptt::train::Clip;
///
/// let mut grads = [3.0, -4.0];
/// Clip::Norm(10.0).apply(&mut grads, 5.0);
/// assert_eq!(grads, [3.0, -4.0]);
/// Clip::Value(3.5).apply(&mut grads, 5.0);
/// assert_eq!(grads, [3.0, -3.5]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Clip {
    /// Not at all.
    #[default]
    None,
    /// To a global norm; PyTorch's `clip_grad_norm_`: g ← g · min(1, max / (‖g‖₂ + 1e-6)).
    ///
    /// Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
    Norm(f64),
    /// Element by element to ±max; PyTorch's `clip_grad_value_`.
    Value(f64),
}

impl Clip {
    /// Clips `grads`, whose norm is `norm`.
    pub fn apply<R: Real>(self, grads: &mut [R], norm: f64) {
        match self {
            Self::None => {}
            Self::Norm(max) => {
                let factor = max / (norm + 1e-6);
                if factor < 1.0 {
                    R::scale(grads, R::from_f64(factor));
                }
            }
            Self::Value(max) => {
                let max = R::from_f64(max);
                for g in grads {
                    *g = if *g > max {
                        max
                    } else if *g < -max {
                        -max
                    } else {
                        *g
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_and_value() {
        let mut g = [3.0, -4.0];
        Clip::Norm(1.0).apply(&mut g, 5.0);
        assert!((g[0] - 0.6f64).abs() < 1e-6 && (g[1] + 0.8).abs() < 1e-6, "{g:?}");
        let mut g = [3.0, -4.0];
        Clip::Norm(6.0).apply(&mut g, 5.0);
        assert_eq!(g, [3.0, -4.0]);
        Clip::Value(3.5).apply(&mut g, 5.0);
        assert_eq!(g, [3.0, -3.5]);
        Clip::None.apply(&mut g, 5.0);
        assert_eq!(g, [3.0, -3.5]);
    }
}
