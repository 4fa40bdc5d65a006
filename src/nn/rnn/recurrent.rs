//! Recurrent layers: settings, and the [`Layer`] that runs a stack of any [`Cell`].
//!
//! A stack is L layers of one or two directions; a direction of a layer is a *part*. What the code does, in the
//! letters of the equations:
//!
//! ```text
//! forward:   for each chunk of at most 32 steps, first to last:
//!              for each layer k, for each direction of it:
//!                for each step t of the chunk, in this direction:
//!                  a = b + W x(t) + U h(t−1)                          product
//!                  h(t), c(t) = cell(a, h(t−1), c(t−1))               Cell::forward
//!                  h(t) = W_hr h(t), with proj_size                   product
//!              x of the layer above = h of all directions, after dropout
//!            y = h of the top layer, at every step or the final one
//! backward:  for each chunk, last to first:
//!              dh = dy; for each layer k, top to bottom, for each direction of it:
//!                for each step t of the chunk, against this direction:
//!                  dh(t) = W_hrᵀ dh(t), with proj_size                product
//!                  da, dc(t−1) = cell backwards(dh(t), dc(t))         Cell::backward
//!                  dh(t−1) += Uᵀ da;  dx(t) += Wᵀ da                  product
//!                dW += Σ da xᵀ;  dU += Σ da h(t−1)ᵀ;  db += Σ da      outer, row_sums
//!              dh of the layer below = dx, through dropout's masks
//! ```
//!
//! `passes.rs` has these loops, `layout.rs` the places of everything in the flat slices, `tape.rs` the views of what
//! forward keeps for backward, `packing.rs` the weights as `product` reads them. A chunk ends in a state, from which
//! the next begins; backward hands the gradient of that state to the chunk before.

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Coupling};
use super::layout::{Direction, Part, StackLayout};
use super::packing::pack;
use super::passes::{Cache, Pass};
use super::step::StepPlan;
use super::wiring::{group, projection};
use crate::nn::{Backward, Build, Built, Description, Features, Forward, Layer, Mode, Plan, Step, Wiring};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Shape, memory};

/// More is a mistake, or a malicious file.
const MAX_HIDDEN: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;

/// A stack of recurrent layers of one cell; see [`Lstm`](super::Lstm), [`Gru`](super::Gru), [`Rnn`](super::Rnn),
/// [`PeepholeLstm`](super::PeepholeLstm) and [`LayerNormLstm`](super::LayerNormLstm); [`cell`](super::cell) says how to
/// write a custom cell.
///
/// With [`bidirectional`](Self::bidirectional), each layer runs forward and backward in time, and outputs both,
/// side by side: y `[T, 2H, B]`. The parameters of the second direction have the suffix `_reverse`, and the state
/// has both directions of each layer, one after the other.
///
/// Where sequences are shorter than T, states stay as they are beyond a sequence's end, outputs are 0 there, and no
/// gradient comes from there: final states are those of each sequence's own last step.
// Saved as it is here: keys in alphabetical order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent<C> {
    // Absent where it is true, as it is in files that were written before there was a choice.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub(super) bias: bool,
    pub(super) bidirectional: bool,
    pub(super) cell: C,
    // Absent from files that were written before there was any.
    #[serde(default)]
    pub(super) dropout: f64,
    pub(super) hidden_size: usize,
    pub(super) last: bool,
    pub(super) layers: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proj_size: Option<usize>,
}

fn yes() -> bool {
    true
}

impl<C: Cell> Recurrent<C> {
    /// One layer of `hidden_size` units of a cell that returns the output of every time step. For a
    /// [custom cell](super::cell); those that are built in have a `new`.
    pub fn with_cell(cell: C, hidden_size: usize) -> Self {
        Self {
            bias: true,
            bidirectional: false,
            cell,
            dropout: 0.0,
            hidden_size,
            last: false,
            layers: 1,
            proj_size: None,
        }
    }

    /// The layer of a saved model that has this cell; `None` if it is of another kind, or its settings do not fit.
    ///
    /// Loads models with a [custom cell](super::cell):
    /// `Model::<f32>::load_with(path, Recurrent::<MyCell>::from_description)`.
    pub fn from_description<R: Real>(description: &Description) -> Option<Box<dyn Layer<R>>> {
        let layer: Option<Self> = serde_json::from_value(description.config.clone()).ok();
        layer.filter(|_| description.kind == C::KIND).map(|layer| Box::new(layer) as _)
    }

    /// Whether there are biases `bias_ih_lk` and `bias_hh_lk`; true by default, but for
    /// [`LayerNormLstm`](super::LayerNormLstm).
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The number of stacked layers, PyTorch's `num_layers`; 1 by default.
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Runs in both directions of time.
    pub fn bidirectional(mut self) -> Self {
        self.bidirectional = true;
        self
    }

