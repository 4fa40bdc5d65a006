//! Streaming: one time step at a time, with the state kept in between.

use std::ops::Deref;

use ndarray::{Array2, ArrayView2, aview1};

use super::Model;
use super::steps::{Steps, put_step};
use crate::kernels::Aligned;
use crate::{Error, Real, Result};

/// A stream through a model: for each step that is pushed it returns the output, and keeps the state in between.
///
/// Any number of independent streams can share one model, on any threads: `M` is a `&Model` or an `Arc<Model>`. For many
/// streams on one thread, [`Streams`](super::Streams) are faster. The output is, bit for bit, that of a pass over the whole
/// sequence at this step.
///
/// [`push`](Self::push) allocates nothing, takes no lock and makes no system call. All that it shares with other threads is
/// the model, which does not change, with the plan that the first stream through it makes, an atomic load, and the choice of
/// the instruction set, another. The process's first kernel makes that choice, when the model is built, or loaded.
///
/// Where blocks of weights are pruned, as [`Blocks`](crate::prune::Blocks) prunes them, a step of an LSTM or a GRU skips them.
///
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(100, 3))
///     .layer("lstm", Lstm::new(8))
///     .layer("linear", Linear::new(2))
///     .build(1)?;
/// let mut stream = model.session()?;
/// let first = stream.push(&[0.1, 0.2, 0.3]).to_vec();
/// assert_eq!(first.len(), 2);
/// assert_ne!(stream.push(&[0.1, 0.2, 0.3]), first, "the state has moved on");
/// stream.reset();
/// assert_eq!(stream.push(&[0.1, 0.2, 0.3]), first);
/// stream.reset();
/// let chunk = stream.push_all(&ndarray::array![[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]);
/// assert_eq!(chunk.row(0).to_vec(), first);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session<M, R> {
    model: M,
    steps: Steps<R>,
    /// `[F, lanes]`: the step that is pushed, normalised.
    x: Aligned<R>,
    /// `[F']`: the output, where there is more than one lane, or another scale of the targets.
    output: Vec<R>,
    /// Whether steps go into the first layer as they are pushed: not normalised, and in a single lane.
    direct: bool,
}

impl<R: Real> Model<R> {
    /// Opens a stream that borrows this model; see [`Session`].
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer if one needs the whole sequence at once, as a bidirectional layer does, or if
    /// there is not enough memory.
    pub fn session(&self) -> Result<Session<&Self, R>> {
        Session::new(self)
    }

    /// Checks that every layer can process a sequence step by step.
    pub(crate) fn check_streams(&self) -> Result<()> {
        match self.slots().iter().find(|slot| !slot.layer.streams()) {
            None => Ok(()),
            Some(slot) => {
                let fault =
                    "found a layer that needs the whole sequence, expected one that works step by step";
                Err(Error::config(&slot.name, fault))
            }
        }
    }
}

impl<R: Real, M: Deref<Target = Model<R>>> Session<M, R> {
    /// Opens a stream through a model, from a zero state.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer if one needs the whole sequence at once, as a bidirectional layer does, or if
    /// there is not enough memory.
    pub fn new(model: M) -> Result<Self> {
        let steps = Steps::new(&model, 1)?;
        let x = Aligned::zeros(model.input_shape().f * steps.capacity);
        let output = vec![R::ZERO; model.output_shape().f];
        let direct = steps.capacity == 1 && model.normalization().is_identity();
        Ok(Self { model, steps, x, output, direct })
    }

    /// Feeds one raw step, `[F]`, to the model and returns its output for it.
    ///
    /// # Panics
    /// If the step is invalid; see [`try_push`](Self::try_push).
    #[track_caller]
    pub fn push(&mut self, step: &[R]) -> &[R] {
        self.try_push(step).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Feeds one raw step, `[F]`, to the model and returns its output for it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the step does not have as many features as the model's input, or the first layer does not
    /// accept one, such as an index that an embedding does not have. The state is unchanged then.
    pub fn try_push(&mut self, step: &[R]) -> Result<&[R]> {
        let (f, lanes) = (self.model.input_shape().f, self.steps.capacity);
        if step.len() != f {
            return Err(Error::mismatch("a step", format!("{} features", step.len()), f));
        }
        let mut x = step;
        if !self.direct {
            put_step(self.model.normalization(), step.iter(), &mut self.x, (0, lanes));
            x = &self.x;
        }
        self.steps.check(&self.model, x, (1, lanes), |_| "a step".into())?;
        let y = self.steps.pass(&self.model, x, (1, lanes));
        if lanes == 1 && self.model.target_normalization().is_none() {
            return Ok(y);
        }
        let outputs = self.output.iter_mut().zip(y.iter().step_by(lanes)).enumerate();
        outputs.for_each(|(f, (out, y))| *out = self.model.undo_target(*y, f));
        Ok(&self.output)
    }

    /// Feeds raw steps, `[steps, F]`, to the model one after another, and returns its output for each, `[steps, F']`.
    ///
    /// # Panics
    /// If a step is invalid; see [`try_push`](Self::try_push).
    #[track_caller]
    pub fn push_all<'a>(&mut self, steps: impl Into<ArrayView2<'a, R>>) -> Array2<R> {
        let steps = steps.into();
        let (mut out, mut step) =
            (Array2::from_elem((steps.nrows(), self.output.len()), R::ZERO), Vec::new());
        for (from, mut to) in steps.rows().into_iter().zip(out.rows_mut()) {
            step.clear();
            step.extend(from.iter().copied());
            to.assign(&aview1(self.push(&step)));
        }
        out
    }

    /// Goes back to the zero state.
    pub fn reset(&mut self) {
        self.steps.states().for_each(|state| state.fill(R::ZERO));
    }

    /// The state of layer `layer`, in the order of the layer: h, then c, for an LSTM.
    pub fn state(&self, layer: usize) -> Vec<R> {
        self.steps.state(layer).iter().step_by(self.steps.capacity).copied().collect()
    }

    /// Sets the state of layer `layer`.
    ///
    /// # Panics
    /// If it has a different length.
    #[track_caller]
    pub fn set_state(&mut self, layer: usize, state: &[R]) {
        let lanes = self.steps.capacity;
        let own = self.steps.state_mut(layer);
        assert_eq!(state.len(), own.len() / lanes, "the length of a state");
        own.iter_mut().step_by(lanes).zip(state).for_each(|(to, &from)| *to = from);
    }
}
