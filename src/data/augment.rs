//! Augmentation: random small changes to samples whenever they are drawn.

use std::ops::RangeInclusive;

use rand::RngCore;

use crate::data::dataset::gather_by_reading;
use crate::data::forward::forward;
use crate::data::{Dataset, Normalize, Sample, TargetShape};
use crate::{Error, Real, Result, SeqMut, Shape, rng};

/// Separates the keys of augmentation from those of layers.
const AUGMENT: u64 = u64::from_be_bytes(*b"augment\0");
/// Derives the key that is passed to the augmented dataset.
const BELOW: u64 = u64::MAX;
/// How often a rectangle is drawn before none is erased.
const TRIES: usize = 10;

/// Collects the changes that are made to a dataset's samples whenever they are drawn for training.
///
/// Changes are made in the order given, to the raw values, before any normalisation. Shapes and targets are not changed;
/// per-step targets are not shifted. Padding after a sequence's end stays as it is.
///
/// All randomness comes from the key of the draw, a function of (seed, epoch, position in the epoch), so the order of
/// access and the number of threads change nothing. Where the key is 0, as in evaluation, samples are not changed.
///
/// An image is a sequence of its rows: rows are time steps, columns features.
///
/// # Source
/// Erasing: Zhong et al. 2020, "Random erasing data augmentation". Alternating flips: Jordan 2024, "94 % on CIFAR-10 in 3.29
/// seconds on a single GPU", section 3.6.
///
/// # Examples
/// ```
/// use bptt::data::{Augment, Dataset, Images, Sample};
/// use ndarray::array;
///
/// let images = Images::new(array![[[51, 102], [0, 255]]], vec![0], ["only"])?;
/// let flipped = Augment::new(&images).flip(1.0).build()?;
///
/// let mut x = [0.0; 4];
/// flipped.read(Sample::new(0, 1), &mut x);
/// assert_eq!(x, [0.4, 0.2, 1.0, 0.0]);
/// flipped.read(Sample::plain(0), &mut x);
/// assert_eq!(x, [0.2, 0.4, 0.0, 1.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Augment<D> {
    data: D,
    changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
enum Change {
    Shift { most: usize },
    Flip { p: f64 },
    FlipAlternately,
    Erase { p: f64, area: RangeInclusive<f64> },
    Noise { sd: f64 },
}

impl<D: Dataset> Augment<D> {
    /// An augmentation without changes so far. Pass a reference to keep the dataset.
    pub fn new(data: D) -> Self {
        Self { data, changes: Vec::new() }
    }

    /// Shifts each sample by up to `most` rows and up to `most` columns, uniformly at random, and fills with 0.
    pub fn shift(self, most: usize) -> Self {
        self.change(Change::Shift { most })
    }

    /// Mirrors each row with probability `p`.
    pub fn flip(self, p: f64) -> Self {
        self.change(Change::Flip { p })
    }

    /// Mirrors each row in every other epoch: for one half of the samples in the odd epochs, for the other half in the even
    /// ones.
    ///
    /// Each two epochs show every sample both ways, where [`flip`](Self::flip) with probability ½ shows half of the samples
    /// the same way twice. It is worth the more, the fewer epochs there are. Which half a sample belongs to depends only on its
    /// index.
    pub fn flip_alternately(self) -> Self {
        self.change(Change::FlipAlternately)
    }

    /// Sets a rectangle of 2 % to 33 % of the sample to 0 with probability `p`.
    pub fn erase(self, p: f64) -> Self {
        self.erase_area(p, 0.02..=0.33)
    }

    /// Sets a rectangle to 0 with probability `p`; its share of the sample is drawn from `area`.
    ///
    /// The ratio of height to width is drawn from 0.3 to 1 / 0.3. A rectangle that does not fit is drawn again; if none of
    /// 10 fits, nothing is erased.
    pub fn erase_area(self, p: f64, area: RangeInclusive<f64>) -> Self {
        self.change(Change::Erase { p, area })
    }

