//! How parameters are initialised.

use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::{Axis, orthogonal};
use crate::{Error, Real, Result, rng};

/// How a tensor is initialised.
///
/// Names and rules are those of `torch.nn.init`. A tensor `[out, in]` has fan_in = `in` and fan_out = `out`; further
/// axes count towards both. The four gates of an LSTM are one tensor `[4H, in]`, so fan_out is 4H there, as in PyTorch.
///
/// # Source
/// Xavier: Glorot & Bengio 2010; Kaiming: He et al. 2015; orthogonal: Saxe, McClelland & Ganguli 2014; the bias of
/// the forget gate: Gers et al. 2000, Jozefowicz et al. 2015.
///
/// # Examples
/// ```
/// use bptt::{Init, Model, Shape, nn::Lstm};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(28, 28))
///     .layer("lstm", Lstm::new(2))
///     .init("*.weight_hh_*", Init::OrthogonalBlocks(1.0))
///     .init("*.bias_*", Init::Constant(0.0))
///     .init("*.bias_ih_*", Init::ForgetGate(1.0))
///     .build(1)?;
/// let bias = model.params().get("lstm.bias_ih_l0").unwrap();
/// assert_eq!(bias.as_slice().unwrap(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Uniform over (−bound, bound).
    Uniform(f64),
    /// N(0, sd²).
    Normal(f64),
    /// U(±gain √(6 / (fan_in + fan_out))).
    XavierUniform(f64),
    /// N(0, sd²) with sd = gain √(2 / (fan_in + fan_out)).
    XavierNormal(f64),
    /// U(±√(6 / fan_in)): the gain is that of ReLU, √2.
    KaimingUniform,
    /// N(0, 2 / fan_in): the gain is that of ReLU, √2.
    KaimingNormal,
    /// `gain` times a random matrix with orthonormal rows, or columns where there are more rows than columns.
    Orthogonal(f64),
    /// The same for each block of units separately: for a weight `[4H, H]`, one orthogonal matrix per gate.
    OrthogonalBlocks(f64),
    /// Sets block 1 of 4, the forget gate of an LSTM, to this value, and leaves the other blocks as they are.
    ///
    /// It is meant for `bias_ih`, to which `bias_hh` is added.
    ForgetGate(f64),
}

impl Init {
    /// PyTorch's default for a layer that sums `fan` inputs (for a recurrent one, `fan` = H): U(±1/√fan).
    pub fn pytorch(fan: usize) -> Self {
        Self::Uniform(1.0 / (fan.max(1) as f64).sqrt())
    }

    /// Fills `values` from the stream of random numbers that `key` names.
    ///
    /// # Panics
    /// If the rule needs more than one axis; see [`fill_tensor`](Self::fill_tensor).
    #[track_caller]
    pub fn fill<R: Real>(self, values: &mut [R], key: u64) {
        self.fill_tensor(&[Axis::from(values.len())], values, key);
    }

    /// Fills a tensor with these axes from the stream of random numbers that `key` names.
    ///
    /// # Panics
    /// If the rule [does not fit](Self::check) the axes, or the axes do not fit the values.
    #[track_caller]
    pub fn fill_tensor<R: Real>(self, axes: &[Axis], values: &mut [R], key: u64) {
        assert!(self.check("", axes).is_ok(), "{self:?} does not fit the axes {axes:?}");
        assert_eq!(values.len(), axes.iter().map(Axis::size).product::<usize>(), "values of a tensor");
        if values.is_empty() {
            return;
        }
        let mut rng = rng::rng(key);
        let (fan_in, fan_out) = fans(axes);
        match self {
            Self::Constant(c) => values.fill(R::from_f64(c)),
            Self::Uniform(bound) => uniform(values, bound, &mut rng),
            Self::Normal(sd) => normal(values, sd, &mut rng),
            Self::XavierUniform(gain) => uniform(values, gain * (6.0 / (fan_in + fan_out)).sqrt(), &mut rng),
            Self::XavierNormal(gain) => normal(values, gain * (2.0 / (fan_in + fan_out)).sqrt(), &mut rng),
            Self::KaimingUniform => uniform(values, (6.0 / fan_in).sqrt(), &mut rng),
            Self::KaimingNormal => normal(values, (2.0 / fan_in).sqrt(), &mut rng),
            Self::Orthogonal(gain) => orthogonal::fill(values, axes[0].size(), gain, &mut rng),
            Self::OrthogonalBlocks(gain) => {
                let (size, blocks) = (axes[0].size(), axes[0].blocks());
                for block in values.chunks_exact_mut(values.len() / blocks) {
                    orthogonal::fill(block, size / blocks, gain, &mut rng);
                }
            }
            Self::ForgetGate(value) => {
                let block = values.len() / 4;
                values[block..2 * block].fill(R::from_f64(value));
            }
        }
    }

