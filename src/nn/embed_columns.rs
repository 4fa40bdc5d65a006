//! Embeddings of some columns, beside the others.

use serde::{Deserialize, Serialize};

use super::embedding::{check_indices, check_sizes, lookup};
use super::{Backward, Build, Built, Context, Description, Features, Forward, InvalidInput, Layer, Wiring};
use crate::kernels::Place;
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Attribute, Graph, Value};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Seq};

/// Categories and numbers in one input: columns that are indices become vectors, all others pass as they are.
///
/// yₜ = [the other columns of xₜ, w₀\[xₜ\[c₀\]\], w₁\[xₜ\[c₁\]\], …]
///
/// Indices are numbers in a column of x: leave those columns out of the normalisation by
/// [`Normalize::except`](crate::data::Normalize::except). There is no gradient with respect to them: dx is 0 there. Where a
/// sequence is shorter than T, any number may follow its end, and its vectors are 0 there.
///
/// # Shapes
/// x `[T, F, B]`, with k columns of indices → y `[T, F − k + E₀ + E₁ + …, B]`
/// # Parameters
/// `0.weight [num_embeddings, E₀]`, `1.weight` and so on, in the order of the calls, N(0, 1): the names of a PyTorch
/// `ModuleList` of `Embedding`s
/// # Saved
/// Nothing: backward reads x again.
/// # Errors
/// [`Error::Mismatch`] as for an [`Embedding`](super::Embedding), if an index is invalid.
/// # Examples
/// A day of the week and a shop, beside two numbers:
/// ```
/// use bptt::data::{Arrays, Dataset, DatasetExt};
/// use bptt::nn::{EmbedColumns, Linear, Lstm};
/// use bptt::{Model, Shape};
/// use ndarray::{Array2, Array3};
///
/// let x = Array3::from_shape_fn((20, 6, 4), |(i, t, column)| match column {
///     0 => (t % 7) as f32,
///     1 => (i % 12) as f32,
///     other => (i * t + other) as f32,
/// });
/// let data = Arrays::vectors(x.clone(), Array2::zeros((20, 1)))?;
/// let model: Model = Model::builder(data.shape())
///     .normalize(data.mean_sd_per_feature()?.except([0, 1])?)
///     .layer("embeddings", EmbedColumns::new().column(0, 7, 2).column(1, 12, 5))
///     .layer("lstm", Lstm::new(8).last())
///     .layer("linear", Linear::new(1))
///     .build(1)?;
/// assert_eq!(model.params().get("embeddings.1.weight").unwrap().shape(), [12, 5]);
/// assert_eq!(model.params().get("lstm.weight_ih_l0").unwrap().shape(), [32, 2 + 2 + 5]);
/// assert_eq!(model.predict(&x)?.dim(), (20, 1, 1));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedColumns {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    column: usize,
    embedding_dim: usize,
    num_embeddings: usize,
}

impl Column {
    fn weights(self) -> usize {
        self.num_embeddings * self.embedding_dim
    }
}

impl EmbedColumns {
    /// No columns yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads column `column` of the input as indices below `num_embeddings`, and puts `embedding_dim` features in its place,
    /// at the end.
    pub fn column(mut self, column: usize, num_embeddings: usize, embedding_dim: usize) -> Self {
        self.columns.push(Column { column, embedding_dim, num_embeddings });
        self
    }

    /// The columns that pass as they are, of `features`.
    fn others(&self, features: usize) -> impl Iterator<Item = usize> {
        (0..features).filter(|&column| self.columns.iter().all(|own| own.column != column))
    }

    /// Each table's column, where its weights are among the parameters, and where its rows are in y.
    fn tables(&self, features: usize) -> impl Iterator<Item = (Column, usize, Place)> {
        let numbers = self.others(features).count();
        let features = numbers + self.columns.iter().map(|own| own.embedding_dim).sum::<usize>();
        self.columns.iter().scan((0, numbers), move |(weights, first), &own| {
            let place = Place { features, first: *first, width: own.embedding_dim };
            let table = (own, *weights, place);
            (*weights, *first) = (*weights + own.weights(), *first + own.embedding_dim);
            Some(table)
        })
    }
}

/// The group of units of the table with this number.
fn group(layer: &str, table: usize) -> String {
    format!("{layer}.{table}")
}

