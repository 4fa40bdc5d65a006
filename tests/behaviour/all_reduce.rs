//! A run shared out among ranks is the run of one process, to the bit; here the ranks are threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use bptt::data::{Arrays, Batch, Dataset, Draw, Population, Sampler};
use bptt::loss::CrossEntropy;
use bptt::nn::{Activation, BatchNorm, Branches, Chain, Conv2d, Dropout, Linear, Lstm};
use bptt::optim::{Adam, Optimizer};
use bptt::train::{
    AllReduce, Callback, Checkpoint, Clip, CsvLog, EarlyStopping, Epoch, EpochEnd, Flow, History,
    RecordDynamics,
};
use bptt::{Error, Init, Model, Real, Result, Trainer, rng};
use ndarray::{Array1, Array3};

use crate::spoiled::Spoiled;

/// What each rank brings to a sum.
type Parts<R> = Mutex<Vec<(Vec<R>, Vec<f64>)>>;

/// One rank of several threads.
#[derive(Clone, Debug)]
struct Rank<R> {
    rank: usize,
    parts: Arc<Parts<R>>,
    barrier: Arc<Barrier>,
}

fn ranks<R: Real>(size: usize) -> Vec<Rank<R>> {
    let parts = Arc::new(Mutex::new(vec![(Vec::new(), Vec::new()); size]));
    let barrier = Arc::new(Barrier::new(size));
    (0..size).map(|rank| Rank { rank, parts: Arc::clone(&parts), barrier: Arc::clone(&barrier) }).collect()
}

impl<R: Real> AllReduce<R> for Rank<R> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.parts.lock().unwrap().len()
    }

    fn sum(&self, grads: &mut [R], counts: &mut [f64]) -> Result<()> {
        self.parts.lock().unwrap()[self.rank] = (grads.to_vec(), counts.to_vec());
        self.barrier.wait();
        let mut parts = self.parts.lock().unwrap().clone();
        self.barrier.wait();
        // In pairs, and pairs of pairs.
        let mut stride = 1;
        while stride < parts.len() {
            for i in (0..parts.len()).step_by(2 * stride) {
                if i + stride >= parts.len() {
                    continue;
                }
                let (left, right) = parts.split_at_mut(i + stride);
                left[i].0.iter_mut().zip(&right[0].0).for_each(|(a, b)| *a += *b);
                left[i].1.iter_mut().zip(&right[0].1).for_each(|(a, b)| *a += *b);
            }
            stride *= 2;
        }
        grads.copy_from_slice(&parts[0].0);
        counts.copy_from_slice(&parts[0].1);
        Ok(())
    }
}

fn data<R: Real>(n: usize) -> Arrays<R> {
    let mut values = vec![R::ZERO; n * 5 * 3];
    Init::Uniform(1.0).fill(&mut values, rng::key(&[n as u64]));
    let x = Array3::from_shape_vec((n, 5, 3), values).unwrap();
    let y = Array1::from_shape_fn(n, |i| usize::from(x[[i, 0, 0]] > x[[i, 1, 1]]));
    Arrays::classes(x, &y, ["less", "more"]).unwrap()
}

fn model<R: Real>() -> Model<R> {
    Model::builder(data::<R>(1).shape())
        .layer("lstm", Lstm::new(6).layers(2).dropout(0.2).last())
        .layer("dropout", Dropout::new(0.3))
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap()
}

/// A convolution, a residual block and an LSTM, with normalisations over the batch of all ranks.
fn normalised<R: Real>() -> Model<R> {
    let f = Chain::new()
        .layer("conv", Conv2d::new(4, 4, [3, 3]).padding([1, 1]).bias(false))
        .layer("norm", BatchNorm::channels(4));
    Model::builder(data::<R>(1).shape())
        .layer("conv", Conv2d::new(1, 4, [3, 3]).padding([1, 1]).bias(false))
        .layer("norm", BatchNorm::channels(4))
        .layer("residual", Branches::residual("f", f))
        .layer("relu", Activation::relu())
        .layer("dropout", Dropout::new(0.1))
        .layer("lstm", Lstm::new(5).last())
        .layer("norm1", BatchNorm::new())
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap()
}

