//! The buffers of a tile's pass through a model, sized once.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, ArrayView3};

use super::evaluate::argmax;
use super::waits::Wait;
use super::{LayerSlot, Model};
use crate::data::{Dataset, Sample, TargetShape};
use crate::kernels::Aligned;
use crate::loss::{Loss, Tally, Targets, Tile, measure};
use crate::nn::{Context, InvalidInput, Mode, Sizes};
use crate::shape::MAX_LANES;
use crate::{Error, Real, Result, Seq, SeqMut, Shape, memory, rng};

/// The buffers through which one tile of samples passes a model, forward and back.
///
/// [`Trainer`](crate::Trainer) and [`Model::evaluate`] keep one for each slot. Gradient checks and custom loops may use
/// it directly: call [`set_input`](Workspace::set_input) and [`Model::forward`], read [`output`](Workspace::output), set
/// the gradient with respect to it by [`set_output_gradient`](Workspace::set_output_gradient), and call
/// [`Model::backward`].
///
/// In [`Mode::Train`], each [`set_input`](Workspace::set_input) draws new dropout masks for each of its samples;
/// [`set_keys`](Workspace::set_keys) chooses them.
///
/// # Examples
/// The gradient of the sum of all outputs:
/// ```
/// use bptt::nn::{Linear, Mode, Workspace};
/// use bptt::{Model, Shape};
/// use ndarray::Array3;
///
/// let model: Model = Model::builder(Shape::new(1, 2)).layer("linear", Linear::new(3)).build(1)?;
/// let mut ws = Workspace::new(&model, 5, Mode::Train);
/// ws.set_input(Array3::from_elem((5, 1, 2), 2.0).view());
/// model.forward(&mut ws);
/// assert_eq!(ws.output().dim(), (5, 1, 3));
///
/// ws.set_output_gradient(Array3::ones((5, 1, 3)).view());
/// let mut grads = vec![0.0; model.parameter_count()];
/// model.backward(&mut ws, &mut grads, false);
/// // With respect to six weights, each times 2 in five samples, and to three biases.
/// assert_eq!(grads, [[10.0; 6].as_slice(), &[5.0; 3]].concat());
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Workspace<R> {
    /// The layers that it was made for.
    pub(super) layers: Arc<[LayerSlot<R>]>,
    pub(super) mode: Mode,
    pub(super) capacity: usize,
    pub(super) lanes: usize,
    pub(super) valid: usize,
    /// The input of the first layer, and the output of each.
    pub(super) values: Vec<Buffer<R>>,
    /// The gradients with respect to those.
    pub(super) grads: Vec<Buffer<R>>,
    pub(super) states: Vec<Aligned<R>>,
    pub(super) dstates: Vec<Aligned<R>>,
    pub(super) caches: Vec<Aligned<R>>,
    /// For each layer, its sums over the whole batch: of the forward pass, and of the backward pass. Only in training.
    pub(super) sums: Vec<Vec<f64>>,
    pub(super) samples: Vec<Sample>,
    /// How often an input was set by hand, so that each has its own random numbers.
    inputs: u64,
    pub(super) lengths: Lengths,
    pub(super) keys: Vec<u64>,
    scratch: Vec<R>,
    target_shape: TargetShape,
    classes: Vec<i64>,
    /// The classes of one sample, before they are copied into its lane.
    sample_classes: Vec<i64>,
    targets: Vec<R>,
    /// The weight of each sample, where any is not 1.
    weights: Vec<f64>,
    weighted: bool,
    /// Each sample's loss.
    tallies: Vec<Tally>,
    loss_scratch: Vec<f64>,
}

/// How long each sample's sequence is, before the first layer and after each.
#[derive(Clone, Debug)]
pub(super) struct Lengths {
    steps: Vec<Vec<u32>>,
    /// Whether any of them is shorter than T.
    short: Vec<bool>,
}

impl Lengths {
    fn new(layers: usize, lanes: usize) -> Self {
        Self { steps: vec![vec![0; lanes]; layers + 1], short: vec![false; layers + 1] }
    }

    /// The lengths that layer `i` reads, where any is shorter than T.
    pub(super) fn at(&self, i: usize, valid: usize) -> Option<&[u32]> {
        self.short[i].then(|| &self.steps[i][..valid])
    }
}