    /// Adds noise from N(0, `sd`²) to each value.
    pub fn noise(self, sd: f64) -> Self {
        self.change(Change::Noise { sd })
    }

    fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// The dataset of changed samples.
    ///
    /// # Errors
    /// [`Error::Config`] if a shift leaves nothing of a sample, or a number is not in its range.
    pub fn build(self) -> Result<Augmented<D>> {
        let shape = self.data.shape();
        self.changes.iter().try_for_each(|change| change.check(shape))?;
        Ok(Augmented { data: self.data, changes: self.changes })
    }
}

/// A dataset whose samples are changed whenever they are drawn for training; see [`Augment`].
#[derive(Clone, Debug)]
pub struct Augmented<D> {
    data: D,
    changes: Vec<Change>,
}

impl<D> Augmented<D> {
    /// The dataset without changes.
    pub fn dataset(&self) -> &D {
        &self.data
    }
}

/// The same draw of the inner dataset, with a different key, so that nested augmentations do not draw the same numbers.
fn below(sample: Sample) -> Sample {
    let key = if sample.key == 0 { 0 } else { rng::key(&[sample.key, AUGMENT, BELOW]) };
    Sample { key, ..sample }
}

impl<D: Dataset> Dataset for Augmented<D> {
    type Elem = D::Elem;

    forward!(self to self.data, sample is below(sample));

    fn len(&self) -> usize {
        self.data.len()
    }

    fn read(&self, sample: Sample, x: &mut [Self::Elem]) {
        self.data.read(below(sample), x);
        if sample.key != 0 {
            let features = self.data.shape().f;
            let own = self.length(sample).map_or(x.len(), |steps| x.len().min(steps * features));
            for (i, change) in self.changes.iter().enumerate() {
                let key = rng::key(&[sample.key, AUGMENT, i as u64]);
                change.make(sample, (&mut x[..own], features), &mut rng::rng(key));
            }
        }
    }

    /// Lets the inner dataset gather the tile if no sample in it is to be changed.
    fn gather(
        &self,
        samples: &[Sample],
        normalize: &Normalize,
        scratch: &mut [Self::Elem],
        x: SeqMut<'_, Self::Elem>,
    ) {
        if samples.iter().all(|sample| sample.key == 0) {
            self.data.gather(samples, normalize, scratch, x);
        } else {
            gather_by_reading(self, samples, normalize, scratch, x);
        }
    }
}

impl Change {
    fn check(&self, shape: Shape) -> Result<()> {
        let bad = |field: &str, found: &dyn std::fmt::Debug, expected: &str| {
            Err(Error::config(field, format!("found {found:?}, expected {expected}")))
        };
        match self {
            Self::Shift { most } if *most >= shape.t || *most >= shape.f => {
                bad("shift", most, &format!("less than either side of a sample of {shape}"))
            }
            Self::Flip { p } if !(0.0..=1.0).contains(p) => bad("flip", p, "a probability, 0 to 1"),
            Self::Erase { p, .. } if !(0.0..=1.0).contains(p) => bad("erase", p, "a probability, 0 to 1"),
            Self::Erase { area, .. }
                if !(0.0 < *area.start() && area.start() <= area.end() && *area.end() <= 1.0) =>
            {
                bad("erase", area, "shares of an area, more than 0 and at most 1")
            }
            Self::Noise { sd } if !(*sd >= 0.0 && sd.is_finite()) => {
                bad("noise", sd, "a finite number that is not negative")
            }
            _ => Ok(()),
        }
    }

