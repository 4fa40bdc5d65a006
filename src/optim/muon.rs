//! Momentum whose matrices are made orthogonal.

use serde::{Deserialize, Serialize};

use super::{AdamW, Update, check, optimizer};
use crate::kernels::{Band, Columns, Matrix, Start, packed_len};
use crate::{Error, Real, Result, Scalar};

/// X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X, which takes singular values in (0, 1] to about 1 in five steps.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.775, 2.0315);
/// The least norm that a matrix is divided by.
const LEAST_NORM: f64 = 1e-7;
/// The root mean square of Adam's steps at a rate of 1, by Liu et al.
const ADAMS_RMS: f64 = 0.2;

/// Muon for matrices, [`AdamW`] for all other tensors; PyTorch's `Muon` with `adjust_lr_fn="match_rms_adamw"`, and its defaults.
///
/// M ← M + (1 − momentum)(G − M); U = G + momentum (M − G);
/// p ← p − lr · weight_decay · p − lr · 0.2 √(max(rows, columns)) · O, where O is U with all singular values moved to about 1, by
/// [`ns_steps`](Self::ns_steps) Newton–Schulz iterations.
///
/// So a step changes all directions of a matrix by about as much, those that the gradient says little of, too. A model learns from
/// fewer samples than with Adam; a step takes longer, by `ns_steps` · 2 · s² (2 l + s) floating-point operations for a matrix of
/// s × l, s ≤ l, which pays the more, the larger batches are. Steps are about as long as Adam's, so rates and weight
/// decays can be kept, and are the same for all tensors. A matrix is one tensor: the four gates of an LSTM together. PyTorch
/// iterates in bfloat16, this rule in the type of the parameters.
///
/// # Source
/// Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu et al. 2025, "Muon is scalable for LLM
/// training", for the length of a step and the decay.
/// # Examples
/// ```
/// use bptt::optim::{Muon, Optimizer, Update};
///
/// let rule = Muon::new(0.1).weight_decay(0.0);
/// let mut scratch = vec![0.0f32; Optimizer::<f32>::scratch(&rule, &[2, 2]).unwrap()];
/// let (mut p, g) = ([0.0f32; 4], [3.0, 0.0, 0.0, -1.0]);
/// let (mut m, mut v) = ([0.0; 4], [0.0; 4]);
/// let update = Update::new(0.1, &mut p, &g).moments([&mut m, &mut v, &mut []]);
/// rule.update(update.tensor(&[2, 2], &mut scratch));
/// // Both directions by about as much: 0.1 · 0.2 · √2 = 0.028.
/// assert!((p[0] + 0.028).abs() < 0.01 && (p[3] - 0.028).abs() < 0.01 && p[1] == 0.0 && p[2] == 0.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Muon {
    momentum: f64,
    ns_steps: usize,
    rest: AdamW,
}

impl Muon {
    /// Momentum 0.95, five iterations, weight decay 0.1; β = (0.9, 0.999) and ε = 1e-8 for tensors that are not matrices.
    pub fn new(lr: f64) -> Self {
        Self { momentum: 0.95, ns_steps: 5, rest: AdamW::new(lr).weight_decay(0.1) }
    }

    /// The decay of the mean gradient of a matrix.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// The Newton–Schulz iterations of a step.
    pub fn ns_steps(mut self, ns_steps: usize) -> Self {
        self.ns_steps = ns_steps;
        self
    }

