//! The same bits at any number of threads, from run to run, and however samples are batched.

use bptt::data::{Arrays, Dataset};
use bptt::loss::CrossEntropy;
use bptt::nn::{
    Activation, AttentionPool, BatchNorm, Branches, Chain, Conv1d, Conv2d, Evaluation, Linear, Lstm,
    Transpose,
};
use bptt::optim::{Adam, Sgd};
use bptt::train::{Clip, History};
use bptt::{Model, Real, Shape, Trainer};
use ndarray::{Array3, Axis};

use crate::{data, model};

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// The bytes of the saved model.
fn bytes<R: Real>(model: &Model<R>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

/// A history but for its clock.
fn losses(history: &History) -> Vec<(f64, f64)> {
    history
        .epochs
        .iter()
        .map(|epoch| (epoch.train.loss.unwrap(), epoch.valid.unwrap().loss.unwrap()))
        .collect()
}

/// Convolution, batch normalisation and attention, also within branches: batches pass in stages.
fn convolutions<R: Real>(data: &Arrays<R>) -> Model<R> {
    let both = Branches::concat()
        .branch(
            "conv",
            Chain::new()
                .layer("conv1d", Conv1d::new(4, 3))
                .layer("norm", BatchNorm::new())
                .layer("pool", AttentionPool::new()),
        )
        .branch("lstm", Chain::new().layer("turn", Transpose::new(6, 4)).layer("lstm", Lstm::new(3).last()));
    Model::builder(data.shape())
        .layer("conv", Conv2d::new(1, 4, [3, 3]).padding([1, 1]).bias(false))
        .layer("norm", BatchNorm::channels(4))
        .layer("relu", Activation::relu())
        .layer("both", both)
        .layer("norm2", BatchNorm::new())
        .layer("linear", Linear::new(3))
        .build(3)
        .unwrap()
}

/// Trains on `samples` at every number of threads: saved models and losses must be the same to the last bit.
#[track_caller]
fn same_at_any_number_of_threads<R: Real>(samples: usize, trainer: impl Fn() -> Trainer<R>) {
    same_model_at_any_number_of_threads(model, samples, trainer);
}

#[track_caller]
fn same_model_at_any_number_of_threads<R: Real>(
    model: fn(&Arrays<R>) -> Model<R>,
    samples: usize,
    trainer: impl Fn() -> Trainer<R>,
) {
    let (train, valid) = (data::<R>(samples), data::<R>(77));
    let untrained = model(&train);
    let runs = THREADS.map(|threads| {
        let mut model = untrained.clone();
        let history = trainer().threads(threads).fit(&mut model, &train, Some(&valid)).unwrap();
        assert_eq!(history.epochs.len(), 3);
        (bytes(&model), losses(&history))
    });
    assert_ne!(runs[0].0, bytes(&untrained), "nothing was learnt");
    for (threads, run) in THREADS.iter().zip(&runs).skip(1) {
        assert_eq!(run.1, runs[0].1, "losses with {threads} threads and with 1");
        assert!(run.0 == runs[0].0, "the model with {threads} threads is not that with 1");
    }
}

/// Tiles of eight: 100 samples are 13 tiles, and the last batch of 30 is 4, each with a ragged last one.
#[test]
fn more_than_five_tiles_and_a_ragged_last_batch() {
    let trainer = || Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(3).batch_size(100).tile(8);
    same_at_any_number_of_threads::<f32>(230, || trainer().clip(Clip::Norm(0.5)));
}

/// The same batches where layers wait for all tiles of a batch.
#[test]
fn convolutions_and_batch_norms() {
    let trainer = || Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(3).batch_size(100).tile(8);
    same_model_at_any_number_of_threads::<f32>(convolutions, 230, || {
        trainer().clip(Clip::Norm(0.5)).ema(0.9)
    });
}

/// 300 samples in tiles of 8 are 38: more than there are slots, so that slots take several and all levels of the
/// tree are used.
#[test]
fn more_tiles_than_slots() {
    let trainer = || Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(3).batch_size(300).tile(8);
    same_at_any_number_of_threads::<f32>(430, trainer);
}

/// So many parameters that threads share their sums, their updates and their packs.
#[test]
fn many_parameters() {
    fn wide<R: Real>(data: &Arrays<R>) -> Model<R> {
        let lstm = Lstm::new(140).last();
        Model::builder(data.shape()).layer("lstm", lstm).layer("linear", Linear::new(3)).build(3).unwrap()
    }
    let trainer = || Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(3).batch_size(60).tile(16);
    same_model_at_any_number_of_threads::<f32>(wide, 100, trainer);
}

/// Tiles as they come by default, and f64.
#[test]
fn tiles_by_default() {
    let trainer = || {
        Trainer::new(CrossEntropy::default().label_smoothing(0.1), Sgd::new(0.3).momentum(0.9))
            .epochs(3)
            .batch_size(250)
    };
    same_at_any_number_of_threads::<f64>(520, trainer);
}

#[test]
fn the_seed_decides() {
    let data = data::<f32>(90);
    let run = |seed: u64| {
        let mut model = model(&data);
        let mut trainer =
            Trainer::new(CrossEntropy::default(), Adam::new(0.01)).epochs(2).batch_size(32).seed(seed);
        trainer.fit(&mut model, &data, None).unwrap();
        bytes(&model)
    };
    assert!(run(5) == run(5), "the same seed twice");
    assert!(run(5) != run(6), "another seed");

    let initial = |seed: u64| {
        let builder = Model::<f32>::builder(data.shape()).layer("linear", Linear::new(3));
        bytes(&builder.build(seed).unwrap())
    };
    assert!(initial(5) == initial(5), "the same seed of parameters twice");
    assert!(initial(5) != initial(6), "another seed of parameters");
}

#[test]
fn evaluation_at_any_number_of_threads() {
    evaluation::<f32>();
    // Sums of f32 losses are exact in f64, whatever their order; those of f64 ones are not.
    evaluation::<f64>();
}

fn evaluation<R: Real>() {
    let data = data::<R>(1003);
    let model = model(&data);
    let x = samples(&data);
    let of =
        |evaluation: &Evaluation| (evaluation.loss(), evaluation.accuracy(), evaluation.confusion().cloned());
    let runs = THREADS.map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let evaluation = model.evaluate_with(&data, &CrossEntropy::default()).unwrap();
            (of(&evaluation), model.predict(&x).unwrap(), model.predict_classes(&x).unwrap())
        })
    });
    let loss = runs[0].0.0.unwrap();
    assert!(loss > 0.5, "a loss of {loss}");
    for run in &runs[1..] {
        assert_eq!(run, &runs[0]);
    }
}

/// All samples of a dataset, `[n, T, F]`.
fn samples<R: Real>(data: &Arrays<R>) -> Array3<R> {
    let Shape { t, f } = data.shape();
    let mut x = Array3::from_elem((data.len(), t, f), R::ZERO);
    for (i, mut sample) in x.outer_iter_mut().enumerate() {
        data.read(bptt::data::Sample::plain(i), sample.as_slice_mut().unwrap());
    }
    x
}

/// How samples are batched changes no bit.
#[test]
fn any_batch_size_predicts_the_same() {
    batch_sizes::<f32>();
    batch_sizes::<f64>();
}

fn batch_sizes<R: Real>() {
    let data = data::<R>(40);
    let model = model(&data);
    let x = samples(&data);
    let whole = model.predict(&x).unwrap();
    for size in [1, 3, 16, 17] {
        for (x, y) in x.axis_chunks_iter(Axis(0), size).zip(whole.axis_chunks_iter(Axis(0), size)) {
            assert_eq!(model.predict(x).unwrap(), y, "batches of {size} and of 40");
        }
    }
}
