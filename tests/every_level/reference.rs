//! Recurrent layers and their gradients against loops as plain as the equations, at odd sizes and at every SIMD level.

use bptt::data::{Arrays, Batch, Draw};
use bptt::loss::Mse;
use bptt::nn::{Gru, Layer, LayerNormLstm, Lstm, PeepholeLstm, Rnn};
use bptt::optim::Sgd;
use bptt::{Arena, Model, Real, Result, Shape, Trainer, rng};
use ndarray::{Array, Array2, Array3, ShapeBuilder, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

use crate::common::assert_close;

const LAYERS: usize = 2;
const FEATURES: usize = 5;
/// That of layer normalisation: of the one or few units of a small layer the norm is steep, which a larger ε tempers.
const EPS: f64 = 0.01;

/// Reproducible values from −1 to 1.
fn noise<Sh: ShapeBuilder>(shape: Sh, salt: usize) -> Array<f64, Sh::Dim> {
    Array::random_using(shape, Uniform::new(-1.0, 1.0).expect("a range"), &mut rng::rng(salt as u64))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Lstm,
    Peephole,
    LayerNorm,
    Projected,
    Gru,
    GruResetBefore,
    Rnn,
}

/// One layer's tensors.
struct Tensors {
    w: Array2<f64>,
    u: Array2<f64>,
    b: Vec<f64>,
    b_h: Vec<f64>,
    /// Those of the cell's own, in their order.
    own: Vec<Vec<f64>>,
    projection: Option<Array2<f64>>,
}

impl Tensors {
    fn new(cell: Cell, params: &Arena<f64>, layer: usize) -> Self {
        let get = |name: &str| params.get(&format!("rnn.{name}_l{layer}"));
        let matrix = |name: &str| get(name).map(|w| w.to_owned().into_dimensionality().expect("a matrix"));
        let w: Array2<f64> = matrix("weight_ih").expect("a tensor of the layer");
        let vector = |name: &str| get(name).map(|b| b.iter().copied().collect::<Vec<f64>>());
        let bias = |name: &str| vector(name).unwrap_or(vec![0.0; w.nrows()]);
        let own = cell.own().iter().map(|name| vector(name).expect("a tensor of the cell")).collect();
        let (b, b_h) = (bias("bias_ih"), bias("bias_hh"));
        let u = matrix("weight_hh").expect("a tensor of the layer");
        Self { u, b, b_h, own, projection: matrix("weight_hr"), w }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// γ ⊙ (v − mean) / √(variance + ε) + β
fn norm(v: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    let variance = v.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    let scaled = v.iter().map(|v| (v - mean) / (variance + EPS).sqrt());
    scaled.zip(gain).zip(bias).map(|((v, gain), bias)| gain * v + bias).collect()
}

/// y + M x
fn affine<'a>(m: ndarray::ArrayView2<'a, f64>, x: ndarray::ArrayView1<'a, f64>, y: &[f64]) -> Vec<f64> {
    m.rows().into_iter().zip(y).map(|(row, y)| y + row.dot(&x)).collect()
}

impl Cell {
    fn layer<R: Real>(self, hidden: usize) -> Box<dyn Layer<R>> {
        match self {
            Self::Lstm => Box::new(Lstm::new(hidden).layers(LAYERS)),
            Self::Peephole => Box::new(PeepholeLstm::new(hidden).layers(LAYERS)),
            Self::LayerNorm => Box::new(LayerNormLstm::new(hidden).eps(EPS).layers(LAYERS)),
            Self::Projected => Box::new(Lstm::new(hidden + 2).proj_size(hidden).layers(LAYERS)),
            Self::Gru => Box::new(Gru::new(hidden).layers(LAYERS)),
            Self::GruResetBefore => Box::new(Gru::new(hidden).reset_after(false).layers(LAYERS)),
            Self::Rnn => Box::new(Rnn::new(hidden).layers(LAYERS)),
        }
    }

    /// The beginnings of the names of the cell's own tensors.
    fn own(self) -> &'static [&'static str] {
        match self {
            Self::Peephole => &["weight_pi", "weight_pf", "weight_po"],
            Self::LayerNorm => {
                &["weight_ln_ih", "bias_ln_ih", "weight_ln_hh", "bias_ln_hh", "weight_ln_c", "bias_ln_c"]
            }
            _ => &[],
        }
    }

    /// The next h, and the next c in place of the one before.
    fn step(self, p: &Tensors, x: ndarray::ArrayView1<'_, f64>, h: &[f64], c: &mut [f64]) -> Vec<f64> {
        let h_prev = ndarray::ArrayView1::from(h);
        let (mut a, mut u) = (affine(p.w.view(), x, &p.b), affine(p.u.view(), h_prev, &p.b_h));
        if self == Self::LayerNorm {
            (a, u) = (norm(&a, &p.own[0], &p.own[1]), norm(&u, &p.own[2], &p.own[3]));
        }
        let units = c.len();
        let sum = |gate: usize, k: usize| a[gate * units + k] + u[gate * units + k];
        match self {
            Self::Rnn => (0..units).map(|k| sum(0, k).tanh()).collect(),
            Self::Gru => (0..units)
                .map(|k| {
                    let [r, z] = [0, 1].map(|gate| sigmoid(sum(gate, k)));
                    (1.0 - z) * (a[2 * units + k] + r * u[2 * units + k]).tanh() + z * h[k]
                })
                .collect(),
            Self::GruResetBefore => {
                let reset: Vec<f64> = (0..units).map(|k| sigmoid(sum(0, k)) * h[k]).collect();
                let reset = ndarray::ArrayView1::from(&reset);
                let n = affine(p.u.slice(s![2 * units.., ..]), reset, &p.b_h[2 * units..]);
                let next = |k: usize| {
                    let z = sigmoid(sum(1, k));
                    (1.0 - z) * (a[2 * units + k] + n[k]).tanh() + z * h[k]
                };
                (0..units).map(next).collect()
            }
            Self::Lstm | Self::Projected | Self::Peephole | Self::LayerNorm => {
                let peephole = |gate: usize, k: usize| match self {
                    Self::Peephole => p.own[gate][k],
                    _ => 0.0,
                };
                let mut o = vec![0.0; units];
                for k in 0..units {
                    let i = sigmoid(sum(0, k) + peephole(0, k) * c[k]);
                    let f = sigmoid(sum(1, k) + peephole(1, k) * c[k]);
                    c[k] = f * c[k] + i * sum(2, k).tanh();
                    o[k] = sigmoid(sum(3, k) + peephole(2, k) * c[k]);
                }
                let seen = match self {
                    Self::LayerNorm => norm(c, &p.own[4], &p.own[5]),
                    _ => c.to_vec(),
                };
                let m: Vec<f64> = o.iter().zip(seen).map(|(o, c)| o * c.tanh()).collect();
                match &p.projection {
                    Some(hr) => affine(hr.view(), ndarray::ArrayView1::from(&m), &vec![0.0; hr.nrows()]),
                    None => m,
                }
            }
        }
    }

    /// All h of the last layer, `[batch, time, hidden]`.
    fn outputs(self, params: &Arena<f64>, x: &Array3<f64>) -> Array3<f64> {
        let mut x = x.clone();
        for layer in 0..LAYERS {
            let tensors = Tensors::new(self, params, layer);
            let (batch, time, _) = x.dim();
            let gates = match self {
                Self::Rnn => 1,
                Self::Gru | Self::GruResetBefore => 3,
                _ => 4,
            };
            let (units, width) = (tensors.u.nrows() / gates, tensors.u.ncols());
            let mut y = Array3::zeros((batch, time, width));
            for sample in 0..batch {
                let (mut h, mut c) = (vec![0.0; width], vec![0.0; units]);
                for t in 0..time {
                    h = self.step(&tensors, x.slice(s![sample, t, ..]), &h, &mut c);
                    y.slice_mut(s![sample, t, ..]).assign(&ndarray::ArrayView1::from(&h));
                }
            }
            x = y;
        }
        x
    }
}

/// Outputs, and the gradient of their mean squared distance from `y`.
fn ours<R: Real>(
    cell: Cell,
    hidden: usize,
    x: &Array3<f64>,
    y: &Array3<f64>,
) -> Result<(Vec<f64>, Model<R>, Vec<f64>)>
where
    Mse: bptt::loss::Loss<R>,
    Sgd: bptt::optim::Optimizer<R>,
{
    let (batch, time, features) = x.dim();
    let (x, y) = (x.mapv(R::from_f64), y.mapv(R::from_f64));
    let model = Model::builder(Shape::new(time, features)).boxed("rnn", cell.layer(hidden)).build(3)?;
    let outputs = model.predict(&x)?;
    let data = Arrays::values(x, y)?;
    let trainer = Trainer::new(Mse, Sgd::new(0.1)).batch_size(batch);
    let indices = Draw::all(0..batch as u32);
    let mut stepper = trainer.stepper(&model, &data)?;
    stepper.gradients(&model, &data, Batch::new(&indices, 1, 0))?;
    let wide = |values: &[R]| values.iter().map(|v| v.to_f64()).collect();
    let gradient = wide(stepper.grads().as_slice());
    let outputs = outputs.iter().map(|v| v.to_f64()).collect();
    Ok((outputs, model, gradient))
}

fn check(cell: Cell) -> Result<()> {
    let sizes = [1, 3, 35, 37].into_iter().flat_map(|hidden| {
        [1, 7, 33, 100].into_iter().flat_map(move |batch| [1, 28].map(|time| (hidden, batch, time)))
    });
    // And sequences longer than the chunks that they are taken in.
    // Cells that share most of the code with these do with a few.
    let all = matches!(cell, Cell::Lstm | Cell::Gru | Cell::Rnn);
    let sizes =
        sizes.filter(|&(hidden, batch, time)| all || hidden * batch == 37 * 7 || (batch, time) == (33, 1));
    // A norm divides by what little the values of a layer differ, and rounding errors grow by that, layer by layer.
    let steepness = if cell == Cell::LayerNorm { 30.0 } else { 1.0 };
    for (hidden, batch, time) in sizes.chain([(5, 3, 33), (13, 9, 77)]) {
        let what = format!("{cell:?}, H {hidden}, B {batch}, T {time}");
        let (x, y) = (noise((batch, time, FEATURES), 1), noise((batch, time, hidden), 2));

        let (outputs, model, gradient) = ours::<f64>(cell, hidden, &x, &y)?;
        let expected = cell.outputs(model.params(), &x);
        let expected = expected.as_slice().expect("in order");
        assert_close(&format!("{what}, outputs"), &outputs, expected, steepness * 1e-14);
        let (single, _, single_gradient) = ours::<f32>(cell, hidden, &x, &y)?;
        assert_close(&format!("{what}, outputs in f32"), &single, expected, steepness * 2e-6);

        // What the loss of the plain loops changes by along a direction, against the gradient along it.
        for (index, tensor) in model.params().layout().tensors().iter().enumerate() {
            let what = format!("{what}, gradient of {}", tensor.name);
            let range = tensor.range();
            let direction = noise(range.len(), 3 + index);
            let loss = |step: f64| {
                let mut params = model.params().clone();
                let moved = &mut params.as_mut_slice()[range.clone()];
                moved.iter_mut().zip(&direction).for_each(|(p, d)| *p += step * d);
                (cell.outputs(&params, &x) - &y).mapv(|d| d * d).mean().expect("values")
            };
            let step = 1e-4 / direction.iter().map(|d| d * d).sum::<f64>().sqrt();
            let difference = |step: f64| (loss(step) - loss(-step)) / (2.0 * step);
            // Of fourth order for the norm, whose third derivatives are large.
            let slope = match cell {
                Cell::LayerNorm => (4.0 * difference(step) - difference(2.0 * step)) / 3.0,
                _ => difference(step),
            };
            let parts = || gradient[range.clone()].iter().zip(&direction).map(|(g, d)| g * d);
            let (along, scale) = (parts().sum::<f64>(), parts().map(f64::abs).sum::<f64>());
            assert!((along - slope).abs() <= 1e-6 * scale + 1e-10, "{what}: {along}, expected {slope}");

            let largest = gradient[range.clone()].iter().fold(0.0, |a: f64, g| a.max(g.abs()));
            for (f, g) in single_gradient[range.clone()].iter().zip(&gradient[range.clone()]) {
                assert!((f - g).abs() <= steepness * 1e-5 * largest, "{what} in f32: {f}, expected {g}");
            }
        }
    }
    Ok(())
}

#[test]
fn lstm() -> Result<()> {
    check(Cell::Lstm)
}

#[test]
fn gru() -> Result<()> {
    check(Cell::Gru)
}

#[test]
fn rnn() -> Result<()> {
    check(Cell::Rnn)
}

#[test]
fn peephole() -> Result<()> {
    check(Cell::Peephole)
}

#[test]
fn layer_norm() -> Result<()> {
    check(Cell::LayerNorm)
}

#[test]
fn projected() -> Result<()> {
    check(Cell::Projected)
}

#[test]
fn gru_with_the_reset_gate_before_the_product() -> Result<()> {
    check(Cell::GruResetBefore)
}
