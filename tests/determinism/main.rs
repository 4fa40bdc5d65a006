//! The same bits: at any number of threads, from run to run, however samples are batched, and on every instruction set.

mod levels;
#[cfg(feature = "rayon")]
mod threads;

use bptt::data::{Arrays, Dataset};
use bptt::nn::{Linear, Lstm, Rnn};
use bptt::{Model, Real, rng};
use ndarray::{Array1, Array3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

/// `n` random sequences, of one of three classes each: the step, of the first three, at which they are largest.
pub fn data<R: Real>(n: usize) -> Arrays<R> {
    let uniform = Uniform::new(-1.0, 1.0).unwrap();
    let x = Array3::random_using((n, 6, 5), uniform, &mut rng::rng(n as u64)).mapv(R::from_f64);
    let y = Array1::from_shape_fn(n, |i| {
        let sum = |t: usize| x.slice(ndarray::s![i, t, ..]).iter().copied().sum::<R>().to_f64();
        (0..3).max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap()
    });
    Arrays::classes(x, &y, ["first", "second", "third"]).unwrap()
}

pub fn model<R: Real>(data: &Arrays<R>) -> Model<R> {
    Model::builder(data.shape())
        .layer("rnn", Rnn::new(6))
        .layer("lstm", Lstm::new(7).layers(2).last())
        .layer("linear", Linear::new(3))
        .build(3)
        .unwrap()
}