    /// Checks that this rule can initialise the tensor `name` with these axes.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is not finite, or a spread is negative; if the rule needs fans or a matrix and the
    /// tensor has one axis; or if the rule is [`Init::ForgetGate`] and the first axis does not have four blocks.
    pub fn check(self, name: &str, axes: &[Axis]) -> Result<()> {
        let bad = |fault: String| Err(Error::config(name, fault));
        if let Self::Constant(x) | Self::ForgetGate(x) = self
            && !x.is_finite()
        {
            return bad(format!("found {self:?}, expected a finite value"));
        }
        if let Self::Uniform(x)
        | Self::Normal(x)
        | Self::XavierUniform(x)
        | Self::XavierNormal(x)
        | Self::Orthogonal(x)
        | Self::OrthogonalBlocks(x) = self
            && !(x.is_finite() && x >= 0.0)
        {
            return bad(format!("found {self:?}, expected a finite number that is not negative"));
        }
        match self {
            Self::Constant(_) | Self::Uniform(_) | Self::Normal(_) => Ok(()),
            Self::ForgetGate(_) if axes.first().is_some_and(|axis| axis.blocks() == 4) => Ok(()),
            Self::ForgetGate(_) => bad(format!("found {self:?}, expected it for the four gates of an LSTM")),
            _ if axes.len() >= 2 => Ok(()),
            _ => bad(format!("found {self:?} for a tensor of one axis, expected at least two axes")),
        }
    }
}

/// fan_in and fan_out, as in PyTorch's `_calculate_fan_in_and_fan_out`.
fn fans(axes: &[Axis]) -> (f64, f64) {
    let size = |i: usize| axes.get(i).map_or(1.0, |axis| axis.size() as f64);
    let field: f64 = axes.iter().skip(2).map(|axis| axis.size() as f64).product();
    (size(1) * field, size(0) * field)
}

fn uniform<R: Real>(values: &mut [R], bound: f64, rng: &mut impl RngCore) {
    values.iter_mut().for_each(|x| *x = R::from_f64((2.0 * rng::unit(rng) - 1.0) * bound));
}