/// How many sums a layer has in both passes together.
fn sums(mode: Mode, sizes: Sizes) -> usize {
    if mode == Mode::Train { 2 * sizes.sums } else { 0 }
}

/// The bytes of a workspace's buffers; `None` if they are too many to be addressed.
pub(super) fn workspace_bytes<R>(
    input: Shape,
    layers: impl ExactSizeIterator<Item = (Shape, Sizes)>,
    lanes: usize,
    mode: Mode,
) -> Option<usize> {
    let (back, last) = (mode.keeps_history(), layers.len());
    let size = |shape: Shape| shape.t.checked_mul(shape.f);
    // The input, its gradient, and one sample before it is spread over the lanes.
    let mut values = size(input)?.checked_mul(3)?;
    for (i, (output, sizes)) in layers.enumerate() {
        let output = size(output)?;
        let gradient = if back || i + 1 == last { output } else { 0 };
        let cache = if back { sizes.cache } else { sizes.infer_cache };
        let own = [output, gradient, cache, sizes.state, sizes.state];
        values = own.iter().try_fold(values, |sum, &size| sum.checked_add(size))?;
    }
    memory::bytes::<R>(&[values, lanes]).filter(|&bytes| isize::try_from(bytes).is_ok())
}

#[derive(Clone, Debug)]
pub(super) struct Buffer<R> {
    data: Aligned<R>,
    shape: Shape,
}

impl<R: Real> Buffer<R> {
    pub(super) fn seq(&self, lanes: usize) -> Seq<'_, R> {
        Seq::new(&self.data[..self.shape.size() * lanes], self.shape, lanes)
    }

    pub(super) fn seq_mut(&mut self, lanes: usize) -> SeqMut<'_, R> {
        SeqMut::new(&mut self.data[..self.shape.size() * lanes], self.shape, lanes)
    }
}

impl<R: Real> Workspace<R> {
    /// Buffers for at most `samples` samples at a time, 1 to 64, rounded up to whole vectors. In inference, buffers for
    /// one sample have a single lane, which is the fastest way for a sample alone.
    ///
    /// # Panics
    /// If `samples` is 0 or more than 64, or there is not enough memory.
    #[track_caller]
    pub fn new(model: &Model<R>, samples: usize, mode: Mode) -> Self {
        Self::try_new(model, samples, mode).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`new`](Self::new); an [`Error::Config`] where there is not enough memory, as for a model from a file that
    /// asks for absurdly much.
    #[track_caller]
    pub(crate) fn try_new(model: &Model<R>, samples: usize, mode: Mode) -> Result<Self> {
        Self::for_steps(model, model.input_shape().t, samples, mode)
    }

    /// As [`new`](Self::new), but for sequences of `t` steps, which may differ from the T that the model was built for.
    ///
    /// # Errors
    /// [`Error::Config`] if `t` is 0, a layer does not take sequences of that length, or there is not enough memory.
    ///
    /// # Panics
    /// If `samples` is 0 or more than 64.
    #[track_caller]
    pub fn for_steps(model: &Model<R>, t: usize, samples: usize, mode: Mode) -> Result<Self> {
        if t == 0 {
            return Err(Error::config("steps", "found 0, expected at least 1"));
        }
        let input = Shape::new(t, model.input_shape().f);
        Self::sized(model, input, &model.sizes_for(t)?, samples, mode)
    }