/// Batches of 40 in tiles of 2 are 20 tiles in 16 slots; the last has 13 samples, 7 tiles, so that some ranks have none.
fn trainer<R: Real>() -> Trainer<R>
where
    Adam: Optimizer<R>,
{
    Trainer::new(CrossEntropy::default(), Adam::new(0.03))
        .epochs(3)
        .batch_size(40)
        .tile(2)
        .clip(Clip::Norm(0.3))
        .ema(0.8)
        .callback(EarlyStopping::new(5))
}

/// What a run leaves, its clock apart.
fn left<R: Real>(model: &Model<R>, history: &History) -> (Vec<u64>, Vec<String>) {
    let bits = model.params().as_slice().iter().map(|p| p.to_f64().to_bits()).collect();
    let row = |epoch: &Epoch| format!("{:?}", Epoch { seconds: 0.0, ..*epoch });
    (bits, history.epochs.iter().map(row).collect())
}

/// Calls `run` at each of `size` ranks, each on a thread of its own.
fn at_all<R: Real, T: Send>(size: usize, run: impl Fn(Rank<R>) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = ranks(size).into_iter().map(|rank| scope.spawn(move || run(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn same_bits<R: Real>(model: fn() -> Model<R>)
where
    Adam: Optimizer<R>,
{
    let (train, valid) = (data::<R>(93), data::<R>(41));
    let mut alone = model();
    let history = trainer().fit(&mut alone, &train, Some(&valid)).unwrap();
    let expected = left(&alone, &history);
    assert_eq!(expected.1.len(), 3);
    for size in [1, 2, 3, 4, 5, 6, 8, 11, 16] {
        let all = at_all::<R, _>(size, |rank| {
            let mut model = model();
            let mut trainer = trainer().threads(1 + rank.rank % 2).all_reduce(rank);
            let history = trainer.fit(&mut model, &train, Some(&valid)).unwrap();
            left(&model, &history)
        });
        for (rank, found) in all.into_iter().enumerate() {
            assert!(found == expected, "rank {rank} of {size}");
        }
    }
}

#[test]
fn ranks_have_the_bits_of_one_process() {
    same_bits::<f32>(model);
    same_bits::<f64>(model);
}

#[test]
fn normalisations_over_the_batch_of_all_ranks() {
    same_bits::<f32>(normalised);
    same_bits::<f64>(normalised);
}

/// Every rank hears of all draws.
#[test]
fn dynamics_are_those_of_one_process() {
    let train = data::<f32>(93);
    let run = |trainer: Trainer| {
        let recorder = RecordDynamics::new();
        trainer.callback(recorder.clone()).fit(&mut model(), &train, None).unwrap();
        recorder.dynamics()
    };
    let expected = run(trainer());
    assert_eq!((expected.samples(), expected.epochs()), (93, 3));
    for size in [2, 3, 4] {
        let all = at_all(size, |rank| run(trainer().all_reduce(rank)));
        assert!(all.into_iter().all(|found| found == expected), "{size} ranks");
    }
}

#[test]
fn an_error_at_one_rank_ends_all() {
    an_error_ends_all(model);
    an_error_ends_all(normalised);
}

fn an_error_ends_all(model: fn() -> Model<f32>) {
    let errors = at_all(4, |rank| {
        let spoiled = Spoiled::new(data(93), rank.rank == 2);
        let before = model();
        let mut model = before.clone();
        let error = trainer().all_reduce(rank).fit(&mut model, &spoiled, None).unwrap_err();
        assert_eq!(model.params().as_slice(), before.params().as_slice(), "no step was taken");
        error.to_string()
    });
    for (rank, error) in errors.iter().enumerate() {
        let expected = if rank == 2 {
            "class: found 99"
        } else {
            "`all_reduce`: found a failure at rank 2, whose own error says why"
        };
        assert!(error.contains(expected), "rank {rank}: {error}");
    }
}

#[test]
fn an_error_between_steps_ends_all() {
    struct Fails(usize);
    impl Callback<f32> for Fails {
        fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
            if self.0 == 1 && end.epoch.epoch == 2 {
                return Err(Error::config("test", "failed"));
            }
            Ok(Flow::Continue)
        }
    }
    let errors = at_all(2, |rank| {
        let callback = Fails(rank.rank);
        let mut trainer = trainer().callback(callback).all_reduce(rank);
        trainer.fit(&mut model(), &data(93), None).unwrap_err().to_string()
    });
    assert_eq!(errors[1], "`test`: failed");
    assert!(errors[0].contains("found a failure at rank 1"), "{errors:?}");
}

#[test]
fn a_stop_at_one_rank_stops_all() {
    let epochs = at_all(2, |rank| {
        let flag = Arc::new(AtomicBool::new(false));
        let (own, first) = (Arc::clone(&flag), rank.rank == 0);
        let set = move |epoch: &Epoch| {
            own.store(first && epoch.epoch >= 1, Ordering::Relaxed);
            Flow::Continue
        };
        let mut trainer = trainer::<f32>().epochs(9).callback(set).stop_on(flag).all_reduce(rank);
        trainer.fit(&mut model(), &data(93), None).unwrap().epochs.len()
    });
    assert!(epochs[0] == epochs[1] && epochs[0] < 9, "{epochs:?}");
}

/// A callback that ends the run at one rank ends it at all, after the same epoch.
#[test]
fn a_callback_at_one_rank_stops_all() {
    let epochs = at_all(3, |rank| {
        let second = rank.rank == 1;
        let stop = move |epoch: &Epoch| if second && epoch.epoch == 2 { Flow::Stop } else { Flow::Continue };
        let mut trainer = trainer::<f32>().epochs(9).callback(stop).all_reduce(rank);
        trainer.fit(&mut model(), &data(93), None).unwrap().epochs.len()
    });
    assert_eq!(epochs, [2, 2, 2]);
}

/// Ranks that are not one run are told so, before the first step or at the end of an epoch.
#[test]
fn ranks_that_differ_are_found() {
    let faults = |run: &(dyn Fn(Rank<f32>) -> Error + Sync)| at_all(3, |rank| run(rank).to_string());
    let found =
        |what: &str| format!("`all_reduce`: found other {what} at rank 1 than at rank 0, expected the same");
    let at_start = found("parameters, data, settings or files of a run that is resumed");

    for fault in faults(&|rank| {
        let second = rank.rank == 1;
        let mut trainer = trainer().seed(if second { 7 } else { 1 }).all_reduce(rank);
        trainer.fit(&mut model(), &data(93), None).unwrap_err()
    }) {
        assert_eq!(fault, at_start);
    }
    for fault in faults(&|rank| {
        let n = if rank.rank == 1 { 94 } else { 93 };
        trainer().all_reduce(rank).fit(&mut model(), &data(n), None).unwrap_err()
    }) {
        assert_eq!(fault, at_start);
    }
    // What one rank cannot even begin ends the others too.
    let found_at = faults(&|rank| {
        let batch = if rank.rank == 1 { 0 } else { 64 };
        trainer().batch_size(batch).all_reduce(rank).fit(&mut model(), &data(93), None).unwrap_err()
    });
    assert_eq!(found_at[1], "`batch_size`: found 0, expected at least 1");
    assert!(found_at[0].contains("found a failure at rank 1") && found_at[2] == found_at[0], "{found_at:?}");

    struct Nudges(bool);
    impl Callback<f32> for Nudges {
        fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
            if self.0 && end.epoch.epoch == 2 {
                end.model.params_mut().as_mut_slice()[3] += 1e-3;
            }
            Ok(Flow::Continue)
        }
    }
    for fault in faults(&|rank| {
        let nudges = Nudges(rank.rank == 1);
        trainer().callback(nudges).all_reduce(rank).fit(&mut model(), &data(93), None).unwrap_err()
    }) {
        assert_eq!(fault, found("parameters, moments or averages after epoch 2"));
    }
}

/// A validation that fails at one rank, and steps whose loss is not finite at all of them.
#[test]
fn validation_and_losses_that_fail() {
    let errors = at_all(3, |rank| {
        let spoiled = Spoiled::new(data(93), rank.rank == 2);
        trainer().all_reduce(rank).fit(&mut model(), &data(93), Some(&spoiled)).unwrap_err().to_string()
    });
    assert!(errors[2].contains("class: found 99") && errors[0].contains("at rank"), "{errors:?}");
    let errors = at_all(3, |rank| {
        let mut model = model::<f32>();
        model.params_mut().as_mut_slice()[0] = f32::NAN;
        trainer().all_reduce(rank).fit(&mut model, &data(93), None).unwrap_err().to_string()
    });
    assert!(errors[0].starts_with("epoch 1, step 1: the loss"), "{errors:?}");
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
}

/// Draws fewer each epoch, by what it saw.
#[derive(Debug, Default)]
struct Hard(Vec<f64>, Arc<Mutex<Vec<u64>>>);

impl Sampler for Hard {
    fn start(&mut self, population: &Population) -> Result<()> {
        self.0 = vec![1e9; population.len];
        Ok(())
    }
    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let mut order: Vec<u32> = (0..self.0.len() as u32).collect();
        order.sort_by(|&a, &b| self.0[b as usize].total_cmp(&self.0[a as usize]));
        draws.extend(order.into_iter().take(93 / epoch).map(|i| Draw::new(i).weight(epoch as f64)));
        Ok(())
    }
    fn observes(&self) -> bool {
        true
    }
    fn observe(&mut self, batch: Batch<'_>, losses: &[Option<f64>]) {
        assert_eq!(batch.len(), losses.len());
        for (i, loss) in batch.indices().zip(losses) {
            self.0[i as usize] = loss.unwrap();
            self.1.lock().unwrap().push(loss.unwrap().to_bits());
        }
    }
}

#[test]
fn every_rank_sees_the_losses_of_all() {
    let run = |rank: Option<Rank<f32>>| {
        let seen = Arc::default();
        let mut trainer = trainer().sampler(Hard(Vec::new(), Arc::clone(&seen)));
        if let Some(rank) = rank {
            trainer = trainer.all_reduce(rank);
        }
        let mut model = model();
        let history = trainer.fit(&mut model, &data(93), None).unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        (left(&model, &history), seen)
    };
    let expected = run(None);
    assert_eq!(expected.1.len(), 93 + 46 + 31);
    for found in at_all(4, |rank| run(Some(rank))) {
        assert!(found == expected);
    }
}

#[test]
fn rank_0_writes_and_all_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut whole = model::<f32>();
    let history = trainer().fit(&mut whole, &data(93), None).unwrap();
    let fit = |rank: Rank<f32>, epochs: usize| {
        let mut model = model();
        let trainer = trainer()
            .epochs(epochs)
            .run_file(&path)
            .resume(true)
            .callback(Checkpoint::new(folder.path().join("model")))
            .callback(CsvLog::new(folder.path().join("history.csv")))
            .all_reduce(rank);
        let history = { trainer }.fit(&mut model, &data(93), None).unwrap();
        left(&model, &history)
    };
    at_all(4, |rank| fit(rank, 1));
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["history.csv", "model", "run"]);
    at_all(3, |rank| fit(rank, 2));
    for found in at_all(2, |rank| fit(rank, 3)) {
        assert_eq!(found, left(&whole, &history));
    }
}

/// What cannot be, before anything is learnt.
#[test]
fn ranks_that_are_refused() {
    let refused = |size: usize, stateful: bool| {
        let mut trainer = trainer().all_reduce(ranks::<f32>(size).remove(0));
        if stateful {
            trainer = trainer.stateful();
        }
        trainer.fit(&mut model(), &data(93), None).unwrap_err().to_string()
    };
    let expected = "expected a rank of at most 16, among which a batch can be divided";
    assert_eq!(refused(17, false), format!("`all_reduce`: found rank 0 of 17, {expected}"));
    assert!(refused(2, true).starts_with("`all_reduce`: found a stateful trainer"));
}
