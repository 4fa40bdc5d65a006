//! Pruning by blocks.

use serde::{Deserialize, Serialize};

use super::rule::{Scope, check_share, lowest, scope_setters};
use super::{Mask, Rule};
use crate::kernels::SPARSE_HEIGHT;
use crate::params::Tensor;
use crate::{Arena, Real, Result};

/// Prunes blocks of 16 rows of one column, those whose weights are closest to 0, in each tensor.
///
/// A [`Session`](crate::nn::Session) skips such blocks: where at most three quarters of those of an [`Lstm`](crate::nn::Lstm)
/// or a [`Gru`](crate::nn::Gru) are left, a step reads and multiplies these alone; not within
/// [`Branches`](crate::nn::Branches). Outputs are the same bits; what the step
/// takes is in `docs/performance.md`. Single weights, as [`Magnitude`](super::Magnitude) prunes them, hardly ever leave a
/// block empty.
///
/// Of each column of each tensor, rows 0 to 15 are a block, 16 to 31 the next; the last may have fewer. They lie as a step
/// reads them if the number of units is a multiple of 16. A tensor with more than two axes is a matrix with the rows of its
/// first axis. Biases and other tensors with one axis are left out unless [`with_biases`](Self::with_biases) includes them.
///
/// # Source
/// Kalchbrenner et al. 2018, "Efficient neural audio synthesis": blocks of 16 × 1, by their magnitude.
/// # Examples
/// ```
/// use bptt::prune::Blocks;
/// use bptt::{Model, Shape, nn::Lstm};
///
/// let mut model: Model = Model::builder(Shape::new(10, 64)).layer("lstm", Lstm::new(64)).build(1)?;
/// let sparsity = model.prune(Blocks::share(0.75).only("lstm.weight_*"))?;
/// assert_eq!(sparsity.pruned(), 2 * (4 * 64 * 64) * 3 / 4);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    share: f64,
    scope: Scope,
}

impl Blocks {
    /// Prunes the blocks whose mean w² is smallest until this share of the blocks of each tensor is pruned, including what
    /// was pruned before.
    pub fn share(share: f64) -> Self {
        Self { share, scope: Scope::default() }
    }

    scope_setters!();
}

impl<R: Real> Rule<R> for Blocks {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        check_share(self.share)?;
        for (_, tensor) in self.scope.tensors(params.layout())? {
            let (values, mask) =
                (&params.as_slice()[tensor.range()], &mut mask.as_mut_slice()[tensor.range()]);
            let blocks: Vec<_> = blocks(tensor).collect();
            let mean = |block: &Block| {
                let squares = block.clone().map(|i| values[i].to_f64() * values[i].to_f64());
                squares.sum::<f64>() / block.clone().count() as f64
            };
            let kept = blocks.iter().enumerate().filter(|(_, block)| (*block).clone().any(|i| !mask[i]));
            let kept = kept.map(|(b, block)| (mean(block), b)).collect();
            for block in lowest(kept, self.share, blocks.len()) {
                blocks[block].clone().for_each(|i| mask[i] = true);
            }
        }
        Ok(())
    }
}

/// The places of a block's weights in their tensor.
type Block = std::iter::StepBy<std::ops::Range<usize>>;

/// The blocks of a tensor, row by row.
fn blocks(tensor: &Tensor) -> impl Iterator<Item = Block> + use<> {
    let (len, columns) = (tensor.len(), tensor.len() / tensor.axes[0].size().max(1));
    let height = SPARSE_HEIGHT * columns.max(1);
    (0..len).step_by(height).flat_map(move |first| {
        let end = len.min(first + height);
        (first..first + columns).map(move |start| (start..end).step_by(columns))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Init;
    use crate::params::Layout;

    /// w [18, 2], whose value at row r and column c is 1 + r / 100, and 5 more in column 1; b [16].
    fn params() -> Arena<f32> {
        let mut layout = Layout::default();
        for (name, axes) in [("w", vec![18, 2]), ("b", vec![16])] {
            let axes = axes.into_iter().map(Into::into).collect();
            layout.push(name.into(), axes, Init::Constant(0.0)).unwrap();
        }
        let mut arena = Arena::zeros(Arc::new(layout));
        let values = arena.as_mut_slice()[..36].iter_mut().enumerate();
        values.for_each(|(i, w)| *w = 1.0 + (i / 2) as f32 / 100.0 + 5.0 * (i % 2) as f32);
        arena
    }

    /// What of the four blocks is pruned, each of which must be whole; the upper ones have 16 rows, the lower ones 2.
    fn after(rule: Blocks, params: &Arena<f32>, before: &[usize]) -> [[bool; 2]; 2] {
        let mut mask = Mask::new(params.layout().clone());
        before.iter().for_each(|&i| mask.as_mut_slice()[i] = true);
        rule.mark(params, &mut mask).unwrap();
        let mask = mask.as_slice();
        assert!(mask[36..].iter().all(|&pruned| !pruned), "biases");
        let block = |rows: std::ops::Range<usize>, column| {
            let pruned = rows.clone().filter(|row| mask[2 * row + column]).count();
            assert!(pruned == 0 || pruned == rows.len() || !before.is_empty());
            pruned == rows.len()
        };
        [0..16, 16..18].map(|rows| [0, 1].map(|column| block(rows.clone(), column)))
    }

    #[test]
    fn blocks_of_the_least_mean_square_go_first() {
        let params = params();
        // Rows further down are larger, columns to the right more so; few rows are no reason to go.
        assert_eq!(after(Blocks::share(0.0), &params, &[]), [[false, false], [false, false]]);
        assert_eq!(after(Blocks::share(0.25), &params, &[]), [[true, false], [false, false]]);
        assert_eq!(after(Blocks::share(0.5).only("w"), &params, &[]), [[true, false], [true, false]]);
        assert_eq!(after(Blocks::share(0.75), &params, &[]), [[true, true], [true, false]]);
        assert_eq!(after(Blocks::share(1.0), &params, &[]), [[true, true], [true, true]]);
        // The lower right block was pruned before, and counts; one weight of a block is not the block.
        assert_eq!(after(Blocks::share(0.25), &params, &[33, 35]), [[false, false], [false, true]]);
        assert_eq!(after(Blocks::share(0.25), &params, &[33]), [[true, false], [false, false]]);
    }

    #[test]
    fn equal_blocks_go_in_order_and_nan_last() {
        let mut params = params();
        params.as_mut_slice()[..36].fill(1.0);
        assert_eq!(after(Blocks::share(0.5), &params, &[]), [[true, true], [false, false]]);
        params.as_mut_slice()[0] = f32::NAN;
        assert_eq!(after(Blocks::share(0.75), &params, &[]), [[false, true], [true, true]]);
    }

    #[test]
    fn invalid_settings() {
        let params = params();
        let fault = |rule: Blocks| {
            rule.mark(&params, &mut Mask::new(params.layout().clone())).unwrap_err().to_string()
        };
        assert_eq!(fault(Blocks::share(1.5)), "`share`: found 1.5, expected a number from 0 to 1");
        assert!(fault(Blocks::share(f64::NAN)).contains("found NaN"));
        assert!(fault(Blocks::share(0.5).only("b")).starts_with("`only`: found no tensor for `b`"));
    }
}
