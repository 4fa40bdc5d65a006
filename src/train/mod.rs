//! Training: one trainer for every model and loss.
//!
//! - [`Trainer`] has the settings, and [`fit`](Trainer::fit) runs. [`schedule`] changes the learning rate, [`Clip`] clips
//!   gradients, [`Group`] gives some parameters settings of their own.
//! - A [`Callback`] observes and controls a run: [`EarlyStopping`], [`Checkpoint`], [`GradualPruning`], [`Print`], [`CsvLog`],
//!   [`JsonLog`], or a closure; with the features `progress` and `tensorboard` also `ProgressBar` and `TensorBoard`.
//!   [`RecordDynamics`] records what the model made of each sample in each epoch: from these [`Dynamics`] come the hardest
//!   samples, those of wrong classes, and scores by which fewer samples are chosen.
//! - A [`History`] has the scores of all epochs.
//! - A [`Stepper`] runs single steps, for custom loops, in which [`L0Gates`] may take part; [`AllReduce`] distributes a run over
//!   several processes.
//!
//! # How training runs
//!
//! A run is a number of epochs, an epoch a number of steps. In each step a batch is cut into tiles, which pass through the
//! model forward and backward on all threads; their gradients are summed in a fixed order, divided by the number of targets,
//! clipped, and given to the optimizer. After each epoch the model is evaluated on the validation samples, the callbacks are
//! called, and the run's file is written, if there is one. The result depends only on model, data, settings and seeds: the
//! number of threads changes the time and nothing else.
//!
//! ```
//! use bptt::ndarray::{Array1, Array3};
//! use bptt::prelude::*;
//! use bptt::train::schedule::CosineAnnealing;
//! use bptt::train::{Clip, Epoch, Flow};
//!
//! let x = Array3::from_shape_fn((90, 6, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 5.0 - t as f32 });
//! let data = Arrays::classes(x, &Array1::from_shape_fn(90, |i| i % 2), ["up", "down"])?;
//! let (train, valid) = data.hold_out(30, 1)?;
//!
//! let mut model = Model::builder(data.shape())
//!     .layer("lstm", Lstm::new(4).last())
//!     .layer("linear", Linear::new(2))
//!     .build(1)?;
//! let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.05))
//!     .epochs(10)
//!     .batch_size(20)
//!     .schedule(CosineAnnealing::new(10))
//!     .clip(Clip::Norm(1.0))
//!     .callback(|epoch: &Epoch| {
//!         println!("{epoch}");
//!         Flow::Continue
//!     })
//!     .callback(EarlyStopping::new(3)); // restores the best epoch
//! let history = trainer.fit(&mut model, &train, Some(&valid))?;
//!
//! let best = history.best().and_then(|epoch| epoch.valid).unwrap();
//! assert_eq!(model.evaluate_with(&valid, &CrossEntropy::default())?.loss(), best.loss);
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! # How a run is stopped and resumed
//!
//! With [`run_file`](Trainer::run_file), everything that a run depends on is written to a file after each epoch, or more
//! often with [`run_file_every`](Trainer::run_file_every): parameters, moments, averages, the mask, the states of callbacks
//! and of the sampler, the history. With [`resume`](Trainer::resume), `fit` continues from that file, and ends with the same
//! bits as a run that never stopped, at any number of threads. It does not matter how the run ended: by a flag, by Ctrl-C, or
//! because the process was killed.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::AtomicBool;
//!
//! use bptt::prelude::*;
//! # use bptt::ndarray::{Array1, Array3};
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("run.safetensors");
//! # let x = Array3::from_shape_fn((60, 6, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 5.0 - t as f32 });
//! # let data = Arrays::classes(x, &Array1::from_shape_fn(60, |i| i % 2), ["up", "down"])?;
//!
//! let model = || Model::builder(data.shape()).layer("lstm", Lstm::new(2).last()).layer("linear", Linear::new(2)).build(1);
//! let trainer = || Trainer::new(CrossEntropy::default(), Adam::new(0.05)).epochs(3).batch_size(20);
//!
//! // A handler of Ctrl-C would set the flag during the run, which then ends after its epoch.
//! let flag = Arc::new(AtomicBool::new(true));
//! let history = trainer().run_file(&path).stop_on(flag).fit(&mut model()?, &data, None)?;
//! assert_eq!(history.epochs.len(), 1);
//!
//! let mut resumed = model()?;
//! let history = trainer().run_file(&path).resume(true).fit(&mut resumed, &data, None)?;
//! assert_eq!(history.epochs.len(), 3);
//!
//! let mut whole = model()?;
//! trainer().fit(&mut whole, &data, None)?;
//! assert_eq!(resumed.params().as_slice(), whole.params().as_slice());
//! # Ok::<(), bptt::Error>(())
//! ```
//!
//! A custom callback or sampler takes part by `save_state` and `load_state`; random numbers come from keys, so there is no
//! generator whose state could be lost. If data, model or settings differ from those of the file, `fit` returns an error that
//! names the difference.
//!
//! # How to write a custom loop
//!
//! [`Trainer::stepper`] returns a [`Stepper`] with the trainer's settings and all buffers. [`step`](Stepper::step) does a
//! whole step; [`gradients`](Stepper::gradients) and [`update`](Stepper::update) are its two halves, between which the
//! gradient can be changed. No step allocates.
//!
//! ```
//! use bptt::data::Batches;
//! use bptt::prelude::*;
//! # use bptt::ndarray::{Array1, Array3};
//! # let x = Array3::from_shape_fn((60, 6, 1), |(i, t, _)| if i % 2 == 0 { t as f32 } else { 5.0 - t as f32 });
//! # let data = Arrays::classes(x, &Array1::from_shape_fn(60, |i| i % 2), ["up", "down"])?;
//! # let linear = Linear::new(2);
//! # let mut model =
//! #     Model::builder(data.shape()).layer("lstm", Lstm::new(4).last()).layer("linear", linear).build(1)?;
//!
//! let trainer = Trainer::new(CrossEntropy::default(), Adam::new(0.05)).batch_size(20);
//! let mut stepper = trainer.stepper(&model, &data)?;
//! let mut batches = Batches::new(data.len(), 20, 1)?;
//! for epoch in 1..=10 {
//!     stepper.set_lr(0.05 / (epoch as f64).sqrt());
//!     for batch in batches.epoch(epoch)? {
//!         stepper.gradients(&model, &data, batch)?;
//!         // The gradient of an L1 penalty.
//!         for (g, w) in stepper.grads_mut().as_mut_slice().iter_mut().zip(model.params().as_slice()) {
//!             *g += 1e-4 * w.signum();
//!         }
//!         stepper.update(&mut model);
//!     }
//! }
//! assert!(model.evaluate(&data)?.accuracy() > Some(0.9));
//! # Ok::<(), bptt::Error>(())
//! ```

