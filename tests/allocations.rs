//! A training step allocates nothing, on any thread, once the first ones have warmed everything up; nor does a
//! prediction by a `Predictor`, or a step of streams.
//!
//! One test for all of them: the allocator counts what all threads of the process do, and while one test counts, the harness
//! would start another or print its result.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bptt::data::{Arrays, Batches, Dataset};
use bptt::loss::{BceWithLogits, CrossEntropy, Ctc};
use bptt::nn::{
    Activation, AttentionPool, BatchNorm, Branches, Chain, Conv1d, Conv2d, Dropout, EmbedColumns, Embedding,
    Gru, LayerNorm, LayerNormLstm, Linear, LogSoftmax, Lstm, PeepholeLstm, Pool, Pool2d, Rnn, Transpose,
};
use bptt::optim::{Adam, Muon};
use bptt::prune::{Blocks, Magnitude};
use bptt::train::schedule::{Clock, Unit};
use bptt::train::{Clip, EarlyStopping, Epoch, EpochEnd, Flow, GroupLasso, Schedule};
use bptt::{Model, Result, Shape, Trainer};
use ndarray::{Array1, Array2, Array3, s};

/// The system's allocator, counting.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Waits until all other threads of this process sleep. A thread allocates when it starts, when it first looks for work, and
/// when it ends, and those of a pool that has been dropped end later: on a busy machine, in the middle of another run.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(if cfg!(target_os = "linux") { 1 } else { 100 }));
    while others_run() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Whether the kernel has another thread of this process in any state but asleep.
fn others_run() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return false };
    let states = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // The state follows the name, which is in parentheses. This thread runs.
    states
        .filter(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S')))
        .count()
        > 1
}

#[test]
fn nothing_is_allocated() {
    predictions_allocate_nothing();
    pushes_allocate_nothing();
    steps_with_labels_allocate_nothing();
    steps_of_images_allocate_nothing();
    steps_of_words_allocate_nothing();
    steps_allocate_nothing();
}

/// A model of many layers, with three outputs at the last step.
fn everything(input: Shape) -> Model {
    Model::builder(input)
        .layer("conv2d", Conv2d::new(2, 3, [5, 2]).causal())
        .layer("batch_norm2d", BatchNorm::channels(3))
        .layer("pool2d", Pool2d::max(3, [1, 1]))
        .layer("conv1d", Conv1d::new(5, 3).causal())
        .layer(
            "branches",
            Branches::residual(
                "f",
                Chain::new().layer("norm", BatchNorm::new()).layer("linear", Linear::new(5)),
            ),
        )
        .layer("rnn", Rnn::new(6))
        .layer("peephole", PeepholeLstm::new(5))
        .layer("layer_norm_lstm", LayerNormLstm::new(4).layers(2))
        .layer("projected", Lstm::new(5).proj_size(3))
        .layer("gru", Gru::new(4).bias(false))
        .layer("gru_reset", Gru::new(4).reset_after(false))
        .layer("norm", LayerNorm::new())
        .layer("tanh", Activation::tanh())
        .layer("dropout", Dropout::new(0.2))
        .layer("lstm", Lstm::new(7).layers(2).dropout(0.2).last())
        .layer("linear", Linear::new(3))
        .build(1)
        .unwrap()
}

/// A server's predictions, once there is room for as many samples.
fn predictions_allocate_nothing() {
    let model: Model = Model::builder(Shape::new(5, 4))
        .layer("lstm", Lstm::new(7).layers(2).last())
        .layer("linear", Linear::new(3))
        .build(1)
        .unwrap();
    let x = Array3::<f32>::from_elem((130, 5, 4), 0.5);
    let mut predictor = model.predictor().unwrap();
    predictor.predict(&x).unwrap();
    settle();
    for n in [130, 1, 7, 8, 64, 65] {
        let before = COUNT.load(Ordering::Relaxed);
        let y = predictor.predict(x.slice(s![..n, .., ..])).unwrap();
        assert_eq!(y.dim(), (n, 1, 3));
        assert_eq!(COUNT.load(Ordering::Relaxed), before, "{n} samples");
    }
}