    /// The share of a parameter that a step with a learning rate of 1 would remove.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.rest = self.rest.weight_decay(weight_decay);
        self
    }

    /// The decay of the two moments of tensors that are not matrices.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.rest = self.rest.betas(beta1, beta2);
        self
    }

    fn lr(&self) -> f64 {
        self.rest.lr()
    }

    fn moments(&self) -> usize {
        self.rest.moments()
    }

    fn check(&self) -> Result<()> {
        check("momentum", self.momentum, 0.0..1.0)?;
        if self.ns_steps == 0 || self.ns_steps > 100 {
            let fault = format!("found {}, expected 1 to 100", self.ns_steps);
            return Err(Error::config("ns_steps", fault));
        }
        self.rest.check()
    }

    #[inline(always)]
    fn rule<R: Real>(&self, update: Update<'_, R>) {
        match *update.shape {
            [rows, columns] if rows * columns > 0 => self.matrix(Sides::of(rows, columns), update),
            _ => self.rest.rule(update),
        }
    }

    #[inline(always)]
    fn matrix<R: Real>(&self, sides: Sides, update: Update<'_, R>) {
        let Update { lr, params: p, grads: g, moments: [m, ..], scratch, .. } = update;
        let (x, scratch) = scratch.split_at_mut(sides.padded());
        let (momentum, rest) = (R::from_f64(self.momentum), R::from_f64(1.0 - self.momentum));
        m.iter_mut().zip(g).for_each(|(m, &g)| *m += rest * (g - *m));
        x.fill(R::ZERO);
        let mut squares = 0.0;
        for (row, (m, g)) in sides.rows(m).zip(sides.rows(g)).enumerate() {
            for (column, (&m, &g)) in m.iter().zip(g).enumerate() {
                let u = g + momentum * (m - g);
                squares += u.to_f64() * u.to_f64();
                x[sides.place(row, column)] = u;
            }
        }
        let scale = R::from_f64(1.0 / squares.sqrt().max(LEAST_NORM));
        x.iter_mut().for_each(|x| *x *= scale);
        (0..self.ns_steps).for_each(|_| iterate(x, sides, scratch));
        let keep = R::from_f64(1.0 - lr * self.rest.decay());
        let length = R::from_f64(lr * ADAMS_RMS * (sides.long as f64).sqrt());
        for (row, p) in p.chunks_exact_mut(sides.columns).enumerate() {
            for (column, p) in p.iter_mut().enumerate() {
                *p = keep * *p - length * x[sides.place(row, column)];
            }
        }
    }
}

/// How a matrix is held: with as few rows as it has rows or columns, each padded to whole vectors.
#[derive(Clone, Copy)]
struct Sides {
    columns: usize,
    transposed: bool,
    short: usize,
    long: usize,
    /// The shorter and the longer side, padded.
    lanes: [usize; 2],
}

impl Sides {
    fn of(rows: usize, columns: usize) -> Self {
        let (short, long) = (rows.min(columns), rows.max(columns));
        // f64's quantum is the same.
        let lanes = [short, long].map(|side| side.next_multiple_of(f32::QUANTUM));
        Self { columns, transposed: rows > columns, short, long, lanes }
    }

    /// The values of the matrix with its pads.
    fn padded(self) -> usize {
        self.short * self.lanes[1]
    }

    /// The rows of the tensor.
    fn rows<R>(self, tensor: &[R]) -> impl Iterator<Item = &[R]> {
        tensor.chunks_exact(self.columns)
    }

    /// Where a value of the tensor is.
    #[inline(always)]
    fn place(self, row: usize, column: usize) -> usize {
        if self.transposed { column * self.lanes[1] + row } else { row * self.lanes[1] + column }
    }

    /// The matrix, its next iterate, X Xᵀ with and without pads, and the polynomial, packed.
    fn scratch(self) -> usize {
        let square = self.short * (self.lanes[0] + self.short);
        2 * self.padded() + square + packed_len(self.short, self.short)
    }
}

/// X ← (a I + b A + c A²) X, where A = X Xᵀ.
fn iterate<R: Real>(x: &mut [R], sides: Sides, scratch: &mut [R]) {
    let (short, [lanes, long]) = (sides.short, sides.lanes);
    let (a, b, c) = COEFFICIENTS;
    let (next, scratch) = scratch.split_at_mut(sides.padded());
    let (padded, scratch) = scratch.split_at_mut(short * lanes);
    let (square, packed) = scratch.split_at_mut(short * short);
    square.fill(R::ZERO);
    outer(x, short, long, square);
    for (row, padded) in square.chunks_exact(short).zip(padded.chunks_exact_mut(lanes)) {
        padded[..short].copy_from_slice(row);
        padded[short..].fill(R::ZERO);
    }
    let ratio = R::from_f64(b / c);
    square.iter_mut().for_each(|value| *value *= ratio);
    outer(padded, short, lanes, square);
    let (a, c) = (R::from_f64(a), R::from_f64(c));
    square.iter_mut().for_each(|value| *value *= c);
    square.iter_mut().step_by(short + 1).for_each(|value| *value += a);
    let packed = &mut packed[..packed_len(short, short)];
    R::pack(&[Matrix::new(square, short, short)], &[], packed);
    R::product(packed, [x, &[], &[]], Start::Bias, next, long);
    x.copy_from_slice(next);
}

/// square += X Xᵀ
fn outer<R: Real>(x: &[R], rows: usize, lanes: usize, square: &mut [R]) {
    let band = || Band::new(x, rows).rows(0..rows);
    R::outer(band(), &mut [Columns::new([band(), Band::NONE], square)], lanes);
}

optimizer!(Muon, f32, f64; {
    fn scratch(&self, shape: &[usize]) -> Option<usize> {
        match *shape {
            [rows, columns] => Some(Sides::of(rows, columns).scratch()),
            _ => Some(0),
        }
    }
});
