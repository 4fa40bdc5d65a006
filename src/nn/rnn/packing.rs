//! A part's parameters by name, and what is packed of them for the kernels.

use std::ops::Range;

use super::cell::Block;
use super::layout::{Part, Second, StackLayout};
use super::tape::{cut, pieces};
use crate::Real;
use crate::kernels::{BLOCK, Matrix, packed_len};
use crate::nn::Context;
use crate::par::{self, PART};

/// The tensors of a part, or their gradients.
pub(super) struct Weights<T> {
    /// `[gates · H, features]`
    pub(super) ih: T,
    /// `[gates · H, H]`
    pub(super) hh: T,
    /// `[gates · H]`, or empty
    pub(super) b_ih: T,
    /// `[gates · H]`, or empty
    pub(super) b_hh: T,
    /// `[P, H]`, or empty: the projection.
    pub(super) hr: T,
    /// The cell's own parameters, one after another.
    pub(super) own: T,
}

impl<'a, R> Weights<&'a [R]> {
    /// Those of `part`, of all parameters of the stack.
    pub(super) fn new(layout: &StackLayout, part: Part, params: &'a [R]) -> Self {
        let [ih, hh, b_ih, b_hh, hr, own] = pieces(&params[layout.params(part)], layout.weights(part.layer));
        Self { ih, hh, b_ih, b_hh, hr, own }
    }
}

impl<'a, R> Weights<&'a mut [R]> {
    /// Those of `part`, of all gradients of the stack.
    pub(super) fn of_gradients(layout: &StackLayout, part: Part, grads: &'a mut [R]) -> Self {
        let [ih, hh, b_ih, b_hh, hr, own] = cut(&mut grads[layout.params(part)], layout.weights(part.layer));
        Self { ih, hh, b_ih, b_hh, hr, own }
    }
}

/// What a forward pass reads of a part's parameters: packed weights, and the cell's own as they are.
pub(super) struct ForwardPacks<'a, R> {
    pub(super) layout: &'a StackLayout,
    /// Features that the part reads.
    pub(super) features: usize,
    /// For each of the [sums](StackLayout::sums), what it needs of W, U and b: a = b + W x + U h.
    pub(super) sums: &'a [R],
    /// What the second product of a step multiplies m with, or empty: W_hr, or the rows of U of the gated block.
    pub(super) second: &'a [R],
    /// The cell's own parameters.
    pub(super) own: &'a [R],
}

impl<'a, R: Real> ForwardPacks<'a, R> {
    /// Those of `part`, whose packs are `packed`; `params` is those of all parts.
    #[inline]
    pub(super) fn new(layout: &'a StackLayout, part: Part, params: &'a [R], packed: &'a [R]) -> Self {
        let [sums, second, ..] = layout.packs(part.layer);
        let (sums, rest) = packed.split_at(sums);
        let own = if layout.own == 0 { &[] } else { Weights::new(layout, part, params).own };
        Self { layout, features: layout.features(part.layer), sums, second: &rest[..second], own }
    }
}

/// What a backward pass reads of a part's parameters.
pub(super) struct Packs<'a, R> {
    pub(super) part: Part,
    /// Uᵀ: what da makes of dh of the step before.
    pub(super) back_h: &'a [R],
    /// Wᵀ: what da makes of dx. One pack for each direction of the layer below, because the gradients of their outputs
    /// lie apart.
    back_x: &'a [R],
    sources: usize,
    /// What makes dm: the transpose of what the second product of a step multiplies m with, or empty.
    pub(super) back_second: &'a [R],
    /// The cell's own parameters.
    pub(super) own: &'a [R],
}

impl<'a, R: Real> Packs<'a, R> {
    /// Those of `part`, of all that the stack has.
    pub(super) fn new(layout: &StackLayout, part: Part, cx: &Context<'a, R>) -> Self {
        let [_, _, back_h, back_x, back_second, _] =
            pieces(&cx.packed[layout.packs_range(part)], layout.packs(part.layer));
        let (sources, own) = (layout.sources(part.layer).0, Weights::new(layout, part, cx.params).own);
        Self { part, back_h, back_x, sources, back_second, own }
    }