/// Streams: alone, side by side, and some of them.
fn pushes_allocate_nothing() {
    let model: Model = everything(Shape::new(5, 4));
    let x = Array2::<f32>::from_elem((100, 4), 0.5);
    let which: Vec<usize> = (0..100).rev().step_by(3).collect();
    let some = Array2::<f32>::from_elem((which.len(), 4), 0.5);
    let (mut session, mut streams) = (model.session().unwrap(), model.streams(100).unwrap());
    let lstm = Lstm::new(128).layers(2);
    let mut sparse: Model = Model::builder(Shape::new(5, 64)).layer("lstm", lstm).build(1).unwrap();
    sparse.prune(Blocks::share(0.8)).unwrap();
    let mut sparse = sparse.session().unwrap();
    let mut pushes = || {
        let before = COUNT.load(Ordering::Relaxed);
        assert_eq!(session.push(&[0.5; 4]).len(), 3);
        assert_eq!(sparse.push(&[0.5; 64]).len(), 128);
        assert_eq!(streams.push(&x).dim(), (100, 3));
        assert_eq!(streams.push_some(&which, &some).dim(), (which.len(), 3));
        COUNT.load(Ordering::Relaxed) - before
    };
    // The first kernel that runs looks for the instruction set, and the first batch starts threads.
    pushes();
    settle();
    for _ in 0..10 {
        assert_eq!(pushes(), 0);
    }
}

const EPOCHS: usize = 30;
const STEPS: usize = 10;

/// Notes before each step how often anything was allocated so far, in room made beforehand: a schedule is asked between
/// steps, on their own thread.
#[derive(Debug)]
struct Notes {
    counts: &'static [AtomicUsize],
}

impl Schedule for Notes {
    fn lr(&self, base: f64, clock: Clock<'_>) -> f64 {
        self.counts[clock.done].store(COUNT.load(Ordering::Relaxed), Ordering::Relaxed);
        base
    }

    fn unit(&self) -> Unit {
        Unit::Step
    }
}

/// Lets the threads of the run, and of the one before it, come to rest.
struct Rest;

impl bptt::train::Callback<f32> for Rest {
    fn on_start(&mut self, _: &mut Model) -> Result<()> {
        settle();
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        assert!(end.epoch.train.loss.is_some_and(f64::is_finite));
        Ok(Flow::Continue)
    }
}

/// CTC with labels and sequences of several lengths.
fn steps_with_labels_allocate_nothing() {
    let x = Array3::from_shape_fn((60, 9, 2), |(i, t, f)| ((i * 7 + t * 3 + f) % 11) as f32 / 11.0);
    let labels = (0..60).map(|i| vec![1 + i % 2; i % 4]);
    let data = Arrays::labels(x, labels, ["blank", "a", "b"]).unwrap();
    let data = data.lengths((0..60).map(|i| 7 + i % 3).collect::<Vec<_>>()).unwrap();
    let mut model = Model::builder(data.shape())
        .layer("lstm", Lstm::new(5))
        .layer("linear", Linear::new(3))
        .build(1)
        .unwrap();
    let trainer = Trainer::new(Ctc::new(), Adam::new(1e-3)).batch_size(20).threads(1);
    assert_no_allocations(&trainer, &mut model, &data);
}

/// Layers that do not stream: pooled rows and columns, read both ways.
fn steps_of_images_allocate_nothing() {
    let x = Array3::from_shape_fn((60, 8, 8), |(i, t, f)| ((i * 7 + t * 3 + f) % 11) as f32 / 11.0);
    let data = Arrays::classes(x, &Array1::from_shape_fn(60, |i| i % 3), ["a", "b", "c"]).unwrap();
    let rows =
        Chain::new().layer("lstm", Lstm::new(4).bidirectional().last()).layer("norm", BatchNorm::new());
    let columns = Chain::new().layer("turn", Transpose::new(4, 3)).layer("gru", Gru::new(4));
    let columns = columns.layer("attention", AttentionPool::new());
    let mut model = Model::builder(data.shape())
        .layer("conv", Conv2d::new(1, 3, [3, 3]).padding([1, 1]).bias(false))
        .layer("pool", Pool2d::max(3, [2, 2]))
        .layer("norm", BatchNorm::channels(3))
        .layer("relu", Activation::relu())
        .layer("both", Branches::concat().branch("rows", rows).branch("columns", columns))
        .layer("norm2", BatchNorm::new())
        .layer("linear", Linear::new(3))
        .build(1)
        .unwrap();
    let trainer = Trainer::new(CrossEntropy::default(), Muon::new(1e-3)).batch_size(20).tile(8).threads(1);
    let trainer = trainer.freeze("norm2.running_*");
    assert_no_allocations(&trainer, &mut model, &data);
}

