//! Pruning that leaves the means of pre-activations as they were.

use std::collections::HashMap;

use super::tiles::Tiles;
use super::{LayerSlot, Model, Workspace};
use crate::data::{Dataset, Sample};
use crate::nn::Mode;
use crate::params::{Axis, Tensor};
use crate::prune::{Rule, Sparsity};
use crate::{Real, Result, par};

impl<R: Real> Model<R> {
    /// Prunes as [`prune`](Model::prune) does, and adds to biases what the pruned weights contributed on average:
    ///
    /// b ← b + Σ w E\[x\], over the weights w of the bias's row that are newly pruned
    ///
    /// E\[x\] is the mean of what w is multiplied with, over the steps of the samples of `data`. So a unit that is cut while its
    /// output is not 0, but nearly constant, is hardly missed. The bias of `weight…` is the tensor `bias…` of the same layer; if
    /// there is none, or it is pruned, nothing is added.
    ///
    /// It takes one evaluation. Means are taken before pruning. Two are approximations: those of the final states of a
    /// bidirectional stack with `last` stand for all steps of its top layer, and of a GRU that resets before the product, the
    /// mean of h stands for that of r ⊙ h.
    ///
    /// # Errors
    /// Errors of the rule; those of [`compact`](Self::compact), if the model has a custom layer without a
    /// [`wiring`](crate::nn::Layer::wiring); [`Error::Mismatch`](crate::Error::Mismatch) if the data do not fit the model.
    /// Nothing is pruned then.
    /// # Source
    /// An et al. 2024, "Fluctuation-based adaptive structured pruning for large language models", whose baseline bias this is,
    /// for columns of weights.
    /// # Examples
    /// ```
    /// use bptt::prune::Units;
    /// use bptt::{Init, Model, Shape, nn::Linear};
    /// use ndarray::Array3;
    ///
    /// let mut model: Model = Model::builder(Shape::new(1, 3))
    ///     .layer("hidden", Linear::new(2))
    ///     .layer("linear", Linear::new(1))
    ///     .init("*", Init::Constant(0.0))
    ///     .init("hidden.bias", Init::Constant(0.5))
    ///     .init("linear.weight", Init::Constant(4.0))
    ///     .build(1)?;
    /// let x = Array3::ones((5, 1, 3));
    /// let before = model.predict(&x)?;
    /// model.prune_compensated(Units::share(0.5), &x)?;
    /// assert_eq!(model.params().get("linear.bias").unwrap()[[0]], 4.0 * 0.5);
    /// assert_eq!(model.compact()?.predict(&x)?, before);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn prune_compensated(
        &mut self,
        rule: impl Rule<R>,
        data: &dyn Dataset<Elem = R>,
    ) -> Result<Sparsity> {
        let mask = self.marked(rule)?;
        let apart = self.apart()?;
        let means = apart.means(data)?;
        let old = self.mask.clone();
        let new = |i: usize| mask.as_slice()[i] && old.as_ref().is_none_or(|old| !old.as_slice()[i]);
        let mut biases = self.params.as_slice().to_vec();
        for (s, slot) in apart.layers.iter().enumerate() {
            let below =
                if s == 0 { Axis::from(slot.input.f) } else { apart.layers[s - 1].output.units.clone() };
            let tensors = apart.params.layout().tensors().iter();
            for tensor in tensors.filter(|tensor| slot.params.contains(&tensor.offset)) {
                let Some(bias) = apart.bias_of(slot, tensor) else { continue };
                let columns = if tensor.axes[1] == below {
                    means[s].clone()
                } else {
                    means_of_units(&tensor.axes[1], &slot.output.units, &means[s + 1])
                };
                for (k, i) in tensor.range().enumerate().filter(|&(_, i)| new(i)) {
                    let (row, column) = (k / columns.len(), k % columns.len());
                    let contribution = self.params.as_slice()[i].to_f64() * columns[column];
                    biases[bias.offset + row] += R::from_f64(contribution);
                }
            }
        }
        self.params.as_mut_slice().copy_from_slice(&biases);
        Ok(self.prune_marked(mask))
    }

    /// The bias that is added to the product with this tensor, if it is one and has a bias.
    fn bias_of(&self, slot: &LayerSlot<R>, tensor: &Tensor) -> Option<&Tensor> {
        let own = tensor.name.strip_prefix(&slot.name)?;
        let bias =
            self.params.layout().get(&format!("{}{}", slot.name, own.replacen("weight", "bias", 1)))?;
        let fits = tensor.axes.len() == 2 && bias.axes.len() == 1 && bias.axes[0] == tensor.axes[0];
        (fits && bias.name != tensor.name).then_some(bias)
    }

    /// For the input of the first layer and the output of each, the mean of each feature, over all steps of all samples.
    fn means(&self, data: &dyn Dataset<Elem = R>) -> Result<Vec<Vec<f64>>> {
        self.check_same_steps("means", data)?;
        let tiles = Tiles::for_losses::<R>(data.len());
        let inputs = std::iter::once(self.input_shape().f);
        let features: Vec<_> = inputs.chain(self.layers.iter().map(|slot| slot.output.shape.f)).collect();
        let new = || features.iter().map(|&f| Mean { sums: vec![0.0; f], count: 0 }).collect::<Vec<_>>();
        let mut work: Vec<_> = (0..tiles.shares)
            .map(|_| {
                let mut ws = Workspace::try_new(self, tiles.size, Mode::Infer)?;
                ws.expect_targets(data.target_shape(), None);
                Ok((ws, new()))
            })
            .collect::<Result<_>>()?;
        par::for_each(&mut work, |i, (ws, means)| {
            tiles.share(i).try_for_each(|tile| {
                ws.gather(self, data, None, tile.map(Sample::plain))?;
                self.forward(ws);
                means.iter_mut().enumerate().for_each(|(i, mean)| mean.add(ws, i));
                Ok(())
            })
        })?;
        let mut all = new();
        for (_, means) in work {
            for (all, mean) in all.iter_mut().zip(means) {
                all.sums.iter_mut().zip(mean.sums).for_each(|(all, sum)| *all += sum);
                all.count += mean.count;
            }
        }
        Ok(all.into_iter().map(Mean::finish).collect())
    }
}