    #[track_caller]
    fn sized(
        model: &Model<R>,
        input: Shape,
        layers: &[(Shape, Sizes)],
        samples: usize,
        mode: Mode,
    ) -> Result<Self> {
        assert!((1..=MAX_LANES).contains(&samples), "found {samples} samples, expected 1 to {MAX_LANES}");
        let alone =
            mode == Mode::Infer && samples == 1 && model.slots().iter().all(|p| p.layer.takes_one_lane());
        let lanes = if alone { 1 } else { samples.next_multiple_of(R::QUANTUM) };
        let bytes = workspace_bytes::<R>(input, layers.iter().copied(), lanes, mode);
        memory::check(&format!("buffers for {} of {input}", memory::count(samples, "sample")), bytes)?;
        let buffer = |shape: Shape| Buffer { data: Aligned::zeros(shape.size() * lanes), shape };
        let shapes = || std::iter::once(input).chain(layers.iter().map(|&(output, _)| output));
        let room = |size: fn(&Sizes) -> usize| -> Vec<Aligned<R>> {
            layers.iter().map(|(_, sizes)| Aligned::zeros(size(sizes) * lanes)).collect()
        };
        let back = mode.keeps_history();
        // In inference only the gradient with respect to the output has a buffer, because losses always write it.
        let mut grads: Vec<_> =
            shapes().map(|shape| if back { buffer(shape) } else { buffer(Shape::new(0, shape.f)) }).collect();
        if let (Some(last), Some(output)) = (grads.last_mut(), shapes().last()) {
            *last = buffer(output);
        }
        Ok(Self {
            layers: model.layers.clone(),
            mode,
            capacity: lanes,
            lanes,
            valid: samples,
            values: shapes().map(buffer).collect(),
            grads,
            states: room(|s| s.state),
            dstates: room(|s| s.state),
            caches: if back { room(|s| s.cache) } else { room(|s| s.infer_cache) },
            sums: layers.iter().map(|(_, sizes)| vec![0.0; sums(mode, *sizes)]).collect(),
            samples: vec![Sample::plain(0); lanes],
            inputs: 0,
            lengths: Lengths::new(layers.len(), lanes),
            keys: vec![0; lanes],
            scratch: vec![R::ZERO; input.size()],
            target_shape: TargetShape::None,
            classes: Vec::new(),
            sample_classes: Vec::new(),
            targets: Vec::new(),
            weights: vec![1.0; lanes],
            weighted: false,
            tallies: vec![Tally::default(); lanes],
            loss_scratch: Vec::new(),
        })
    }

    /// Checks that the workspace was made for this model, or for a clone of it.
    #[track_caller]
    pub(super) fn check_model(&self, model: &Model<R>) {
        let own = Arc::ptr_eq(&self.layers, &model.layers);
        assert!(own, "found a workspace of another model, expected one made for this model or a clone of it");
    }

    fn reset_states(&mut self) {
        self.states.iter_mut().for_each(|state| state.fill(R::ZERO));
    }

    /// Values of all states of a tile.
    pub(crate) fn state_len(&self) -> usize {
        self.states.iter().map(|state| state.len()).sum()
    }

    /// Restores what [`save_states`](Self::save_states) saved with the same number of samples.
    pub(crate) fn load_states(&mut self, mut from: &[R]) {
        for state in &mut self.states {
            let (own, rest) = from.split_at(state.len());
            state.copy_from_slice(own);
            from = rest;
        }
    }

    /// Copies all states, as they lie in the lanes.
    pub(crate) fn save_states(&self, mut to: &mut [R]) {
        for state in &self.states {
            let (own, rest) = to.split_at_mut(state.len());
            own.copy_from_slice(state);
            to = rest;
        }
    }

    /// Allocates buffers for targets of this shape and for the loss, so that [`gather`](Self::gather) and
    /// [`measure`](Self::measure) allocate nothing.
    pub(crate) fn expect_targets(&mut self, target_shape: TargetShape, loss: Option<&dyn Loss<R>>) {
        self.target_shape = target_shape;
        if let Some(size) = target_shape.whole_numbers() {
            self.classes = vec![0; size * self.capacity];
            self.sample_classes = vec![0; size];
        }
        if let TargetShape::Values(shape) = target_shape {
            self.targets = vec![R::ZERO; shape.size() * self.capacity];
            self.scratch.resize(self.scratch.len().max(shape.size()), R::ZERO);
        }
        let output = self.values[self.values.len() - 1].shape;
        self.loss_scratch = vec![0.0; loss.map_or(0, |loss| loss.scratch(output, target_shape))];
    }

    fn resize(&mut self, valid: usize) {
        self.valid = valid;
        self.lanes = if self.capacity == 1 { 1 } else { valid.next_multiple_of(R::QUANTUM) };
        assert!(self.lanes <= self.capacity, "found {valid} samples, expected at most {}", self.capacity);
    }