    /// In training, drops each output of every layer but the top one with probability `p`, 0 to 1, on its way to the
    /// layer above, as PyTorch's `dropout=` does; 0 by default. States pass from step to step undropped.
    ///
    /// For one mask over all time steps, or to drop the input or the top layer's outputs, put a
    /// [`Dropout`](crate::nn::Dropout) between layers.
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Returns only the final hidden state of the top layer, of both directions where there are two: `[1, H, B]`
    /// or `[1, 2H, B]`.
    pub fn last(mut self) -> Self {
        self.last = true;
        self
    }

    /// Projects each hidden state to `proj_size` values, 1 to H − 1, as PyTorch's `proj_size=` does: h' = W_hr m, where m
    /// is what the cell computes. Outputs and hidden states have P features, U is `[gates · H, P]`, the cell state keeps
    /// its H, and each layer has one more tensor, `weight_hr_lk [P, H]`. Without it, nothing is projected.
    ///
    /// LSTMs take it, and [custom cells](super::cell) that say so; others are refused by `build`, as by PyTorch.
    ///
    /// # Source
    /// Sak, Senior & Beaufays 2014, "Long short-term memory recurrent neural network architectures for large scale
    /// acoustic modeling".
    pub fn proj_size(mut self, proj_size: usize) -> Self {
        self.proj_size = Some(proj_size);
        self
    }
}

impl<C: Cell> Recurrent<C> {
    /// Checks that no size of the layout overflows: settings from a file may be absurd, and on targets of 32 bits they
    /// need not even be.
    fn check_room<R>(&self, Shape { t, f }: Shape) -> Result<()> {
        let parts = self.layers * (1 + usize::from(self.bidirectional));
        // No fewer than the rows that a step of a tape has, twice what dropout keeps, and what packs are filled up to.
        let own: usize = C::TENSORS.iter().map(|tensor| tensor.blocks).sum();
        let rows = (2 * self.cell.blocks().len() + own + 16) * (self.hidden_size + 64);
        let rows = rows.saturating_add(self.cell.kept(self.hidden_size));
        let columns = f.saturating_add(2 * self.hidden_size + 64);
        for factors in [[t.saturating_add(2), rows, parts], [columns, rows, parts]] {
            if memory::bytes::<R>(&factors).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
                let fault = format!(
                    "found {} for {} layers on an input of [{t}, {f}], expected sizes that can be addressed",
                    self.hidden_size, self.layers
                );
                return Err(Error::config("hidden_size", fault));
            }
        }
        Ok(())
    }
}