impl<R: Real> Layer<R> for EmbedColumns {
    fn describe(&self) -> Description {
        Description::new("embed_columns", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let Features { shape, units } = build.input();
        for (i, own) in self.columns.iter().enumerate() {
            check_sizes(own.num_embeddings, own.embedding_dim)?;
            if own.column >= shape.f || self.columns[..i].iter().any(|other| other.column == own.column) {
                let expected = format!("another column of {}, counted from 0", shape.f);
                return Err(Error::config("column", format!("found {}, expected {expected}", own.column)));
            }
        }
        if self.columns.is_empty() {
            return Err(Error::config("columns", "found none, expected at least one"));
        }
        // Columns are chosen by their numbers, so none of those below can go.
        build.fix(units);
        let numbers = self.others(shape.f).count();
        let mut output: Vec<Axis> = (numbers > 0).then(|| Axis::from(numbers)).into_iter().collect();
        for (i, own) in self.columns.iter().enumerate() {
            let units = Axis::units(group(build.prefix(), i), own.embedding_dim, 1);
            let axes = [Axis::from(own.num_embeddings), units.clone()];
            build.tensor(&format!("{i}.weight"), axes, Init::Normal(1.0))?;
            output.push(units);
        }
        let output = output.into_iter().reduce(Axis::then).expect("there is at least one column");
        Ok(Built::new(Features::of(shape.t, output)))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn check(&self, cx: &Context<'_, R>, x: Seq<'_, R>) -> Result<(), InvalidInput> {
        self.columns.iter().try_for_each(|own| {
            check_indices(lookup(cx, x, own.column), own.num_embeddings, Some(own.column))
        })
    }

    fn forward(&self, Forward { cx, x, mut y, .. }: Forward<'_, R>) {
        let (features, lanes) = (x.shape.f, x.lanes);
        for t in 0..x.shape.t {
            let (from, to) = (x.step(t), y.step(t));
            for (to, column) in to.chunks_exact_mut(lanes).zip(self.others(features)) {
                to.copy_from_slice(&from[column * lanes..][..lanes]);
            }
        }
        for (own, first, place) in self.tables(features) {
            R::embed(lookup(&cx, x, own.column), &cx.params[first..][..own.weights()], place, y.data);
        }
    }

    fn backward(&self, Backward { cx, x, dy, dx, grads, .. }: Backward<'_, R>) {
        let (features, lanes) = (x.shape.f, x.lanes);
        for (own, first, place) in self.tables(features) {
            let grads = &mut grads[first..][..own.weights()];
            R::embed_backward(lookup(&cx, x, own.column), dy.data, place, grads);
        }
        let Some(mut dx) = dx else { return };
        dx.data.fill(R::ZERO);
        for t in 0..x.shape.t {
            let (from, to) = (dy.step(t), dx.step(t));
            for (from, column) in from.chunks_exact(lanes).zip(self.others(features)) {
                to[column * lanes..][..lanes].copy_from_slice(from);
            }
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        let (name, columns) = (name.to_owned(), self.columns.clone());
        Ok(Wiring::new(move |kept| {
            let smaller = columns.iter().enumerate().map(|(i, own)| {
                let group = group(&name, i);
                kept.at_least(&group, 1);
                Column { embedding_dim: kept.count(&group), ..*own }
            });
            vec![(name.clone(), Box::new(Self { columns: smaller.collect() }))]
        }))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let of_features = [("axis", Attribute::Int(2))];
        let others: Vec<i64> = self.others(graph.input().f).map(|column| column as i64).collect();
        let mut parts = Vec::new();
        if !others.is_empty() {
            let others = graph.ints(&others);
            parts.push(graph.node("Gather", &[&x, &others], &of_features));
        }
        for (i, own) in self.columns.iter().enumerate() {
            let (weight, column) = (graph.param(&format!("{i}.weight"))?, graph.int(own.column as i64));
            let indices = graph.node("Gather", &[&x, &column], &of_features);
            parts.push(super::embedding::export_lookup(graph, &x, None, &weight, indices));
        }
        Ok(graph.node("Concat", &parts.iter().collect::<Vec<_>>(), &of_features))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;
    use crate::nn::{Mode, Workspace};
    use crate::{Model, Shape};

    fn model(layer: EmbedColumns, f: usize) -> Result<Model<f64>> {
        Model::builder(Shape::new(2, f)).layer("e", layer).build(1)
    }

    #[test]
    fn numbers_then_rows() {
        let mut model = model(EmbedColumns::new().column(2, 3, 1).column(0, 2, 2), 4).unwrap();
        model.params_mut().as_mut_slice().copy_from_slice(&[10.0, 20.0, 30.0, 1.0, 2.0, 3.0, 4.0]);
        let x = array![[[1.0, 0.5, 2.0, 0.25], [0.0, -0.5, 0.0, -0.25]]];
        let y = model.predict(&x).unwrap();
        assert_eq!(y, array![[[0.5, 0.25, 30.0, 3.0, 4.0], [-0.5, -0.25, 10.0, 1.0, 2.0]]]);
        let mut stream = model.session().unwrap();
        assert_eq!(stream.push(&[1.0, 0.5, 2.0, 0.25]), [0.5, 0.25, 30.0, 3.0, 4.0]);

        let mut ws = Workspace::new(&model, 1, Mode::Eval);
        ws.set_input(x.view());
        model.forward(&mut ws);
        ws.set_output_gradient(Array3::from_shape_fn((1, 2, 5), |(_, t, f)| (10 * t + f) as f64).view());
        let mut grads = vec![0.0; 7];
        model.backward(&mut ws, &mut grads, true);
        assert_eq!(grads, [12.0, 0.0, 2.0, 13.0, 14.0, 3.0, 4.0]);
        assert_eq!(ws.input_gradient(), array![[[0.0, 0.0, 0.0, 1.0], [0.0, 10.0, 0.0, 11.0]]]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |layer| model(layer, 2).unwrap_err().to_string();
        assert_eq!(fault(EmbedColumns::new()), "`e: columns`: found none, expected at least one");
        let twice = EmbedColumns::new().column(1, 2, 2).column(1, 2, 2);
        assert_eq!(fault(twice), "`e: column`: found 1, expected another column of 2, counted from 0");
        assert!(fault(EmbedColumns::new().column(2, 2, 2)).starts_with("`e: column`: found 2"));
        assert!(fault(EmbedColumns::new().column(0, 0, 2)).starts_with("`e: num_embeddings`: found 0"));

        let model = model(EmbedColumns::new().column(1, 3, 2), 2).unwrap();
        let fault = model.predict(&array![[[0.5, 1.0], [0.5, 3.0]]]).unwrap_err().to_string();
        let expected = "an index: a whole number of at least 0 and below 3, in column 1";
        assert_eq!(fault, format!("layer `e`: sample 0, step 1: found 3, expected {expected}"));
    }
}
