//! Recurrent layers and their gradients against loops as plain as the equations, at odd sizes and at every SIMD level.

mod common;
#[path = "common/simd_levels.rs"]
mod simd_levels;

use bptt::data::Arrays;
use bptt::loss::Mse;
use bptt::nn::{Gru, Layer, Lstm, Rnn};
use bptt::optim::Sgd;
use bptt::{Arena, Model, Real, Result, Shape, Trainer, rng};
use common::assert_close;
use ndarray::{Array, Array2, Array3, ShapeBuilder, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

const LAYERS: usize = 2;
const FEATURES: usize = 5;

/// Reproducible values from −1 to 1.
fn noise<Sh: ShapeBuilder>(shape: Sh, salt: usize) -> Array<f64, Sh::Dim> {
    Array::random_using(shape, Uniform::new(-1.0, 1.0).expect("a range"), &mut rng::rng(salt as u64))
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

impl Cell {
    fn layer<R: Real>(self, hidden: usize) -> Box<dyn Layer<R>> {
        match self {
            Self::Lstm => Box::new(Lstm::new(hidden).layers(LAYERS)),
            Self::Gru => Box::new(Gru::new(hidden).layers(LAYERS)),
            Self::Rnn => Box::new(Rnn::new(hidden).layers(LAYERS)),
        }
    }

    /// The next h of one unit from its pre-activations: W x + b, and U h + b'.
    fn unit(self, a: &[f64], u: &[f64], h: f64, c: &mut f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::Lstm => {
                let [i, f, o] = [0, 1, 3].map(|gate| sigmoid(a[gate] + u[gate]));
                *c = f * *c + i * (a[2] + u[2]).tanh();
                o * c.tanh()
            }
            Self::Gru => {
                let [r, z] = [0, 1].map(|gate| sigmoid(a[gate] + u[gate]));
                (1.0 - z) * (a[2] + r * u[2]).tanh() + z * h
            }
            Self::Rnn => (a[0] + u[0]).tanh(),
        }
    }

    /// All h of the last layer, `[batch, time, hidden]`.
    fn outputs(self, params: &Arena<f64>, x: &Array3<f64>) -> Array3<f64> {
        let mut x = x.clone();
        for layer in 0..LAYERS {
            let [w, u, b, b_h] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
                .map(|name| params.get(&format!("rnn.{name}_l{layer}")).expect("a tensor of the layer"));
            let matrix = |w: ndarray::ArrayViewD<'_, f64>| -> Array2<f64> {
                w.to_owned().into_dimensionality().expect("a matrix")
            };
            let (w, u) = (matrix(w), matrix(u));
            let (batch, time, _) = x.dim();
            let hidden = u.ncols();
            let gates = u.nrows() / hidden;
            let mut y = Array3::zeros((batch, time, hidden));
            for sample in 0..batch {
                let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
                for t in 0..time {
                    let before = h.clone();
                    for k in 0..hidden {
                        let rows = (0..gates).map(|gate| gate * hidden + k);
                        let x = x.slice(s![sample, t, ..]);
                        let (a, u): (Vec<f64>, Vec<f64>) = rows
                            .map(|r| {
                                let own: f64 = before.iter().zip(u.row(r)).map(|(h, u)| h * u).sum();
                                (b[[r]] + x.dot(&w.row(r)), b_h[[r]] + own)
                            })
                            .unzip();
                        h[k] = self.unit(&a, &u, before[k], &mut c[k]);
                        y[[sample, t, k]] = h[k];
                    }
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
    let indices: Vec<u32> = (0..batch as u32).collect();
    let mut stepper = trainer.stepper(&model, &data)?;
    stepper.gradients(&model, &data, &indices, 1, 0)?;
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
    for (hidden, batch, time) in sizes.chain([(5, 3, 33), (13, 9, 77)]) {
        let what = format!("{cell:?}, H {hidden}, B {batch}, T {time}");
        let (x, y) = (noise((batch, time, FEATURES), 1), noise((batch, time, hidden), 2));

        let (outputs, model, gradient) = ours::<f64>(cell, hidden, &x, &y)?;
        let expected = cell.outputs(model.params(), &x);
        let expected = expected.as_slice().expect("in order");
        assert_close(&format!("{what}, outputs"), &outputs, expected, 1e-14);
        let (single, _, single_gradient) = ours::<f32>(cell, hidden, &x, &y)?;
        assert_close(&format!("{what}, outputs in f32"), &single, expected, 2e-6);

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
            let slope = (loss(step) - loss(-step)) / (2.0 * step);
            let parts = || gradient[range.clone()].iter().zip(&direction).map(|(g, d)| g * d);
            let (along, scale) = (parts().sum::<f64>(), parts().map(f64::abs).sum::<f64>());
            assert!((along - slope).abs() <= 1e-6 * scale + 1e-10, "{what}: {along}, expected {slope}");

            let largest = gradient[range.clone()].iter().fold(0.0, |a: f64, g| a.max(g.abs()));
            for (f, g) in single_gradient[range.clone()].iter().zip(&gradient[range.clone()]) {
                assert!((f - g).abs() <= 1e-5 * largest, "{what} in f32: {f}, expected {g}");
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
