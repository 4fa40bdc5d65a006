//! A part's parameters by name, and what is packed of them for the kernels.

use super::cell::{Block, Cell};
use super::layout::{Part, StackLayout};
use super::tape::{cut, pieces};
use crate::Real;
use crate::kernels::{Matrix, packed_len};

/// The tensors of a part, or their gradients.
pub(super) struct Weights<T> {
    /// `[gates · H, features]`
    pub(super) ih: T,
    /// `[gates · H, H]`
    pub(super) hh: T,
    /// `[gates · H]`
    pub(super) b_ih: T,
    /// `[gates · H]`
    pub(super) b_hh: T,
}

impl<'a, R> Weights<&'a [R]> {
    /// Those of `part`, of all parameters of the stack.
    pub(super) fn new(layout: &StackLayout, part: Part, params: &'a [R]) -> Self {
        let [ih, hh, b_ih, b_hh] = pieces(&params[layout.params(part)], layout.weights(part.layer));
        Self { ih, hh, b_ih, b_hh }
    }
}

impl<'a, R> Weights<&'a mut [R]> {
    /// Those of `part`, of all gradients of the stack.
    pub(super) fn of_gradients(layout: &StackLayout, part: Part, grads: &'a mut [R]) -> Self {
        let [ih, hh, b_ih, b_hh] = cut(&mut grads[layout.params(part)], layout.weights(part.layer));
        Self { ih, hh, b_ih, b_hh }
    }
}

/// The packed weights of a part.
pub(super) struct Packs<'a, R> {
    /// W, U and b side by side: a = b + W x + U h.
    pub(super) forward: &'a [R],
    /// Uᵀ: what da makes of dh of the step before.
    pub(super) back_h: &'a [R],
    /// Wᵀ: what da makes of dx. One pack for each direction of the layer below, because the gradients of their outputs
    /// lie apart.
    back_x: &'a [R],
    sources: usize,
}

impl<'a, R: Real> Packs<'a, R> {
    /// Those of `part`, of all that the stack has packed.
    pub(super) fn new(layout: &StackLayout, part: Part, packed: &'a [R]) -> Self {
        let [forward, back_h, back_x, _] =
            pieces(&packed[layout.packs_range(part)], layout.packs(part.layer));
        Self { forward, back_h, back_x, sources: layout.sources(part.layer).0 }
    }

    /// Wᵀ for each sequence of the input, in the order of directions.
    pub(super) fn back_x(&self) -> impl Iterator<Item = &'a [R]> + use<'a, R> {
        self.back_x.chunks_exact(self.back_x.len() / self.sources)
    }
}

/// Packs the weights of all parts.
pub(super) fn pack<R: Real, C: Cell>(layout: &StackLayout, params: &[R], packed: &mut [R]) {
    for part in layout.parts() {
        pack_part::<R, C>(layout, part, params, &mut packed[layout.packs_range(part)]);
    }
}

fn pack_part<R: Real, C: Cell>(layout: &StackLayout, part: Part, params: &[R], packed: &mut [R]) {
    let (rows, features, width) = (layout.rows(), layout.features(part.layer), layout.width);
    let [forward, back_h, back_x, spread] = cut(packed, layout.packs(part.layer));
    let mut weights = Weights::new(layout, part, params);
    if !spread.is_empty() {
        weights = spread_blocks(C::BLOCKS, &weights, layout, spread);
    }
    let (ih, hh) = (Matrix::new(weights.ih, rows, features), Matrix::new(weights.hh, rows, width));
    R::pack(&[ih, hh], &[weights.b_ih, weights.b_hh], forward);
    R::pack(&[hh.transposed()], &[], back_h);
    let (sources, width) = layout.sources(part.layer);
    let packs = back_x.chunks_exact_mut(packed_len(width, rows)).take(sources);
    for (source, pack) in packs.enumerate() {
        R::pack(&[ih.columns(source * width, width).transposed()], &[], pack);
    }
}

/// The weights with a block of rows for each block of pre-activations, where these are not the gates in their order.
///
/// One product then computes all blocks, at the price of rows of zeros where a block sums only x or only h.
fn spread_blocks<'a, R: Real>(
    blocks: &[Block],
    weights: &Weights<&[R]>,
    layout: &StackLayout,
    spread: &'a mut [R],
) -> Weights<&'a [R]> {
    let rows = layout.rows();
    // What lies behind them only fills a cache line.
    let columns = [weights.ih.len(), weights.hh.len()].map(|len| len / layout.weight_rows());
    let [ih, hh, b_ih, b_hh] = cut(spread, [rows * columns[0], rows * columns[1], rows, rows]);
    let units = layout.units;
    for (to, block) in blocks.iter().enumerate() {
        spread_block(weights.ih, units * columns[0], block.ih, to, ih);
        spread_block(weights.hh, units * columns[1], block.hh, to, hh);
        spread_block(weights.b_ih, units, block.ih, to, b_ih);
        spread_block(weights.b_hh, units, block.hh, to, b_hh);
    }
    Weights { ih, hh, b_ih, b_hh }
}

/// Copies block `from` of `weights` to block `to` of `spread`; 0 where there is none.
fn spread_block<R: Real>(weights: &[R], size: usize, from: Option<usize>, to: usize, spread: &mut [R]) {
    let block = &mut spread[to * size..][..size];
    match from {
        Some(from) => block.copy_from_slice(&weights[from * size..][..size]),
        None => block.fill(R::ZERO),
    }
}
