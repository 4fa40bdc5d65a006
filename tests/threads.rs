//! Training and prediction side by side: no one waits for another's turn.
//!
//! In a binary of its own: rayon's global pool has one worker here, the narrowest place there is.
#![cfg(feature = "rayon")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bptt::data::{Batch, Dataset, Draw, Sample, TargetShape};
use bptt::loss::CrossEntropy;
use bptt::ndarray::Array3;
use bptt::nn::{Linear, Lstm};
use bptt::optim::Adam;
use bptt::train::{Callback, CallbackState, Epoch, EpochEnd, Flow, Progress};
use bptt::{Model, Result, Shape, Trainer};

/// Made as they are read, by whichever thread; notes which, and how many threads its pool has.
#[derive(Default)]
struct Data {
    readers: Mutex<HashSet<ThreadId>>,
    pool: AtomicUsize,
}

impl Dataset for Data {
    type Elem = f32;

    fn len(&self) -> usize {
        400
    }
    fn shape(&self) -> Shape {
        Shape::new(6, 4)
    }
    fn target_shape(&self) -> TargetShape {
        TargetShape::Classes { t: 1 }
    }
    fn read(&self, sample: Sample, x: &mut [f32]) {
        self.readers.lock().unwrap().insert(thread::current().id());
        self.pool.store(rayon::current_num_threads(), Ordering::Relaxed);
        x.iter_mut().enumerate().for_each(|(i, x)| *x = ((sample.index * 7 + i) as f32).sin());
    }
    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        classes[0] = sample.index as i64 % 2;
    }
}

fn model() -> Model {
    one_worker();
    Model::builder(Shape::new(6, 4))
        .layer("lstm", Lstm::new(16).layers(2).last())
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap()
}

fn trainer() -> Trainer {
    Trainer::new(CrossEntropy::default(), Adam::new(0.01)).batch_size(80).epochs(20)
}

fn one_worker() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap());
}

/// Runs `f`, which ends within a minute unless it waits for good.
fn ends(f: impl FnOnce() + Send + 'static) {
    let (sender, done) = mpsc::channel();
    let worker = thread::spawn(move || {
        f();
        sender.send(()).unwrap();
    });
    if done.recv_timeout(Duration::from_secs(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("still waiting");
    }
    worker.join().unwrap();
}

/// Puts each epoch's model where a server finds it.
struct Publish(Arc<Mutex<Model>>);

impl Callback<f32> for Publish {
    fn on_epoch(&mut self, end: EpochEnd<'_, f32>) -> Result<Flow> {
        let mut served = self.0.lock().unwrap();
        // Whoever waits for the lock while it predicts must not need the thread that waits here.
        thread::sleep(Duration::from_millis(2));
        served.clone_from(end.model);
        Ok(Flow::Continue)
    }
}

#[test]
fn a_server_and_callbacks_share_a_lock() {
    ends(|| {
        let (served, done) = (Arc::new(Mutex::new(model())), Arc::new(AtomicBool::new(false)));
        let server = {
            let (served, done) = (Arc::clone(&served), Arc::clone(&done));
            let x = Array3::from_elem((200, 6, 4), 0.5);
            thread::spawn(move || {
                let mut served_requests = 0;
                while !done.load(Ordering::Relaxed) {
                    served.lock().unwrap().predict(&x).unwrap();
                    served_requests += 1;
                }
                served_requests
            })
        };
        let train = |threads: Option<usize>| {
            let served = Arc::clone(&served);
            thread::spawn(move || {
                let mut trainer = trainer().callback(Publish(served));
                if let Some(threads) = threads {
                    trainer = trainer.threads(threads);
                }
                trainer.fit(&mut model(), &Data::default(), Some(&Data::default())).unwrap();
            })
        };
        let runs = [train(None), train(Some(2))];
        runs.into_iter().for_each(|run| run.join().unwrap());
        done.store(true, Ordering::Relaxed);
        assert!(server.join().unwrap() > 0);
    });
}

#[test]
fn a_prediction_does_not_wait_for_training() {
    ends(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let train = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut trainer = trainer().epochs(1_000_000).stop_on(stop);
                trainer.fit(&mut model(), &Data::default(), None).unwrap();
            })
        };
        let runs = [train(), train()];
        thread::sleep(Duration::from_millis(100));
        let (model, x) = (model(), Array3::from_elem((256, 6, 4), 0.5));
        let mut waits: Vec<_> = (0..20)
            .map(|_| {
                let start = Instant::now();
                model.predict(&x).unwrap();
                start.elapsed()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        runs.into_iter().for_each(|run| run.join().unwrap());
        waits.sort_unstable();
        // It took seconds, until a run ended; now it competes for cores, which other tests want as well.
        assert!(waits[10] < Duration::from_secs(1), "{waits:?}");
    });
}