    /// Changes a draw, which is `[T, features]`.
    fn make<R: Real>(&self, draw: Sample, (x, features): (&mut [R], usize), rng: &mut impl RngCore) {
        match self {
            Self::Shift { most } => {
                let mut draw = || rng::below(rng, 2 * *most as u64 + 1) as isize - *most as isize;
                let (down, right) = (draw(), draw());
                shift(x, features, down, right);
            }
            Self::Flip { p } => {
                if rng::unit(rng) < *p {
                    mirror(x, features);
                }
            }
            Self::FlipAlternately => {
                let half = rng::key(&[AUGMENT, draw.index as u64]);
                if (half ^ draw.epoch as u64) & 1 == 1 {
                    mirror(x, features);
                }
            }
            Self::Erase { p, area } => {
                if rng::unit(rng) < *p {
                    erase(x, features, area, rng);
                }
            }
            Self::Noise { sd } => {
                for pair in x.chunks_mut(2) {
                    pair.iter_mut().zip(rng::normals(rng)).for_each(|(x, z)| *x += R::from_f64(sd * z));
                }
            }
        }
    }
}

/// Reverses each row.
fn mirror<R>(x: &mut [R], columns: usize) {
    x.chunks_exact_mut(columns).for_each(<[R]>::reverse);
}

/// Shifts an image with rows of `columns` pixels, in place, and fills with 0.
fn shift<R: Real>(x: &mut [R], columns: usize, down: isize, right: isize) {
    let rows = x.len() / columns;
    let (by, kept) = (right.unsigned_abs(), columns - right.unsigned_abs());
    for i in 0..rows {
        // Rows are read before they are overwritten: from the bottom up if the image moves down.
        let row = if down > 0 { rows - 1 - i } else { i };
        let to = row * columns;
        match row.checked_add_signed(-down).filter(|&from| from < rows) {
            None => x[to..][..columns].fill(R::ZERO),
            Some(from) if right >= 0 => {
                x.copy_within(from * columns..from * columns + kept, to + by);
                x[to..][..by].fill(R::ZERO);
            }
            Some(from) => {
                x.copy_within(from * columns + by..(from + 1) * columns, to);
                x[to + kept..][..by].fill(R::ZERO);
            }
        }
    }
}