    /// Wᵀ for each sequence of the input, in the order of directions.
    pub(super) fn back_x(&self) -> impl Iterator<Item = &'a [R]> + use<'a, R> {
        self.back_x.chunks_exact(self.back_x.len() / self.sources)
    }
}

/// What [`Kernels::pack`](crate::kernels::Kernels::pack) does, of large matrices in parts, at once.
fn pack_in_parts<R: Real, const N: usize>(parts: [Matrix<'_, R>; N], biases: [&[R]; 2], packed: &mut [R]) {
    let (rows, columns) = (parts[0].shape()[0], parts.iter().map(|part| part.shape()[1]).sum());
    let half = (rows / 2).next_multiple_of(BLOCK);
    if packed.len() <= PART || half >= rows {
        return R::pack(&parts, if biases[0].is_empty() { &[] } else { &biases }, packed);
    }
    let (first, second) = packed.split_at_mut(packed_len(half, columns));
    let of = |from: usize, rows: usize| {
        let biases = biases.map(|bias| if bias.is_empty() { bias } else { &bias[from..from + rows] });
        (parts.map(|part| part.rows(from, rows)), biases)
    };
    let (upper, lower) = (of(0, half), of(half, rows - half));
    par::join(|| pack_in_parts(upper.0, upper.1, first), || pack_in_parts(lower.0, lower.1, second));
}

/// Packs the weights of all parts.
pub(super) fn pack<R: Real>(layout: &StackLayout, blocks: &[Block], params: &[R], packed: &mut [R]) {
    for part in layout.parts() {
        let weights = Weights::new(layout, part, params);
        pack_part(layout, blocks, part.layer, weights, &mut packed[layout.packs_range(part)]);
    }
}

fn pack_part<'a, R: Real>(
    layout: &StackLayout,
    blocks: &[Block],
    layer: usize,
    mut weights: Weights<&'a [R]>,
    packed: &'a mut [R],
) {
    let (rows, features) = (layout.rows(), layout.features(layer));
    let [forward, second, back_h, back_x, back_second, spread] = cut(packed, layout.packs(layer));
    let to_m = match layout.second {
        Second::None => None,
        Second::Projection => Some(Matrix::new(weights.hr, layout.width, layout.units)),
        Second::Gated(block) => {
            let gate = blocks[block].hh.unwrap_or_default() * layout.units * layout.width;
            let rows = &weights.hh[gate..][..layout.units * layout.width];
            Some(Matrix::new(rows, layout.units, layout.width))
        }
    };
    if let Some(matrix) = to_m {
        pack_in_parts([matrix], [&[]; 2], second);
        pack_in_parts([matrix.transposed()], [&[]; 2], back_second);
    }
    if !spread.is_empty() {
        weights = spread_blocks(layout, blocks, &weights, spread);
    }
    pack_sums(layout, features, &weights, forward);
    let (ih, hh) = (Matrix::new(weights.ih, rows, features), Matrix::new(weights.hh, rows, layout.width));
    pack_in_parts([hh.transposed()], [&[]; 2], back_h);
    let (sources, width) = layout.sources(layer);
    let packs = back_x.chunks_exact_mut(packed_len(width, rows)).take(sources);
    for (source, pack) in packs.enumerate() {
        pack_in_parts([ih.columns(source * width, width).transposed()], [&[]; 2], pack);
    }
}

/// W, U and b for each of the products of a step.
fn pack_sums<'a, R: Real>(
    layout: &StackLayout,
    features: usize,
    weights: &Weights<&'a [R]>,
    mut packs: &mut [R],
) {
    for sum in layout.sums() {
        let (pack, rest) = packs.split_at_mut(sum.packed_len(features, layout.width));
        packs = rest;
        // No columns of what is not added.
        let matrix = |weight: &'a [R], columns: usize| {
            let Range { start, end } = sum.rows();
            Matrix::new(&weight[start * columns..end * columns], end - start, columns)
        };
        let w = matrix(weights.ih, if sum.x { features } else { 0 });
        let u = matrix(weights.hh, if sum.h { layout.width } else { 0 });
        let biases = match layout.bias && !sum.more {
            true => [&weights.b_ih[sum.rows()], &weights.b_hh[sum.rows()]],
            false => [&[][..]; 2],
        };
        pack_in_parts([w, u], biases, pack);
    }
}