    /// Fetches samples and targets of a dataset, normalised, with zero states; `loss` says which classes count.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the sample if its length, weight or a class is invalid, or the first layer does not
    /// accept it.
    pub(crate) fn gather(
        &mut self,
        model: &Model<R>,
        data: &dyn Dataset<Elem = R>,
        loss: Option<&dyn Loss<R>>,
        samples: impl ExactSizeIterator<Item = Sample>,
    ) -> Result<()> {
        self.check_model(model);
        self.resize(samples.len());
        for (dst, sample) in self.samples.iter_mut().zip(samples) {
            *dst = sample;
        }
        let (samples, lanes) = (&self.samples[..self.valid], self.lanes);
        let size = self.values[0].shape.size();
        let x = self.values[0].seq_mut(lanes);
        data.gather(samples, model.normalization(), &mut self.scratch[..size], x);
        self.gather_lengths(data)?;
        self.gather_targets(model, data);
        self.check_classes(loss)?;
        self.reset_states();
        self.check_input(model).map_err(|(first, invalid)| {
            let sample = self.samples[invalid.lane].index;
            let what = format!("layer `{first}`: sample {sample}, step {}", invalid.step);
            Error::mismatch(what, invalid.found, invalid.expected)
        })
    }

    fn gather_lengths(&mut self, data: &dyn Dataset<Elem = R>) -> Result<()> {
        let t = self.values[0].shape.t;
        self.weighted = false;
        for (lane, &sample) in self.samples[..self.valid].iter().enumerate() {
            let len = data.length(sample).unwrap_or(t);
            if !(1..=t).contains(&len) {
                let what = format!("sample {}: length", sample.index);
                return Err(Error::mismatch(what, len, format!("1 to {t} steps")));
            }
            self.lengths.steps[0][lane] = len as u32;
            let weight = sample.weight * data.weight(sample);
            if !(weight.is_finite() && weight >= 0.0) {
                let what = format!("sample {}: weight", sample.index);
                return Err(Error::mismatch(what, weight, "a finite number of at least 0"));
            }
            self.weights[lane] = weight;
            self.weighted |= weight != 1.0;
        }
        self.apply_lengths();
        Ok(())
    }

    fn gather_targets(&mut self, model: &Model<R>, data: &dyn Dataset<Elem = R>) {
        let (samples, lanes) = (&self.samples[..self.valid], self.lanes);
        match self.target_shape {
            TargetShape::None => {}
            TargetShape::Classes { .. } | TargetShape::Labels { .. } => {
                for (lane, &sample) in samples.iter().enumerate() {
                    data.classes(sample, &mut self.sample_classes);
                    let steps = self.sample_classes.iter().enumerate();
                    steps.for_each(|(t, &class)| self.classes[t * lanes + lane] = class);
                }
            }
            TargetShape::Values(shape) => {
                let scratch = &mut self.scratch[..shape.size()];
                for (lane, &sample) in samples.iter().enumerate() {
                    data.values(sample, scratch);
                    if let Some(normalize) = model.target_normalization() {
                        let values = scratch.iter_mut().enumerate();
                        values.for_each(|(i, value)| *value = normalize.apply(*value, i % shape.f));
                    }
                    scratch.iter().enumerate().for_each(|(i, &v)| self.targets[i * lanes + lane] = v);
                }
            }
        }
    }

    /// Checks that each class that counts is one of the output's.
    fn check_classes(&self, loss: Option<&dyn Loss<R>>) -> Result<()> {
        let classes = self.values[self.values.len() - 1].shape.f as i64;
        let t = match self.target_shape {
            TargetShape::Classes { t } => t,
            TargetShape::Labels { most } => return self.check_labels(loss, most, classes),
            TargetShape::None | TargetShape::Values(_) => return Ok(()),
        };
        for (step, row) in self.classes[..t * self.lanes].chunks_exact(self.lanes).enumerate() {
            for (lane, &class) in row[..self.valid].iter().enumerate() {
                if counts(loss, class) && self.has_step(step, lane) && !(0..classes).contains(&class) {
                    let what = format!("sample {}, step {step}: class", self.samples[lane].index);
                    let expected = format!("0 to less than {classes}, or one that the loss ignores");
                    return Err(Error::mismatch(what, class, expected));
                }
            }
        }
        Ok(())
    }

    /// Checks that each label is one of the output's classes, and that the loss takes it for one.
    fn check_labels(&self, loss: Option<&dyn Loss<R>>, most: usize, classes: i64) -> Result<()> {
        for lane in 0..self.valid {
            let labels =
                (0..most).map(|i| self.classes[i * self.lanes + lane]).take_while(|&label| label >= 0);
            for (i, label) in labels.enumerate() {
                if label >= classes || !counts(loss, label) {
                    let what = format!("sample {}: label {i}", self.samples[lane].index);
                    let expected = format!("0 to less than {classes}, and not the blank");
                    return Err(Error::mismatch(what, label, expected));
                }
            }
        }
        Ok(())
    }