/// Tables, of the whole input and of a column of it, and an accuracy of values.
fn steps_of_words_allocate_nothing() {
    let words =
        |columns| Array3::from_shape_fn((60, 5, columns), |(i, t, f)| ((i * 7 + t * 3 + f) % 6) as f32);
    let y = Array2::from_shape_fn((60, 3), |(i, f)| ((i + f) % 2) as f32);
    let trainer = Trainer::new(BceWithLogits::default(), Adam::new(1e-3)).batch_size(20).threads(1);
    for columns in [1, 3] {
        let data = Arrays::vectors(words(columns), y.clone()).unwrap();
        let model = Model::builder(data.shape());
        let model = match columns {
            1 => model.layer("words", Embedding::new(6, 4)),
            _ => model.layer("words", EmbedColumns::new().column(1, 6, 4).column(0, 6, 2)),
        };
        let model =
            model.layer("gru", Gru::new(4)).layer("pool", Pool::last()).layer("linear", Linear::new(3));
        let mut model = model.layer("log", LogSoftmax).build(1).unwrap();
        assert_no_allocations(&trainer, &mut model, &data);
        let (mut session, step) = (model.session().unwrap(), vec![1.0; columns]);
        session.push(&step);
        settle();
        let before = COUNT.load(Ordering::Relaxed);
        session.push(&step);
        assert_eq!(COUNT.load(Ordering::Relaxed), before, "a step of {columns} columns");
    }
}

/// The second and third step of an epoch of three.
fn assert_no_allocations(trainer: &Trainer, model: &mut Model, data: &Arrays<f32>) {
    let mut stepper = trainer.stepper(model, data).unwrap();
    let mut batches = Batches::new(data.len(), 20, 1).unwrap();
    let mut counts = Vec::with_capacity(3);
    for batch in batches.epoch(1).unwrap() {
        stepper.step(model, data, batch).unwrap();
        if counts.is_empty() {
            settle();
        }
        counts.push(COUNT.load(Ordering::Relaxed));
    }
    assert_eq!(counts.len(), 3);
    assert_eq!(counts[2], counts[0], "allocations of the second and third step");
}

/// Three hundred steps with dropout, pruned, clipped, averaged and frozen weights, each tenth of them ragged, at 1, 2
/// and 8 threads; and with a file of the run, but where that is written; and with
/// states handed on.
fn steps_allocate_nothing() {
    let (samples, batch) = (930usize, 100);
    assert_eq!(samples.div_ceil(batch), STEPS);
    let x = Array3::from_shape_fn((samples, 5, 4), |(i, t, f)| ((i * 7 + t * 3 + f) % 11) as f32 / 11.0);
    let y = Array1::from_shape_fn(samples, |i| i % 3);
    let data = Arrays::classes(x, &y, ["a", "b", "c"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (threads, every, stateful) in
        [(1, None, false), (2, None, false), (8, None, false), (2, Some(4), false), (2, None, true)]
    {
        let counts: &'static [AtomicUsize] =
            Vec::leak((0..EPOCHS * STEPS).map(|_| AtomicUsize::new(0)).collect());
        let mut model = everything(Shape::new(5, 4));
        model.prune(Magnitude::share(0.3)).unwrap();
        let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3))
            .group_lasso(GroupLasso::new(1e-3))
            .epochs(EPOCHS)
            // The last samples, which fill no batch of streams, are left out.
            .batch_size(if stateful { samples / STEPS } else { batch })
            .tile(16)
            .threads(threads)
            .clip(Clip::Norm(0.1))
            .ema(0.9)
            .freeze("rnn.*")
            .callback(EarlyStopping::new(EPOCHS))
            .callback(|_: &Epoch| Flow::Continue)
            .callback(Rest)
            .callback(bptt::train::RecordDynamics::new())
            .schedule(Notes { counts });
        if stateful {
            trainer = trainer.stateful();
        }
        if let Some(every) = every {
            trainer = trainer.run_file(folder.path().join("run.ckpt")).run_file_every(every);
        }
        trainer.fit(&mut model, &data, None).unwrap();

        let count = |epoch: usize, step: usize| counts[epoch * STEPS + step].load(Ordering::Relaxed);
        for epoch in 1..EPOCHS {
            let written = |step: usize| every.is_some_and(|every| step.is_multiple_of(every));
            for step in (1..STEPS).filter(|&step| !written(step)) {
                let allocated = count(epoch, step) - count(epoch, step - 1);
                assert_eq!(allocated, 0, "{threads} threads, epoch {}, step {step}", epoch + 1);
            }
        }
        if every.is_some() {
            assert!(count(1, 4) > count(1, 3), "nothing was written");
            continue;
        }
        // Between epochs, the channel over which callbacks hear of steps is made, and the history grows now and then.
        let total = count(EPOCHS - 1, STEPS - 1) - count(1, 0);
        assert!(total <= 20 * EPOCHS, "{total} allocations after the first epoch");
    }
}
