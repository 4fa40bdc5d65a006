//! The settings of a run, and their checks before it begins.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::group::Groups;
use super::schedule::Schedule;
use super::slot::SLOTS;
use super::{AllReduce, Callback, Clip, GroupLasso};
use crate::data::{Dataset, Sampler, TargetShape};
use crate::loss::{Loss, has_accuracy};
use crate::optim::Optimizer;
use crate::shape::MAX_LANES;
use crate::{Error, Real, Result};

/// The part of a trainer that does not change during a run, and which its threads share.
#[derive(Debug)]
pub(super) struct Settings<R: Real> {
    pub(super) loss: Box<dyn Loss<R>>,
    pub(super) optimizer: Box<dyn Optimizer<R>>,
    pub(super) groups: Groups<R>,
    pub(super) schedule: Option<Box<dyn Schedule>>,
    pub(super) epochs: usize,
    pub(super) batch_size: usize,
    pub(super) seed: u64,
    pub(super) clip: Clip,
    pub(super) ema: Option<f64>,
    pub(super) group_lasso: Option<GroupLasso>,
    pub(super) tile: Option<usize>,
    pub(super) stateful: bool,
    pub(super) threads: Option<usize>,
    pub(super) all_reduce: Option<Box<dyn AllReduce<R>>>,
    pub(super) run_file: Option<PathBuf>,
    pub(super) every: Option<usize>,
    pub(super) resume: bool,
    /// Settings in which a resumed run may differ from that in the file.
    pub(super) changed: Vec<String>,
    pub(super) stop: Arc<AtomicBool>,
}

impl<R: Real> Settings<R> {
    pub(super) fn new(loss: Box<dyn Loss<R>>, optimizer: Box<dyn Optimizer<R>>) -> Self {
        Self {
            loss,
            optimizer,
            groups: Groups { groups: Vec::new(), frozen: Vec::new() },
            schedule: None,
            epochs: 20,
            batch_size: 64,
            seed: 1,
            clip: Clip::None,
            ema: None,
            group_lasso: None,
            tile: None,
            stateful: false,
            threads: None,
            all_reduce: None,
            run_file: None,
            every: None,
            resume: false,
            changed: Vec::new(),
            stop: Arc::default(),
        }
    }

    /// Checks the numbers.
    pub(super) fn check(&self) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::config("batch_size", "found 0, expected at least 1"));
        }
        if let Some(tile) = self.tile.filter(|tile| !(1..=MAX_LANES).contains(tile)) {
            return Err(Error::config("tile", format!("found {tile}, expected 1 to {MAX_LANES}")));
        }
        if let Clip::Norm(max) | Clip::Value(max) = self.clip
            && (max.is_nan() || max <= 0.0)
        {
            return Err(Error::config("clip", format!("found {max}, expected a positive number")));
        }
        if let Some(decay) = self.ema.filter(|decay| !(0.0..=1.0).contains(decay)) {
            return Err(Error::config("ema", format!("found {decay}, expected a number from 0 to 1")));
        }
        self.check_ranks()
    }

    /// Checks what the ranks must not even have to agree on.
    pub(super) fn check_ranks(&self) -> Result<()> {
        let Some(ranks) = &self.all_reduce else { return Ok(()) };
        let (rank, size) = (ranks.rank(), ranks.size());
        if rank >= size || size > SLOTS {
            let expected = format!("a rank of at most {SLOTS}, among which a batch can be divided");
            return Err(Error::config(
                "all_reduce",
                format!("found rank {rank} of {size}, expected {expected}"),
            ));
        }
        if self.stateful && size > 1 {
            let fault = "found a stateful trainer, expected one that carries no states from step to step";
            return Err(Error::config("all_reduce", fault));
        }
        Ok(())
    }

    /// The ranks of the run, if there are several.
    pub(super) fn ranks(&self) -> Option<&dyn AllReduce<R>> {
        self.all_reduce.as_deref().filter(|ranks| ranks.size() > 1)
    }

    /// Checks what only a run needs: that the scores that schedule and callbacks watch exist.
    pub(super) fn check_run(
        &self,
        train: &dyn Dataset<Elem = R>,
        callbacks: &[Box<dyn Callback<R>>],
        sampler: &dyn Sampler,
    ) -> Result<()> {
        if self.stateful && !sampler.keeps_streams() {
            let fault = format!("found {sampler:?}, expected one that keeps streams, for a stateful trainer");
            return Err(Error::config("sampler", fault));
        }
        if callbacks.iter().any(|callback| callback.observes())
            && train.target_shape() != (TargetShape::Classes { t: 1 })
        {
            let found = format!("targets {:?}", train.target_shape());
            return Err(Error::mismatch("a callback that observes", found, "one class for each sample"));
        }
        if let Some(schedule) = &self.schedule {
            schedule.check()?;
        }
        let scheduled = self.schedule.iter().filter_map(|schedule| schedule.monitor());
        let called = callbacks.iter().filter_map(|callback| callback.monitor());
        let accuracy = has_accuracy(Some(&*self.loss), train.target_shape());
        scheduled.chain(called).try_for_each(|monitor| monitor.check(accuracy))
    }
}
