//! A step of one sample through a cell, with everything found beforehand that depends only on sizes: the products and the
//! pointwise part follow one another with little between them. A step of a small layer takes so few cycles that looking
//! sizes up, step by step, would take as long as its arithmetic.

use std::ops::Range;

use pulp::Arch;

use super::one_sample::OneSample;
use super::product::Start;
use super::simd::{self, Num};
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

/// What depends only on sizes.
#[derive(Clone, Debug)]
pub struct Plan {
    products: Vec<(Arch, Rows)>,
    pointwise: (Arch, Pointwise),
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

impl Plan {
    /// A plan for a cell of so many units.
    pub fn new<R: Num>(products: impl Iterator<Item = Rows>, pointwise: Pointwise, units: usize) -> Self {
        let products = products.map(|product| (simd::arch_of_one::<R>(product.rows.len()), product));
        Self { products: products.collect(), pointwise: (simd::arch_of_len::<R>(units), pointwise) }
    }

    /// Takes a step.
    #[inline(always)]
    pub(super) fn run<R: Num>(&self, Step { packed, x, h, c, gates, y }: Step<'_, R>) {
        for (arch, product) in &self.products {
            let xs = [if product.x { x } else { &[] }, if product.h { &*h } else { &[] }, &[]];
            arch.dispatch(OneSample {
                packed: &packed[product.packed.clone()],
                xs: &xs,
                start: product.start,
                y: &mut gates[product.rows.clone()],
            });
        }
        let (arch, pointwise) = self.pointwise;
        match pointwise {
            Pointwise::Lstm => arch.dispatch(lstm::Step { gates, c, h, y }),
            Pointwise::Gru => arch.dispatch(gru::Step { gates, h, y }),
        }
    }
}