/// The mean of each feature, while it is summed.
struct Mean {
    sums: Vec<f64>,
    count: usize,
}

impl Mean {
    /// Adds the samples of a tile, in the input of the first layer or the output of layer i − 1.
    fn add<R: Real>(&mut self, ws: &Workspace<R>, i: usize) {
        let (x, lens) = (ws.values[i].seq(ws.lanes), ws.lengths.at(i, ws.valid));
        for lane in 0..ws.valid {
            let steps = lens.map_or(x.shape.t, |lens| lens[lane] as usize);
            self.count += steps;
            for t in 0..steps {
                let values = x.step(t)[lane..].iter().step_by(x.lanes);
                self.sums.iter_mut().zip(values).for_each(|(sum, x)| *sum += x.to_f64());
            }
        }
    }

    fn finish(self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        self.sums.into_iter().map(|sum| sum / count).collect()
    }
}

/// The means of units that are among the outputs of their layer, 0 for others.
fn means_of_units(axis: &Axis, outputs: &Axis, means: &[f64]) -> Vec<f64> {
    let named = |axis: &Axis| {
        let runs = axis.runs().iter();
        runs.flat_map(|run| (0..run.units * run.blocks).map(|i| (run.group.clone(), i))).collect::<Vec<_>>()
    };
    let known: HashMap<_, _> = named(outputs).into_iter().zip(means.iter().copied()).collect();
    named(axis).iter().map(|unit| known.get(unit).copied().unwrap_or(0.0)).collect()
}