/// Notes on which threads it is called.
#[derive(Clone, Default)]
struct Where(Arc<Mutex<Vec<(&'static str, ThreadId)>>>);

impl Where {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push((what, thread::current().id()));
    }
}

impl Callback<f32> for Where {
    fn on_start(&mut self, _: &mut Model) -> Result<()> {
        self.note("start");
        Ok(())
    }
    fn on_step(&mut self, _: &Progress) {
        self.note("step");
    }
    fn on_epoch(&mut self, _: EpochEnd<'_, f32>) -> Result<Flow> {
        self.note("epoch");
        Ok(Flow::Continue)
    }
    fn save_state(&self) -> Option<CallbackState> {
        self.note("save");
        Some(CallbackState::default())
    }
    fn load_state(&mut self, _: CallbackState, _: &mut Model) -> Result<()> {
        self.note("load");
        Ok(())
    }
    fn on_resume(&mut self, _: &[Epoch]) -> Result<()> {
        self.note("resume");
        Ok(())
    }
    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.note("end");
        Ok(())
    }
}

#[test]
fn callbacks_are_called_on_the_thread_that_calls_fit() {
    let folder = tempfile::tempdir().unwrap();
    for threads in [1, 2, 3] {
        let calls = Where::default();
        let data = Data::default();
        for epochs in [1, 2] {
            let mut trainer = trainer().epochs(epochs).threads(threads).callback(calls.clone());
            trainer = trainer.run_file(folder.path().join("run")).run_file_every(3).resume(epochs == 2);
            trainer.fit(&mut model(), &data, Some(&data)).unwrap();
        }
        let calls = calls.0.lock().unwrap();
        assert!(calls.iter().all(|(_, id)| *id == thread::current().id()));
        let what: HashSet<_> = calls.iter().map(|(what, _)| *what).collect();
        assert_eq!(what.len(), 7, "{what:?}");
        let order: Vec<_> = calls.iter().map(|(what, _)| *what).filter(|what| *what != "save").collect();
        let run = |resumed: &[&'static str]| {
            let epoch = [&["step"; 5][..], &["epoch", "end"]].concat();
            [&["start"][..], resumed, &epoch].concat()
        };
        assert_eq!(order, [run(&[]), run(&["load", "resume"])].concat());
    }
}

#[test]
fn runs_and_steppers_have_as_many_threads_as_asked_for() {
    let whole = Draw::all(0..80);
    for threads in [1, 2, 5] {
        let (mut model, data) = (model(), Data::default());
        trainer().epochs(1).threads(threads).fit(&mut model, &data, None).unwrap();
        assert_eq!(data.pool.load(Ordering::Relaxed), threads);
        assert!(!data.readers.lock().unwrap().contains(&thread::current().id()));

        let data = Data::default();
        let trainer = trainer().threads(threads);
        let mut stepper = trainer.stepper(&model, &data).unwrap();
        for _ in 0..5 {
            stepper.step(&mut model, &data, Batch::new(&whole, 1, 0)).unwrap();
        }
        assert_eq!(data.pool.load(Ordering::Relaxed), threads);
        assert!(data.readers.lock().unwrap().len() <= threads);
    }
}

/// Whoever is in a pool already stays there.
#[test]
fn within_a_pool_a_run_uses_it() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let data = Data::default();
    pool.install(|| trainer().epochs(1).fit(&mut model(), &data, Some(&data)).unwrap());
    assert_eq!(data.pool.load(Ordering::Relaxed), 3);
}