impl<R: Real, C: Cell> Layer<R> for Recurrent<C> {
    fn describe(&self) -> Description {
        Description::new(C::KIND, self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        self.check()?;
        let input = build.input();
        self.check_room::<R>(input.shape)?;
        let layout = StackLayout::new(self, input.shape);
        // What the layer reads: at first the features of the input, then the units of all directions below.
        let mut columns = input.units.clone();
        for layer in 0..self.layers {
            let parts = layout.directions().iter().map(|&direction| Part { layer, direction });
            let units = parts.map(|part| self.declare(part, columns.clone(), build));
            let units = units.collect::<Result<Vec<_>>>()?;
            columns = units.into_iter().reduce(Axis::then).expect("a layer has at least one direction");
        }
        let output = Features::of(if self.last { 1 } else { input.shape.t }, columns);
        Ok(Built::new(output)
            .cache(layout.cache(Mode::Train))
            .infer_cache(layout.cache(Mode::Infer))
            .state(layout.state())
            .packed(layout.packed()))
    }

    fn length(&self, _input: Shape, len: usize) -> usize {
        if self.last { 1 } else { len }
    }

    fn streams(&self) -> bool {
        !self.bidirectional
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        pack(&StackLayout::new(self, input), self.cell.blocks(), params, packed);
    }

    fn plan(&self, features: usize, packed: &[R]) -> Plan {
        Plan::new(StepPlan::new(self, features, packed))
    }

    fn step(&self, step: Step<'_, R>) {
        match step.plan.get() {
            Some(StepPlan { alone: Some(alone), .. }) if step.lanes == 1 => alone.step(step),
            Some(plan) => self.stack_step(&plan.layout, step),
            None => self.stack_step(&StackLayout::new(self, Shape::new(1, step.x.len() / step.lanes)), step),
        }
    }

    fn accepts_everything(&self) -> bool {
        true
    }

    fn forward(&self, Forward { cx, x, mut y, state, cache, .. }: Forward<'_, R>) {
        let (layout, lanes, cx) = (&StackLayout::new(self, x.shape), x.lanes, &cx);
        let mut cache = Cache::new(layout, cx.mode, lanes, cache);
        for steps in layout.chunks() {
            let pass = Pass { stack: self, layout, cx, lanes, steps };
            for layer in 0..self.layers {
                for &direction in layout.directions() {
                    pass.forward_part(Part { layer, direction }, x, state, &mut cache);
                }
                if pass.drops(layer) {
                    pass.drop_outputs(layer, &mut cache);
                }
            }
            if !self.last {
                pass.write_outputs(&mut cache, &mut y);
            }
        }
        if self.last {
            y.data.copy_from_slice(&state[self.last_states(layout, lanes)]);
        }
    }

    fn backward(&self, pass: Backward<'_, R>) {
        let Backward { cx, x, dy, mut dx, dstate, cache, grads, .. } = pass;
        let (layout, lanes, cx) = (&StackLayout::new(self, x.shape), x.lanes, &cx);
        let mut cache = Cache::new(layout, cx.mode, lanes, cache);
        if self.last {
            R::accumulate(&mut dstate[self.last_states(layout, lanes)], dy.data);
        }
        for steps in layout.chunks().rev() {
            let pass = Pass { stack: self, layout, cx, lanes, steps };
            pass.read_gradients((!self.last).then_some(dy), &mut cache);
            for layer in (0..self.layers).rev() {
                for &direction in layout.directions() {
                    let part = Part { layer, direction };
                    pass.backward_part(part, dstate, &mut cache, &mut dx);
                    pass.weight_gradients(part, x, &mut cache, grads);
                }
                if layer > 0 && pass.drops(layer - 1) {
                    pass.drop_gradients(layer - 1, &mut cache);
                }
            }
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        self.units(name)
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        self.export(graph, x)
    }
}

impl<C: Cell> Recurrent<C> {
    fn check(&self) -> Result<()> {
        for (field, value, most) in
            [("hidden_size", self.hidden_size, MAX_HIDDEN), ("layers", self.layers, MAX_LAYERS)]
        {
            if !(1..=most).contains(&value) {
                return Err(Error::config(field, format!("found {value}, expected 1 to {most}")));
            }
        }
        if !(0.0..=1.0).contains(&self.dropout) {
            let fault = format!("found {}, expected a probability, 0 to 1", self.dropout);
            return Err(Error::config("dropout", fault));
        }
        if let Some(size) = self.proj_size {
            if !C::PROJECTS || self.cell.blocks().iter().any(|block| block.gated) {
                let fault =
                    format!("found {size} for a layer of kind `{}`, expected it for an LSTM", C::KIND);
                return Err(Error::config("proj_size", fault));
            }
            if !(1..self.hidden_size).contains(&size) {
                let fault = format!(
                    "found {size}, expected at least 1 and less than hidden_size, {}",
                    self.hidden_size
                );
                return Err(Error::config("proj_size", fault));
            }
        }
        self.cell.check()
    }

    /// Declares the tensors of one part, which reads `columns`, and returns its units.
    fn declare(&self, part: Part, columns: Axis, build: &mut Build<'_>) -> Result<Axis> {
        let (layer, suffix) = (part.layer, part.direction.suffix());
        let (units, init) = (self.hidden_size, Init::pytorch(self.hidden_size));
        let group = group(build.prefix(), part);
        let blocks = |blocks: usize| Axis::units(&*group, units, blocks);
        let outputs = match self.proj_size {
            None => blocks(1),
            Some(size) => Axis::units(projection(&group), size, 1),
        };
        if !matches!(C::COUPLING, Coupling::Own { .. }) {
            build.fix(&blocks(1));
        }
        let mut tensors = vec![
            ("weight_ih", vec![blocks(C::GATES), columns], init),
            ("weight_hh", vec![blocks(C::GATES), outputs.clone()], init),
        ];
        if self.bias {
            tensors.extend(["bias_ih", "bias_hh"].map(|name| (name, vec![blocks(C::GATES)], init)));
        }
        if self.proj_size.is_some() {
            tensors.push(("weight_hr", vec![outputs.clone(), blocks(1)], init));
        }
        tensors.extend(C::TENSORS.iter().map(|own| (own.name, vec![blocks(own.blocks)], (own.init)(units))));
        for (name, axes, init) in tensors {
            build.tensor(&format!("{name}_l{layer}{suffix}"), axes, init)?;
        }
        Ok(outputs)
    }

    /// The final hidden states of the top layer within the stack's state.
    fn last_states(&self, layout: &StackLayout, lanes: usize) -> std::ops::Range<usize> {
        let top = Part { layer: self.layers - 1, direction: Direction::Forward };
        let width = layout.width * lanes;
        layout.index(top) * width..layout.part_count() * width
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Gru, Lstm};

    #[test]
    fn layouts_that_cannot_be_addressed() {
        let most = usize::MAX;
        let room = |input| Lstm::new(4).layers(2).check_room::<f32>(input);
        room(Shape::new(1 << 20, 3)).unwrap();
        for input in
            [Shape::new(most, 3), Shape::new(most / 64, 3), Shape::new(1, most), Shape::new(1, most / 64)]
        {
            let message = room(input).unwrap_err().to_string();
            let expected =
                format!("`hidden_size`: found 4 for 2 layers on an input of {input}, expected sizes");
            assert!(message.starts_with(&expected), "{message}");
        }
        assert!(Gru::new(4).check_room::<f64>(Shape::new(most / 256, 3)).is_err());
    }
}