/// Sets a random rectangle to 0.
fn erase<R: Real>(x: &mut [R], columns: usize, area: &RangeInclusive<f64>, rng: &mut impl RngCore) {
    let rows = x.len() / columns;
    for _ in 0..TRIES {
        let mut between = |low: f64, high: f64| low + (high - low) * rng::unit(rng);
        let pixels = between(*area.start(), *area.end()) * x.len() as f64;
        let ratio = between(0.3, 1.0 / 0.3);
        let side = |length: f64| (length.sqrt().round() as usize).max(1);
        let (height, width) = (side(pixels * ratio), side(pixels / ratio));
        if height <= rows && width <= columns {
            let top = rng::below(rng, (rows - height) as u64 + 1) as usize;
            let left = rng::below(rng, (columns - width) as u64 + 1) as usize;
            for row in x.chunks_exact_mut(columns).skip(top).take(height) {
                row[left..left + width].fill(R::ZERO);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{Array1, Array3, array};

    use super::*;
    use crate::data::{Arrays, Batch, DatasetExt, Draw, Images, shuffle};

    /// Three rows of four pixels, 1 to 12.
    const X: [f64; 12] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];

    fn shifted(down: isize, right: isize) -> [f64; 12] {
        let mut x = X;
        shift(&mut x, 4, down, right);
        x
    }

    #[test]
    fn shifts_by_hand() {
        let o = 0.0;
        assert_eq!(shifted(0, 0), X);
        assert_eq!(shifted(1, 0), [o, o, o, o, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(shifted(-2, 0), [9.0, 10.0, 11.0, 12.0, o, o, o, o, o, o, o, o]);
        assert_eq!(shifted(0, 1), [o, 1.0, 2.0, 3.0, o, 5.0, 6.0, 7.0, o, 9.0, 10.0, 11.0]);
        assert_eq!(shifted(0, -3), [4.0, o, o, o, 8.0, o, o, o, 12.0, o, o, o]);
        assert_eq!(shifted(-1, 2), [o, o, 5.0, 6.0, o, o, 9.0, 10.0, o, o, o, o]);
        assert_eq!(shifted(2, -1), [o, o, o, o, o, o, o, o, 2.0, 3.0, 4.0, o]);
    }

    /// One image of 3 × 4 pixels, and a thousand draws of it changed.
    fn draws(augment: impl Fn(Augment<Arrays<f64>>) -> Augment<Arrays<f64>>) -> Vec<Vec<f64>> {
        let x = Array3::from_shape_vec((1, 3, 4), X.to_vec()).unwrap();
        let data = augment(Augment::new(Arrays::classes(x, &[0], ["a"]).unwrap())).build().unwrap();
        let draw = |key| {
            let mut x = vec![7.0; 12];
            data.read(Sample::new(0, key), &mut x);
            x
        };
        (1..=1000).map(draw).collect()
    }

    #[test]
    fn shifts_are_uniform() {
        let mut counts = BTreeMap::new();
        let all: Vec<_> = (-2..=2).flat_map(|down| (-2..=2).map(move |right| shifted(down, right))).collect();
        for x in draws(|data| data.shift(2)) {
            *counts.entry(all.iter().position(|y| y[..] == x[..]).unwrap()).or_insert(0_i32) += 1;
        }
        // 25 shifts; sd of a count: √(1000 · 24) / 25 = 6.2.
        assert_eq!(counts.len(), 25);
        assert!(counts.values().all(|count| (count - 40).abs() < 5 * 7), "{counts:?}");
    }

    #[test]
    fn rows_are_mirrored_with_probability_p() {
        let mirrored = [4.0, 3.0, 2.0, 1.0, 8.0, 7.0, 6.0, 5.0, 12.0, 11.0, 10.0, 9.0];
        let (flipped, same): (Vec<_>, Vec<_>) =
            draws(|data| data.flip(0.2)).into_iter().partition(|x| x[..] != X);
        assert!(flipped.iter().all(|x| x[..] == mirrored));
        // sd: √(1000 · 0.2 · 0.8) = 12.6
        assert!((flipped.len() as i32 - 200).abs() < 5 * 13 && flipped.len() + same.len() == 1000);
        assert!(draws(|data| data.flip(1.0)).iter().all(|x| x[..] == mirrored));
    }

    #[test]
    fn two_epochs_show_both_sides() {
        let x = Array3::from_shape_fn((100, 3, 2), |(i, t, column)| (10 * i + 2 * t + column) as f64);
        let data =
            Augment::new(Arrays::classes(x, &[0; 100], ["a"]).unwrap()).flip_alternately().build().unwrap();
        let mirrored = |sample| {
            let mut x = [0.0; 6];
            data.read(sample, &mut x);
            let rises = x.chunks_exact(2).filter(|row| row[0] < row[1]).count();
            assert!(rises == 0 || rises == 3, "{x:?}");
            rises == 0
        };
        let epoch = |epoch: usize| -> Vec<bool> {
            (0..100)
                .map(|index| mirrored(Sample::of(Draw::new(index), epoch, 1 + u64::from(index))))
                .collect()
        };
        let epochs = [1, 2, 3, 4].map(epoch);
        assert!(epochs[0].iter().zip(&epochs[1]).all(|(odd, even)| odd != even));
        assert!(epochs[0] == epochs[2] && epochs[1] == epochs[3]);
        // sd: √(100 / 4) = 5
        let count = epochs[0].iter().filter(|&&mirrored| mirrored).count() as i32;
        assert!((count - 50).abs() < 5 * 5, "{count}");
        assert!((0..100).all(|index| !mirrored(Sample::plain(index))));
    }

    #[test]
    fn what_is_erased_is_a_rectangle() {
        let mut areas = BTreeMap::new();
        for x in draws(|data| data.erase_area(0.5, 0.15..=0.5)) {
            let gone: Vec<usize> = (0..12).filter(|&i| x[i] == 0.0).collect();
            assert!((0..12).all(|i| x[i] == X[i] || x[i] == 0.0));
            if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
                let [(top, left), (bottom, right)] = [first, last].map(|i| (i / 4, i % 4));
                let inside =
                    |i: &usize| (top..=bottom).contains(&(i / 4)) && (left..=right).contains(&(i % 4));
                assert_eq!((0..12).filter(inside).collect::<Vec<_>>(), gone);
            }
            *areas.entry(gone.len()).or_insert(0_i32) += 1;
        }
        // Half is unchanged; sd: √(1000 / 4) = 15.8. The other half loses 1.8 to 6 pixels before rounding.
        assert!((areas[&0] - 500).abs() < 5 * 16, "{areas:?}");
        assert!(
            areas.contains_key(&2) && areas.contains_key(&6) && !areas.keys().any(|&n| n > 8),
            "{areas:?}"
        );
    }

    #[test]
    fn rectangles_reach_every_pixel_and_share_the_area() {
        let images = Images::new(Array3::from_elem((1, 28, 28), 255), vec![0], ["a"]).unwrap().cast::<f64>();
        let data = Augment::new(&images).erase(1.0).build().unwrap();
        let (mut sum, mut reached) = (0.0, vec![0.0; 784]);
        let mut x = vec![0.0; 784];
        for key in 1..=2000 {
            data.read(Sample::new(0, key), &mut x);
            let share = x.iter().filter(|&&x| x == 0.0).count() as f64 / 784.0;
            assert!((0.01..0.36).contains(&share), "{share}");
            sum += share;
            reached.iter_mut().zip(&x).for_each(|(r, x)| *r += 1.0 - x);
        }
        // Uniform from 0.02 to 0.33, except that large ones that do not fit are drawn again.
        let mean = sum / 2000.0;
        assert!((mean - 0.17).abs() < 0.015, "{mean}");
        assert!(reached.iter().all(|&n| n > 0.0));
        // The middle is covered more than a corner.
        assert!(reached[14 * 28 + 14] > 3.0 * reached[0]);
    }

    #[test]
    fn noise_has_its_sd() {
        let noise: Vec<f64> =
            draws(|data| data.noise(0.3)).iter().flat_map(|x| (0..12).map(|i| x[i] - X[i])).collect();
        let n = noise.len() as f64;
        let mean = noise.iter().sum::<f64>() / n;
        let variance = noise.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * 0.3 / n.sqrt(), "{mean}");
        assert!((variance / 0.09 - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
    }

    fn images(n: usize) -> Images<f64> {
        let pixels = Array3::from_shape_fn((n, 5, 6), |(i, t, f)| (1 + (i * 31 + t * 7 + f) % 255) as u8);
        let labels: Array1<u8> = (0..n).map(|i| (i % 3) as u8).collect();
        Images::new(pixels, labels, ["a", "b", "c"]).unwrap().cast()
    }

    #[test]
    fn the_order_of_access_changes_nothing() {
        let images = images(40);
        let data = Augment::new(&images).shift(2).flip(0.5).erase(0.5).noise(0.1).build().unwrap();
        let order = Draw::all(shuffle(40, 1, 2));
        let normalize = Normalize::scalar(0.3, 0.5).unwrap();
        let gathered = |samples: &[Sample]| {
            let mut x = vec![9.0; 30 * samples.len()];
            let tile = SeqMut::new(&mut x, data.shape(), samples.len());
            data.gather(samples, &normalize, &mut [0.0; 30], tile);
            x
        };
        let draws: Vec<Sample> = Batch::new(&order, 2, 0).samples(1).collect();
        let whole = gathered(&draws);
        for (lane, draw) in draws.iter().enumerate().rev() {
            let alone = gathered(&[*draw]);
            assert!((0..30).all(|i| alone[i] == whole[i * 40 + lane]), "sample {lane}");
        }
        let other = gathered(&Batch::new(&order, 3, 0).samples(1).collect::<Vec<_>>());
        assert!((0..40).all(|lane| (0..30).any(|i| other[i * 40 + lane] != whole[i * 40 + lane])));
    }

    #[test]
    fn shapes_and_targets_are_unchanged_and_evaluation_sees_the_originals() {
        let images = images(10);
        let augmented = Augment::new(&images).shift(4).flip(1.0).erase(1.0).noise(1.0).build().unwrap();
        assert_eq!(
            (augmented.len(), augmented.shape(), augmented.target_shape()),
            (10, Shape::new(5, 6), TargetShape::Classes { t: 1 })
        );
        assert_eq!(augmented.class_names(), images.class_names());
        let (mut class, mut x, mut y) = ([9], vec![1.0; 30], vec![2.0; 30]);
        for index in 0..10 {
            augmented.classes(Sample::new(index, 5), &mut class);
            assert_eq!(class, [(index % 3) as i64]);
            augmented.read(Sample::plain(index), &mut x);
            images.read(Sample::plain(index), &mut y);
            assert_eq!(x, y);
        }
        let plain: Vec<Sample> = (0..10).map(Sample::plain).collect();
        let (mut a, mut b) = (vec![1.0; 480], vec![2.0; 480]);
        let normalize = images.mean_sd().unwrap();
        assert_eq!(augmented.mean_sd().unwrap(), normalize);
        let shape = images.shape();
        augmented.gather(&plain, &normalize, &mut x, SeqMut::new(&mut a, shape, 16));
        images.gather(&plain, &normalize, &mut y, SeqMut::new(&mut b, shape, 16));
        assert_eq!(a, b);

        let values =
            Arrays::values(Array3::<f64>::ones((2, 3, 4)), array![[[1.0, 2.0]], [[3.0, 4.0]]]).unwrap();
        let augmented = Augment::new(&values as &dyn Dataset<Elem = f64>).noise(1.0).build().unwrap();
        assert_eq!(augmented.target_shape(), TargetShape::Values(Shape::new(1, 2)));
        let mut y = [0.0; 2];
        augmented.values(Sample::new(1, 3), &mut y);
        assert_eq!(y, [3.0, 4.0]);
    }

    #[test]
    fn padding_stays_as_it_is() {
        let x = Arrays::classes(Array3::<f64>::ones((2, 3, 4)), &[0, 0], ["a"]).unwrap();
        let x = x.lengths([2, 3]).unwrap();
        let data = Augment::new(&x).noise(1.0).build().unwrap();
        let mut y = [0.0; 12];
        for (index, own) in [(0, 8), (1, 12)] {
            let draw = Sample::new(index, 1);
            data.read(draw, &mut y);
            assert_eq!(data.length(draw), Some(own / 4));
            assert!((0..12).all(|i| (y[i] == 1.0) == (i >= own)), "{y:?}");
        }
    }

    #[test]
    fn nested_augmentations_draw_different_numbers() {
        let x = Arrays::classes(Array3::<f64>::zeros((1, 10, 10)), &[0], ["a"]).unwrap();
        let once = Augment::new(&x).noise(1.0).build().unwrap();
        let twice = Augment::new(&once).noise(1.0).build().unwrap();
        let (mut a, mut b) = (vec![0.0; 100], vec![0.0; 100]);
        once.read(Sample::new(0, 1), &mut a);
        twice.read(Sample::new(0, 1), &mut b);
        // The same numbers twice would be twice the first ones.
        assert!(a.iter().zip(&b).all(|(a, b)| (b - 2.0 * a).abs() > 1e-9));
    }

    #[test]
    fn bad_settings_are_errors() {
        let images = images(2);
        let message = |augment: Augment<&Images<f64>>| augment.build().unwrap_err().to_string();
        let new = || Augment::new(&images);
        assert_eq!(
            message(new().shift(5)),
            "`shift`: found 5, expected less than either side of a sample of [5, 6]"
        );
        assert_eq!(message(new().flip(1.5)), "`flip`: found 1.5, expected a probability, 0 to 1");
        assert_eq!(message(new().erase(f64::NAN)), "`erase`: found NaN, expected a probability, 0 to 1");
        for (low, high) in [(0.0, 0.5), (0.5, 0.4), (0.5, 1.1), (f64::NAN, 0.5)] {
            assert!(message(new().erase_area(0.5, low..=high)).contains("expected shares of an area"));
        }
        assert!(message(new().shift(1).noise(-0.1)).contains("that is not negative"));
    }
}
