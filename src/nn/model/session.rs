//! Streaming: one time step after another, the state carried along.

use std::ops::Deref;

use super::{Model, Workspace};
use crate::nn::Mode;
use crate::{Error, Real, Result};

/// A stream through a model: a step in, that step's output out, and the state kept in between.
///
/// Any number of independent streams share one model, on any threads: `M` is a `&Model` or an `Arc<Model>`. What
/// comes out is, bit for bit, what a pass over the whole sequence gives at that step (where the machine fuses
/// multiply and add). Nothing is allocated after the stream is opened.
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
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session<M, R> {
    model: M,
    ws: Workspace<R>,
}

impl<R: Real> Model<R> {
    /// Opens a stream that borrows this model; see [`Session`].
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer if one needs the whole sequence at once, as a bidirectional one does.
    pub fn session(&self) -> Result<Session<&Self, R>> {
        Session::new(self)
    }
}

impl<R: Real, M: Deref<Target = Model<R>>> Session<M, R> {
    /// Opens a stream through a model, from a zero state.
    ///
    /// # Errors
    /// [`Error::Config`] naming the layer if one needs the whole sequence at once, as a bidirectional one does.
    pub fn new(model: M) -> Result<Self> {
        for place in model.places() {
            if !place.layer.streams() {
                let fault =
                    "found a layer that needs the whole sequence, expected one that goes step by step";
                return Err(Error::config(&place.name, fault));
            }
        }
        let ws = Workspace::for_steps(&model, 1, 1, Mode::Infer)?;
        Ok(Self { model, ws })
    }

    /// Takes in one raw step, `[F]`, and hands out the model's output for it.
    ///
    /// # Panics
    /// If the step has not as many features as the model takes.
    #[track_caller]
    pub fn push(&mut self, step: &[R]) -> &[R] {
        self.ws.set_step(step, self.model.normalize());
        self.model.forward(&mut self.ws);
        self.ws.output_seq().data
    }

    /// Goes back to the zero state.
    pub fn reset(&mut self) {
        self.ws.reset_states();
    }

    /// The state of layer `layer`, in the layer's own order; h, then c, for an LSTM.
    pub fn state(&self, layer: usize) -> &[R] {
        self.ws.state_slice(layer)
    }

    /// Sets the state of layer `layer`.
    ///
    /// # Panics
    /// If it has another length.
    #[track_caller]
    pub fn set_state(&mut self, layer: usize, state: &[R]) {
        self.ws.state_slice_mut(layer).copy_from_slice(state);
    }
}