    /// Lets the first layer check the input.
    fn check_input<'m>(&self, model: &'m Model<R>) -> Result<(), (&'m str, InvalidInput)> {
        let Some(first) = model.slots().first() else { return Ok(()) };
        let cx = model.context(
            0,
            Context { lens: self.lengths.at(0, self.valid), ..Context::new(&[], self.mode, self.valid) },
        );
        first.layer.check(&cx, self.values[0].seq(self.lanes)).map_err(|invalid| (&*first.name, invalid))
    }

    /// Notes whether any sequence is shorter than T, computes the lengths that each layer reads, and sets the steps after
    /// a sequence's end to 0: products read them, and 0 · NaN would not be 0.
    fn apply_lengths(&mut self) {
        let x = self.values[0].seq_mut(self.lanes);
        let lens = &self.lengths.steps[0][..self.valid];
        if lens.iter().all(|&len| len as usize == x.shape.t) {
            self.lengths.short.fill(false);
            return;
        }
        self.lengths.short[0] = true;
        for (lane, &len) in lens.iter().enumerate() {
            let first = len as usize * x.shape.f * x.lanes + lane;
            x.data.iter_mut().skip(first).step_by(x.lanes).for_each(|x| *x = R::ZERO);
        }
        for (i, slot) in self.layers.iter().enumerate() {
            let (shape, t) = (self.values[i].shape, self.values[i + 1].shape.t);
            let (below, above) = self.lengths.steps.split_at_mut(i + 1);
            let lens = below[i][..self.valid].iter().zip(&mut above[0]);
            lens.for_each(|(&from, to)| *to = slot.layer.length(shape, from as usize).min(t) as u32);
            self.lengths.short[i + 1] = above[0][..self.valid].iter().any(|&len| (len as usize) < t);
        }
    }

    /// Sets the length of each sample's sequence, 0 to T, after [`set_input`](Self::set_input). The input after its end
    /// becomes 0.
    ///
    /// # Panics
    /// If there is not one length for each sample, or one is larger than T.
    #[track_caller]
    pub fn set_lengths(&mut self, lens: &[usize]) {
        let t = self.values[0].shape.t;
        assert_eq!(lens.len(), self.valid, "one length for each sample");
        for (dst, &len) in self.lengths.steps[0].iter_mut().zip(lens) {
            assert!(len <= t, "found a length of {len}, expected at most {t}");
            *dst = len as u32;
        }
        self.apply_lengths();
    }

    /// Sets the input to a batch, `[batch, T, F]`, without normalising it, with zero states and full lengths.
    ///
    /// # Panics
    /// If the batch is empty or larger than the workspace, or the shape is not that of the model's input.
    #[track_caller]
    pub fn set_input(&mut self, x: ArrayView3<'_, R>) {
        let valid = x.dim().0;
        assert!(valid > 0, "found a batch of 0 samples, expected at least 1");
        self.resize(valid);
        let lanes = self.lanes;
        self.values[0].seq_mut(lanes).scatter(x);
        self.lengths.short.fill(false);
        self.reset_states();
        self.inputs += 1;
        let key = |lane: usize| rng::key(&[INPUTS, self.inputs, lane as u64]);
        self.samples.iter_mut().enumerate().for_each(|(lane, dst)| *dst = Sample::new(lane, key(lane)));
    }

    /// Sets the key of each sample, from which dropout draws its masks, after [`set_input`](Self::set_input).
    ///
    /// # Panics
    /// If there is not one key for each sample.
    #[track_caller]
    pub fn set_keys(&mut self, keys: &[u64]) {
        assert_eq!(keys.len(), self.valid, "one key for each sample");
        self.samples.iter_mut().zip(keys).for_each(|(sample, &key)| sample.key = key);
    }

    /// The output, `[batch, T, F]`.
    pub fn output(&self) -> Array3<R> {
        self.output_seq().collect(self.valid)
    }

    /// Sets the gradient with respect to the output, `[batch, T, F]`, and that with respect to the final states to 0.
    ///
    /// # Panics
    /// If the shape is not that of the output.
    #[track_caller]
    pub fn set_output_gradient(&mut self, dy: ArrayView3<'_, R>) {
        assert_eq!(dy.dim().0, self.valid, "the gradient's batch");
        self.output_gradient().scatter(dy);
        self.dstates.iter_mut().for_each(|state| state.fill(R::ZERO));
    }

    /// The gradient with respect to the input, `[batch, T, F]`, after a [`Model::backward`] with `input_gradient`.
    pub fn input_gradient(&self) -> Array3<R> {
        self.grads[0].seq(self.lanes).collect(self.valid)
    }

    /// The state of layer `layer`, `[batch, state]`: initial before a forward pass, final after it.
    pub fn state(&self, layer: usize) -> Array2<R> {
        unlane(&self.states[layer], self.lanes, self.capacity, self.valid)
    }

    /// Sets the initial state of layer `layer`, `[batch, state]`, after [`set_input`](Self::set_input).
    ///
    /// # Panics
    /// If the shape differs.
    #[track_caller]
    pub fn set_state(&mut self, layer: usize, state: ArrayView2<'_, R>) {
        enlane(&mut self.states[layer], self.lanes, self.capacity, self.valid, state);
    }

    /// The gradient with respect to the state of layer `layer`: to the final one before a backward pass, to the initial
    /// one after.
    pub fn state_gradient(&self, layer: usize) -> Array2<R> {
        unlane(&self.dstates[layer], self.lanes, self.capacity, self.valid)
    }

    /// Sets the gradient with respect to the final state of layer `layer`, `[batch, state]`.
    ///
    /// # Panics
    /// If the shape differs.
    #[track_caller]
    pub fn set_state_gradient(&mut self, layer: usize, state: ArrayView2<'_, R>) {
        enlane(&mut self.dstates[layer], self.lanes, self.capacity, self.valid, state);
    }

    /// Calls `f(sample, true class, predicted class)` for each target that is a class and counts, and for each value where
    /// the loss has a threshold, which makes it class 0 or 1. There is no prediction where an output is NaN.
    pub(crate) fn each_class(
        &self,
        loss: Option<&dyn Loss<R>>,
        mut f: impl FnMut(Sample, usize, Option<usize>),
    ) {
        let y = self.output_seq();
        if let (TargetShape::Values(_), Some(threshold)) =
            (self.target_shape, loss.and_then(|loss| loss.threshold()))
        {
            return self.each_binary(threshold, f);
        }
        let TargetShape::Classes { t } = self.target_shape else { return };
        for t in 0..t {
            let row = y.step(t);
            for lane in 0..self.valid {
                let class = self.classes[t * self.lanes + lane];
                if counts(loss, class) && self.has_step(t, lane) {
                    let predicted = argmax((0..y.shape.f).map(|j| row[j * y.lanes + lane]));
                    f(self.samples[lane], class as usize, predicted);
                }
            }
        }
    }

    /// [`each_class`](Self::each_class) of values, 1 for those above the threshold.
    fn each_binary(&self, threshold: f64, mut f: impl FnMut(Sample, usize, Option<usize>)) {
        let y = self.output_seq();
        for (row, (y_row, targets)) in
            y.data.chunks_exact(y.lanes).zip(self.targets.chunks_exact(y.lanes)).enumerate()
        {
            let t = row / y.shape.f;
            for lane in (0..self.valid).filter(|&lane| self.has_step(t, lane)) {
                let (output, target) = (y_row[lane].to_f64(), targets[lane].to_f64());
                if !target.is_nan() {
                    let predicted = (!output.is_nan()).then(|| usize::from(output > threshold));
                    f(self.samples[lane], usize::from(target > 0.5), predicted);
                }
            }
        }
    }

    /// The class of lane `lane`'s sample and its outputs, where samples have one class each and this one's counts.
    pub(crate) fn class(
        &self,
        loss: &dyn Loss<R>,
        lane: usize,
    ) -> Option<(usize, impl Iterator<Item = f64> + Clone)> {
        let one = self.target_shape == TargetShape::Classes { t: 1 } && self.has_step(0, lane);
        let class = *self.classes.get(lane).filter(|&&class| one && loss.counts(class))?;
        let (y, class) = (self.output_seq(), usize::try_from(class).ok()?);
        Some((class, y.step(0)[lane..].iter().step_by(y.lanes).map(|y| y.to_f64())))
    }

    /// Whether step `t` of the output of lane `lane` is within the sample's length.
    fn has_step(&self, t: usize, lane: usize) -> bool {
        let last = self.lengths.short.len() - 1;
        !self.lengths.short[last] || t < self.lengths.steps[last][lane] as usize
    }

    /// The sums over the tile, later those over the batch, where a pass waits.
    pub(crate) fn sums_mut(&mut self, wait: &Wait) -> &mut [f64] {
        &mut self.sums[wait.layer][wait.sums.clone()]
    }

    /// How many samples are in the tile.
    pub fn valid(&self) -> usize {
        self.valid
    }

    pub(crate) fn output_seq(&self) -> Seq<'_, R> {
        self.values[self.values.len() - 1].seq(self.lanes)
    }

    fn output_gradient(&mut self) -> SeqMut<'_, R> {
        let last = self.grads.len() - 1;
        self.grads[last].seq_mut(self.lanes)
    }

    /// Computes the loss of the tile, samples weighted, and its gradient with respect to the output.
    pub(crate) fn measure(&mut self, loss: &dyn Loss<R>) -> Tally {
        let (lanes, valid) = (self.lanes, self.valid);
        let last = self.grads.len() - 1;
        let targets = match self.target_shape {
            TargetShape::Values(shape) => {
                Targets::Values(Seq::new(&self.targets[..shape.size() * lanes], shape, lanes))
            }
            TargetShape::Classes { t } => Targets::Classes(&self.classes[..t * lanes]),
            TargetShape::Labels { most } => Targets::Labels(&self.classes[..most * lanes]),
            TargetShape::None => Targets::Classes(&[]),
        };
        self.dstates.iter_mut().for_each(|state| state.fill(R::ZERO));
        let (y, dy) = (self.values[last].seq(lanes), self.grads[last].seq_mut(lanes));
        let mut tile = Tile::new(y, targets, valid, dy, &mut self.tallies[..lanes]);
        tile.lens = self.lengths.at(last, valid);
        tile.scratch = &mut self.loss_scratch;
        measure(loss, tile, self.weighted.then_some(&self.weights[..valid]))
    }

    /// The loss of each sample by the last [`measure`](Self::measure), unweighted.
    pub(crate) fn tallies(&self) -> &[Tally] {
        &self.tallies[..self.valid]
    }
}

