//! A step of one sample through a cell, with everything found beforehand that the input does not change: the products and
//! the pointwise part follow one another with little between them. A step of a small layer takes so few cycles that looking
//! sizes up, step by step, would take as long as its arithmetic.

use std::mem::discriminant;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::one_sample::OneSample;
use super::product::Start;
use super::simd::{self, Num};
use super::sparse::{Sparse, SparseProduct};
use super::{gru, lstm};

/// The pointwise part of a cell that has one for a single sample: it reads pre-activations, and replaces the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointwise {
    /// An LSTM's.
    Lstm,
    /// A GRU's whose reset gate comes after the product.
    Gru,
}

/// Some rows of the pre-activations: start + W x + U h.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Which.
    pub rows: Range<usize>,
    /// Where what [`pack`](super::product::pack) wrote for them is, of all that the step reads.
    pub packed: Range<usize>,
    /// Whether W x is added.
    pub x: bool,
    /// Whether U h is added.
    pub h: bool,
    /// Where sums start.
    pub start: Start,
}

/// One of the products.
#[derive(Clone, Debug)]
struct Product<R> {
    rows: Rows,
    /// The weights once more, where so many of them are 0 that it pays.
    sparse: Option<Sparse<R>>,
}

/// What depends on sizes and weights alone.
#[derive(Clone, Debug)]
pub struct Plan<R> {
    products: Vec<Product<R>>,
    pointwise: Pointwise,
    passes: Vec<Pass>,
}

/// What one instruction set does. Mostly one does everything, by a single call.
#[derive(Clone, Copy, Debug)]
struct Pass {
    arch: Arch,
    products: bool,
    pointwise: bool,
}

/// The values of a step.
pub struct Step<'a, R> {
    /// What all products read.
    pub packed: &'a [R],
    /// The input.
    pub x: &'a [R],
    /// `[H]`: the hidden state before on entry, after on return.
    pub h: &'a mut [R],
    /// `[H]`, or empty: the cell before on entry, after on return.
    pub c: &'a mut [R],
    /// Room for the pre-activations.
    pub gates: &'a mut [R],
    /// `[H]`: the output, which is the hidden state after.
    pub y: &'a mut [R],
}

impl<R: Num> Plan<R> {
    /// A plan for a cell of so many units, whose products read so many values of x and h. `packed` is what all of them read.
    pub fn new(
        products: impl Iterator<Item = Rows>,
        packed: &[R],
        [x, h]: [usize; 2],
        (pointwise, units): (Pointwise, usize),
    ) -> Self {
        let products = products.map(|rows| {
            let columns = [x * usize::from(rows.x), h * usize::from(rows.h)];
            Product { sparse: Sparse::new(&packed[rows.packed.clone()], rows.rows.len(), columns), rows }
        });
        let products: Vec<_> = products.collect();
        let most = products.iter().map(|product| product.rows.rows.len()).max().unwrap_or(0);
        let pass = |arch, products, pointwise| Pass { arch, products, pointwise };
        let (first, last) = (simd::arch_of_one::<R>(most), simd::arch_of_len::<R>(units));
        let passes = if discriminant(&first) == discriminant(&last) {
            vec![pass(first, true, true)]
        } else {
            vec![pass(first, true, false), pass(last, false, true)]
        };
        Self { products, pointwise, passes }
    }

    /// How many products read only what is not 0.
    #[cfg(test)]
    pub fn sparse(&self) -> usize {
        self.products.iter().filter(|product| product.sparse.is_some()).count()
    }

    /// Takes a step.
    #[inline(always)]
    pub(super) fn run(&self, mut step: Step<'_, R>) {
        for &pass in &self.passes {
            pass.arch.dispatch(Run { plan: self, pass, step: &mut step });
        }
    }
}

/// A pass of a step.
struct Run<'a, 'b, R> {
    plan: &'a Plan<R>,
    pass: Pass,
    step: &'a mut Step<'b, R>,
}

impl<R: Num> WithSimd for Run<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { plan, pass, step: Step { packed, x, h, c, gates, y } } = self;
        if pass.products {
            for Product { rows: product, sparse } in &plan.products {
                let xs = [if product.x { *x } else { &[] }, if product.h { &**h } else { &[] }];
                let (start, y) = (product.start, &mut gates[product.rows.clone()]);
                match sparse {
                    // 0 · ∞ is not 0.
                    Some(sparse) if finite(xs[0]) && finite(xs[1]) => {
                        SparseProduct { sparse, xs, start, y }.with_simd(s);
                    }
                    _ => {
                        let (packed, xs) = (&packed[product.packed.clone()], &[xs[0], xs[1], &[]]);
                        OneSample { packed, xs, start, y }.with_simd(s);
                    }
                }
            }
        }
        match plan.pointwise {
            _ if !pass.pointwise => {}
            Pointwise::Lstm => lstm::Step { gates, c, h, y }.with_simd(s),
            Pointwise::Gru => gru::Step { gates, h, y }.with_simd(s),
        }
    }
}

/// Whether all of `x` is finite.
#[inline(always)]
fn finite<R: Num>(x: &[R]) -> bool {
    // All are looked at, which vectors can do.
    x.iter().fold(true, |all, x| all & x.is_finite())
}