mod agreement;
mod all_reduce;
mod average;
mod callback;
mod checkpoint;
mod clip;
mod display;
mod dynamics;
mod early_stopping;
mod fingerprint;
mod gradual_pruning;
mod group;
mod group_lasso;
mod history;
mod hits;
mod importance;
mod json_float;
mod l0_gates;
mod log;
mod monitor;
mod outcome;
mod print;
#[cfg(feature = "progress")]
mod progress_bar;
mod ranks;
mod record;
mod resume;
mod run;
pub mod schedule;
mod settings;
mod slot;
mod staged;
mod stepper;
#[cfg(feature = "tensorboard")]
mod tensorboard;
mod trainer;
mod unit_weights;

pub use all_reduce::AllReduce;
pub use callback::{Callback, CallbackState, EpochEnd, Flow, Progress};
pub use checkpoint::Checkpoint;
pub use clip::Clip;
pub use dynamics::{Dynamics, DynamicsReport, RecordDynamics};
pub use early_stopping::EarlyStopping;
pub use gradual_pruning::GradualPruning;
pub use group::Group;
pub use group_lasso::GroupLasso;
pub use history::{Epoch, History, Score};
pub use hits::Hits;
pub use l0_gates::{Gates, L0Gates};
pub use log::{CsvLog, JsonLog};
pub use monitor::Monitor;
pub use outcome::{Drawn, Outcome};
pub use print::Print;
#[cfg(feature = "progress")]
pub use progress_bar::ProgressBar;
pub use schedule::Schedule;
pub use stepper::{StepReport, Stepper};
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoard;
pub use trainer::Trainer;