/// Separates the keys of inputs set by hand from those of drawn samples.
const INPUTS: u64 = u64::from_be_bytes(*b"inputs\0\0");

/// Whether a target of this class counts; without a loss, any class that is not negative does.
fn counts<R: Real>(loss: Option<&dyn Loss<R>>, class: i64) -> bool {
    loss.map_or(class >= 0, |loss| loss.counts(class))
}

fn unlane<R: Real>(data: &[R], lanes: usize, capacity: usize, valid: usize) -> Array2<R> {
    let size = data.len() / capacity;
    Array2::from_shape_fn((valid, size), |(lane, i)| data[i * lanes + lane])
}

#[track_caller]
fn enlane<R: Real>(data: &mut [R], lanes: usize, capacity: usize, valid: usize, from: ArrayView2<'_, R>) {
    assert_eq!(from.dim(), (valid, data.len() / capacity), "the shape of a state, [batch, state]");
    data.fill(R::ZERO);
    for ((lane, i), &value) in from.indexed_iter() {
        data[i * lanes + lane] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 bits are too few for a sample of 2²⁸ values in all lanes, 64 only for sizes that no machine has.
    #[test]
    fn buffers_that_cannot_be_addressed() {
        let bytes = |input: Shape, sizes: Sizes, lanes: usize| {
            workspace_bytes::<f32>(input, [(Shape::new(1, 5), sizes)].into_iter(), lanes, Mode::Train)
        };
        let (few, most) = (Shape::new(2, 3), usize::MAX);
        let none = Sizes::default();
        // The input three times, and the output with its gradient.
        assert_eq!(bytes(few, none, 8), Some((3 * 6 + 2 * 5) * 8 * 4));
        assert_eq!(bytes(Shape::new(most, 2), none, 1), None);
        assert_eq!(bytes(Shape::new(most / 2, 1), none, 1), None);
        assert_eq!(bytes(few, Sizes { cache: most, ..none }, 1), None);
        assert_eq!(bytes(few, Sizes { state: most / 2, ..none }, 1), None);
        assert_eq!(bytes(few, none, most / 64), None);
        // Fewer than 2⁶⁴ bytes, and more than a slice may have.
        assert_eq!(bytes(few, Sizes { cache: most / 6, ..none }, 1), None);
    }
}