/// The weights with a block of rows for each block of pre-activations, where these are not the gates in their order.
///
/// Rows that sum only x or only h have zeros in the other weight. [Sums](StackLayout::sums) leave them out; a product back
/// to x or h reads all rows, and zeros with them.
fn spread_blocks<'a, R: Real>(
    layout: &StackLayout,
    blocks: &[Block],
    weights: &Weights<&'a [R]>,
    spread: &'a mut [R],
) -> Weights<&'a [R]> {
    let rows = layout.rows();
    let [ih, hh, b_ih, b_hh] = [weights.ih, weights.hh, weights.b_ih, weights.b_hh]
        .map(|weight| rows * (weight.len() / layout.weight_rows()));
    // What lies behind them only fills a cache line.
    let [to_ih, to_hh, to_b_ih, to_b_hh] = cut(spread, [ih, hh, b_ih, b_hh]);
    for (to, block) in blocks.iter().enumerate() {
        spread_block(weights.ih, block.ih, to_ih, (to, blocks.len()));
        // The second product sums what is gated; the bias is added by the first.
        spread_block(weights.hh, block.hh.filter(|_| !block.gated), to_hh, (to, blocks.len()));
        spread_block(weights.b_ih, block.ih, to_b_ih, (to, blocks.len()));
        spread_block(weights.b_hh, block.hh, to_b_hh, (to, blocks.len()));
    }
    Weights { ih: to_ih, hh: to_hh, b_ih: to_b_ih, b_hh: to_b_hh, ..*weights }
}

/// Copies block `from` of `weights` to block `to`, of as many as `of`, of `spread`; 0 where there is none.
fn spread_block<R: Real>(weights: &[R], from: Option<usize>, spread: &mut [R], (to, of): (usize, usize)) {
    let size = spread.len() / of;
    let block = &mut spread[to * size..][..size];
    match from {
        Some(from) => block.copy_from_slice(&weights[from * size..][..size]),
        None => block.fill(R::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::kernels::Kernels;
    use crate::par::Pool;

    #[test]
    fn parts_are_packed_as_the_whole_is() -> Result<()> {
        // Rows that end within a block, and columns that end within another matrix.
        let (rows, features, width) = (701, 93, 130);
        let values = |n: usize, salt: usize| (0..n).map(|i| ((i * salt) % 1013) as f32).collect::<Vec<_>>();
        let (w, u) = (values(rows * features, 3), values(rows * (width + 5), 5));
        let (a, b) = (values(rows, 7), values(rows, 11));
        let parts = [Matrix::new(&w, rows, features), Matrix::new(&u, rows, width + 5).columns(5, width)];
        let turned = [Matrix::new(&w, rows, features).transposed()];
        let packs = |pack: &dyn Fn([&mut [f32]; 2])| {
            let mut found =
                [vec![0.0; packed_len(rows, features + width)], vec![0.0; packed_len(features, rows)]];
            pack(found.each_mut().map(|pack| &mut pack[..]));
            found
        };
        let whole = packs(&|[forward, back]| {
            f32::pack(&parts, &[&a, &b], forward);
            f32::pack(&turned, &[], back);
        });
        assert!(whole.iter().all(|pack| pack.len() > PART));
        for threads in [1, 2, 3] {
            let in_parts = |[forward, back]: [&mut [f32]; 2]| {
                pack_in_parts(parts, [&a, &b], forward);
                pack_in_parts(turned, [&[]; 2], back);
            };
            assert_eq!(Pool::new(Some(threads))?.run(|| packs(&in_parts)), whole, "{threads} threads");
        }
        Ok(())
    }
}