fn normal<R: Real>(values: &mut [R], sd: f64, rng: &mut impl RngCore) {
    for pair in values.chunks_mut(2) {
        pair.iter_mut().zip(rng::normals(rng)).for_each(|(x, z)| *x = R::from_f64(sd * z));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `[4 · 50, 300]` weight: four blocks of 50 units.
    fn axes() -> [Axis; 2] {
        [Axis::units("lstm", 50, 4), Axis::from(300)]
    }

    fn filled(init: Init) -> Vec<f64> {
        let mut x = vec![7.0; 200 * 300];
        init.fill_tensor(&axes(), &mut x, 1);
        x
    }

    /// Mean 0, sd as expected, each to 5 standard errors; and the largest |x|.
    fn assert_spread(init: Init, x: &[f64], sd: f64, kurtosis: f64) -> f64 {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * sd / n.sqrt(), "{init:?}: mean {mean}");
        let error = 5.0 * ((kurtosis - 1.0) / n).sqrt();
        assert!((variance / (sd * sd) - 1.0).abs() < error, "{init:?}: variance {variance}, sd {sd}");
        x.iter().fold(0.0, |max, x| max.max(x.abs()))
    }

    #[test]
    fn uniforms_have_their_bounds_and_moments() {
        for (init, bound) in [
            (Init::pytorch(4), 0.5),
            (Init::Uniform(0.3), 0.3),
            // √(6 / (300 + 200))
            (Init::XavierUniform(2.0), 2.0 * 0.109_544_511_501_033_2),
            // √(6 / 300)
            (Init::KaimingUniform, 0.141_421_356_237_309_5),
        ] {
            let max = assert_spread(init, &filled(init), bound / 3f64.sqrt(), 1.8);
            assert!(max < bound && max > 0.999 * bound, "{init:?}: {max}, bound {bound}");
        }
    }

    #[test]
    fn normals_have_their_moments() {
        for (init, sd) in [
            (Init::Normal(0.3), 0.3),
            // √(2 / (300 + 200))
            (Init::XavierNormal(2.0), 2.0 * 0.063_245_553_203_367_6),
            // √(2 / 300)
            (Init::KaimingNormal, 0.081_649_658_092_772_6),
        ] {
            let max = assert_spread(init, &filled(init), sd, 3.0);
            // Of 60,000, one beyond 3.5 sd is almost certain, one beyond 6.5 almost impossible.
            assert!(max > 3.5 * sd && max < 6.5 * sd, "{init:?}: {max}");
        }
    }

    #[test]
    fn further_axes_count_to_both_fans() {
        let axes = [2, 3, 5, 7].map(Axis::from);
        assert_eq!(fans(&axes), (105.0, 70.0));
        assert_eq!(fans(&axes[..2]), (3.0, 2.0));
    }

    /// The largest |(A Aᵀ − g² 1)| over the rows of A.
    fn off_orthonormal(a: &[f64], columns: usize, square: f64) -> f64 {
        let rows: Vec<&[f64]> = a.chunks_exact(columns).collect();
        let mut worst = 0f64;
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                let product: f64 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
                worst = worst.max((product - if i == j { square } else { 0.0 }).abs());
            }
        }
        worst
    }

    #[test]
    fn orthogonal_by_rows_or_by_columns() {
        // More columns than rows: the rows are orthonormal.
        let wide = filled(Init::Orthogonal(3.0));
        assert!(off_orthonormal(&wide, 300, 9.0) < 1e-13);
        // More rows than columns: the columns are.
        let mut tall = vec![0.0; 300 * 200];
        Init::Orthogonal(1.0).fill_tensor(&[300, 200].map(Axis::from), &mut tall, 1);
        let columns: Vec<f64> = (0..60_000).map(|i| tall[i % 300 * 200 + i / 300]).collect();
        assert!(off_orthonormal(&columns, 300, 1.0) < 1e-13);
    }

    #[test]
    fn each_block_is_orthogonal_by_itself() {
        let axes = [Axis::units("lstm", 50, 4), Axis::from(50)];
        let mut x = vec![0.0; 200 * 50];
        Init::OrthogonalBlocks(1.0).fill_tensor(&axes, &mut x, 1);
        for block in x.chunks(2500) {
            assert!(off_orthonormal(block, 50, 1.0) < 1e-13);
        }
        assert!(x[..2500] != x[2500..5000]);
        // Made as one matrix, its columns would have squared length 1; as four blocks they have 4.
        Init::Orthogonal(1.0).fill_tensor(&axes, &mut x, 1);
        let columns: Vec<f64> = (0..10_000).map(|i| x[i % 200 * 50 + i / 200]).collect();
        assert!(off_orthonormal(&columns, 200, 1.0) < 1e-13);
        assert!(off_orthonormal(&x[..2500], 50, 1.0) > 0.1);
    }

    /// A matrix of one column is a direction: all are equally likely, so no sign is favoured.
    #[test]
    fn orthogonal_favours_no_direction() {
        let mut positive = 0;
        for key in 0..1000 {
            let mut x = [0f64; 2];
            Init::Orthogonal(1.0).fill_tensor(&[2, 1].map(Axis::from), &mut x, key);
            positive += i32::from(x[0] > 0.0);
        }
        // sd: √(1000 / 4) = 15.8
        assert!((positive - 500).abs() < 5 * 16, "{positive}");
    }

    #[test]
    fn a_forget_gate_leaves_the_rest() {
        let mut bias = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        Init::ForgetGate(0.5).fill_tensor(&[Axis::units("lstm", 2, 4)], &mut bias, 1);
        assert_eq!(bias, [1.0, 2.0, 0.5, 0.5, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn a_key_names_a_stream() {
        for init in [Init::Uniform(1.0), Init::Normal(1.0), Init::Orthogonal(1.0)] {
            let (mut a, mut b, mut c) = ([0f32; 6], [0f32; 6], [0f32; 6]);
            let axes = [2, 3].map(Axis::from);
            init.fill_tensor(&axes, &mut a, 1);
            init.fill_tensor(&axes, &mut b, 1);
            init.fill_tensor(&axes, &mut c, 2);
            assert_eq!(a, b);
            assert_ne!(a, c);
        }
    }

    #[test]
    fn rules_that_do_not_fit_are_errors() {
        let message = |init: Init, axes: &[Axis]| init.check("w", axes).unwrap_err().to_string();
        let vector = [Axis::from(8)];
        for init in [Init::XavierNormal(1.0), Init::KaimingUniform, Init::OrthogonalBlocks(1.0)] {
            assert!(message(init, &vector).ends_with("a tensor of one axis, expected at least two axes"));
            assert!(init.check("w", &axes()).is_ok());
        }
        assert_eq!(
            message(Init::ForgetGate(1.0), &vector),
            "`w`: found ForgetGate(1.0), expected it for the four gates of an LSTM"
        );
        assert!(message(Init::Constant(f64::NAN), &vector).contains("expected a finite value"));
        assert!(message(Init::Normal(-1.0), &vector).contains("that is not negative"));
        assert!(message(Init::Orthogonal(f64::INFINITY), &axes()).contains("that is not negative"));
    }

    #[test]
    #[should_panic(expected = "KaimingNormal does not fit the axes")]
    fn filling_by_a_rule_that_does_not_fit_panics() {
        Init::KaimingNormal.fill(&mut [0f32; 3], 1);
    }

    #[test]
    fn rules_go_through_json() {
        for (init, json) in [
            (Init::Uniform(0.5), r#"{"uniform":0.5}"#),
            (Init::KaimingNormal, r#""kaiming_normal""#),
            (Init::OrthogonalBlocks(1.0), r#"{"orthogonal_blocks":1.0}"#),
        ] {
            assert_eq!(serde_json::to_string(&init).unwrap(), json);
            assert_eq!(serde_json::from_str::<Init>(json).unwrap(), init);
        }
    }
}
