//! A custom cell.

use bptt::nn::rnn::cell::{sigmoid, tanh};
use bptt::nn::rnn::{Cell, CellStep, CellStepBack, CellTensor};
use bptt::{Init, Real};
use serde::{Deserialize, Serialize};

/// f = σ(W x + U h + b); g = tanh(W x + U h + b); c' = f ⊙ c + (1 − f) ⊙ g; h' = s ⊙ c', with a scale s `[H]`.
///
/// Source: van der Westhuizen & Lasenby 2018, "The unreasonable effectiveness of the forget gate"; the scale is added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Janet;

impl Cell for Janet {
    const KIND: &'static str = "downstream.janet";
    const GATES: usize = 2;
    const HAS_CELL: bool = true;
    const TENSORS: &'static [CellTensor] =
        &[CellTensor { name: "weight_scale", blocks: 1, init: |_| Init::Constant(1.0) }];

    fn forward<R: Real>(&self, step: CellStep<'_, R>) {
        let (f, g) = step.gates.split_at_mut(step.h.len());
        sigmoid(f);
        tanh(g);
        for i in 0..f.len() {
            step.c[i] = f[i] * step.c_prev[i] + (R::ONE - f[i]) * g[i];
            step.h[i] = step.params[i / step.lanes] * step.c[i];
        }
    }

    fn backward<R: Real>(&self, step: CellStepBack<'_, R>) {
        let (f, g) = step.gates.split_at_mut(step.dh.len());
        for i in 0..f.len() {
            step.grads[i] += step.dh[i] * step.c[i];
            let dc = step.dc[i] + step.dh[i] * step.params[i / step.lanes];
            step.dc[i] = dc * f[i];
            let dg = dc * (R::ONE - f[i]);
            f[i] = dc * (step.c_prev[i] - g[i]) * f[i] * (R::ONE - f[i]);
            g[i] = dg * (R::ONE - g[i] * g[i]);
        }
    }
}
