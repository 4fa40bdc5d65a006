//! How the samples of a dataset are cut into tiles, and the tiles into shares, for prediction and evaluation.

use std::ops::Range;

use ndarray::{ArrayViewMut, Axis, RemoveAxis};

use crate::Real;
use crate::kernels::longest_vector;
use crate::shape::MAX_LANES;

/// Fewer samples than this pass through the model one by one.
// Half the lanes of the longest vector of f32. Below, more than half of a tile's work is done on pads; one sample alone has
// rows in the lanes instead, and no pads.
pub(super) const FEW: usize = 8;

/// The most shares that a dataset is cut into, each a run of tiles. The number is fixed and their results are summed in
/// order, so that a sum is the same at any thread count. 16 shares keep up to 16 threads busy, and cost 16 workspaces.
pub(crate) const SHARES: usize = 16;

/// A dataset in tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    samples: usize,
    /// Samples per tile; the last may have fewer.
    pub(super) size: usize,
    pub(super) shares: usize,
}

impl Tiles {
    pub(super) fn new(samples: usize, size: usize) -> Self {
        Self { samples, size, shares: samples.div_ceil(size).min(SHARES) }
    }

    /// The tiles of inference: with as many samples as fill two vectors, unless there are fewer. If there are so few that
    /// most lanes would be empty, each passes alone.
    pub(super) fn for_inference<R: Real>(samples: usize) -> Self {
        let size = if samples < FEW {
            1
        } else {
            (4 * longest_vector::<R>())
                .min(MAX_LANES)
                .min(samples.div_ceil(R::QUANTUM).saturating_mul(R::QUANTUM))
        };
        Self::new(samples, size)
    }

    /// As [`for_inference`](Self::for_inference), but in whole vectors, which losses need.
    pub(super) fn for_losses<R: Real>(samples: usize) -> Self {
        Self::new(samples, Self::for_inference::<R>(samples).size.max(R::QUANTUM))
    }

    /// The tiles of a share, as ranges of samples.
    pub(super) fn share(self, i: usize) -> impl Iterator<Item = Range<usize>> {
        let tiles = self.samples.div_ceil(self.size);
        let tiles = i * tiles / self.shares..(i + 1) * tiles / self.shares;
        tiles.map(move |t| t * self.size..self.samples.min((t + 1) * self.size))
    }

    /// Splits the results of all samples, along the first axis, into those of the shares.
    pub(super) fn split<T, D: RemoveAxis>(
        self,
        results: ArrayViewMut<'_, T, D>,
    ) -> Vec<ArrayViewMut<'_, T, D>> {
        let mut rest = results;
        let mut shares = Vec::with_capacity(self.shares);
        for i in 0..self.shares {
            let len = self.share(i).map(|tile| tile.len()).sum();
            let (share, others) = rest.split_at(Axis(0), len);
            shares.push(share);
            rest = others;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_are_all_samples_in_order(samples in 0_usize..3000, size in 1_usize..70) {
            let tiles = Tiles::new(samples, size);
            let all: Vec<usize> = (0..tiles.shares).flat_map(|i| tiles.share(i)).flatten().collect();
            prop_assert_eq!(all, (0..samples).collect::<Vec<_>>());
            let mut results = Array1::from_iter(0..samples);
            let split = tiles.split(results.view_mut());
            prop_assert_eq!(split.iter().map(|share| share.len()).sum::<usize>(), samples);
            for (i, share) in split.iter().enumerate() {
                prop_assert_eq!(share.first().copied(), tiles.share(i).next().map(|tile| tile.start));
            }
        }
    }
}
