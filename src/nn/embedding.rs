//! Embedding: a vector for each index.

use serde::{Deserialize, Serialize};

use super::{Backward, Build, Built, Context, Description, Features, Forward, InvalidInput, Layer, Wiring};
use crate::kernels::{Lookup, Place};
#[cfg(feature = "onnx")]
use crate::onnx_graph::{Graph, Value};
use crate::params::Axis;
use crate::{Error, Init, Real, Result, Seq};

/// Up to here every whole number is exact as an `f32`.
const MAX_SIZE: usize = 1 << 24;

/// A vector for each whole number below `num_embeddings`.
///
/// yₜ = w\[xₜ\]; dw\[xₜ\] += dyₜ
///
/// Indices are numbers, one per time step, so do not normalise them. There is no gradient with respect to the input: dx
/// is 0. Where a sequence is shorter than T, any number may follow its end, and y is 0 there.
///
/// # Shapes
/// x `[T, 1, B]`, whole numbers of at least 0 and below `num_embeddings` → y `[T, E, B]`
/// # Parameters
/// `weight [num_embeddings, E]`, N(0, 1), as in PyTorch
/// # Saved
/// Nothing: backward reads x again.
/// # Errors
/// [`Error::Mismatch`], naming sample, step and index, from everything that trains or predicts with a model whose first
/// layer is an embedding, if an x is not a whole number or not below `num_embeddings`. In a
/// [`Workspace`](super::Workspace) that is filled by hand, and where another layer comes first, such an x is a panic.
/// # Source
/// Bengio et al. 2003, "A neural probabilistic language model".
/// # Examples
/// ```
/// use bptt::{Model, Shape, nn::Embedding};
/// # fn main() -> bptt::Result<()> {
/// let embedding = Embedding::new(10, 3);
/// let model: Model = Model::builder(Shape::new(2, 1)).layer("embedding", embedding).build(1)?;
/// let y = model.predict(&ndarray::array![[[7.0], [0.0]]])?;
/// let weight = model.params().get("embedding.weight").unwrap();
/// assert_eq!(y.shape(), [1, 2, 3]);
/// assert_eq!(y[[0, 0, 2]], weight[[7, 2]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    embedding_dim: usize,
    num_embeddings: usize,
}

impl Embedding {
    /// `num_embeddings` vectors of `embedding_dim` features.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Self {
        Self { embedding_dim, num_embeddings }
    }

    /// The whole output.
    fn place(&self) -> Place {
        Place { features: self.embedding_dim, first: 0, width: self.embedding_dim }
    }
}

impl<R: Real> Layer<R> for Embedding {
    fn describe(&self) -> Description {
        Description::new("embedding", self)
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        check_sizes(self.num_embeddings, self.embedding_dim)?;
        let input = build.input().shape;
        if input.f != 1 {
            let fault = format!(
                "found {} features per step, expected 1: an index; for columns of indices, see `EmbedColumns`",
                input.f
            );
            return Err(Error::config("input", fault));
        }
        let units = Axis::units(build.prefix(), self.embedding_dim, 1);
        build.tensor("weight", [Axis::from(self.num_embeddings), units.clone()], Init::Normal(1.0))?;
        Ok(Built::new(Features::of(input.t, units)))
    }

    fn takes_one_lane(&self) -> bool {
        true
    }

    fn check(&self, cx: &Context<'_, R>, x: Seq<'_, R>) -> Result<(), InvalidInput> {
        check_indices(lookup(cx, x, 0), self.num_embeddings, None)
    }

    fn forward(&self, Forward { cx, x, y, .. }: Forward<'_, R>) {
        R::embed(lookup(&cx, x, 0), cx.params, self.place(), y.data);
    }

    fn backward(&self, Backward { cx, x, dy, dx, grads, .. }: Backward<'_, R>) {
        R::embed_backward(lookup(&cx, x, 0), dy.data, self.place(), grads);
        if let Some(dx) = dx {
            dx.data.fill(R::ZERO);
        }
    }

    fn wiring(&self, name: &str) -> Result<Wiring<R>> {
        let (group, num_embeddings) = (name.to_owned(), self.num_embeddings);
        Ok(Wiring::new(move |kept| {
            kept.at_least(&group, 1);
            let layer = Self { embedding_dim: kept.count(&group), num_embeddings };
            vec![(group.clone(), Box::new(layer))]
        }))
    }

    #[cfg(feature = "onnx")]
    fn export_onnx(&self, graph: &mut Graph<'_, R>, x: Value) -> Result<Value> {
        let weight = graph.param("weight")?;
        let feature = graph.ints(&[-1]);
        let indices = graph.node("Squeeze", &[&x, &feature], &[]);
        Ok(export_lookup(graph, &x, Some(feature), &weight, indices))
    }
}

/// Checks the sizes of a table.
pub(super) fn check_sizes(num_embeddings: usize, embedding_dim: usize) -> Result<()> {
    for (field, value) in [("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)] {
        if !(1..=MAX_SIZE).contains(&value) {
            return Err(Error::config(field, format!("found {value}, expected 1 to {MAX_SIZE}")));
        }
    }
    Ok(())
}

/// Checks that what is looked up is indices of `rows` rows, in this column, if there are several.
pub(super) fn check_indices<R: Real>(
    lookup: Lookup<'_, R>,
    rows: usize,
    column: Option<usize>,
) -> Result<(), InvalidInput> {
    let Some((step, lane, found)) = lookup.first_unfit(rows) else { return Ok(()) };
    let place = column.map_or(String::new(), |column| format!(", in column {column}"));
    let expected = format!("an index: a whole number of at least 0 and below {rows}{place}");
    Err(InvalidInput { lane, step, found: found.to_string(), expected })
}

/// The indices in column `column` of x.
pub(super) fn lookup<'a, R>(cx: &Context<'a, R>, x: Seq<'a, R>, column: usize) -> Lookup<'a, R> {
    Lookup { x: x.data, features: x.shape.f, column, valid: cx.valid, lens: cx.lens, lanes: x.lanes }
}

/// Writes the rows of a table that `indices`, `[T, batch]`, choose: `[T, batch, E]`. `feature` is the constant that names
/// the last axis of x, `[T, batch, F]`, if there already is one.
#[cfg(feature = "onnx")]
pub(super) fn export_lookup<R: Real>(
    graph: &mut Graph<'_, R>,
    x: &Value,
    feature: Option<Value>,
    weight: &Value,
    indices: Value,
) -> Value {
    let mut indices = graph.cast_int64(&indices);
    let mask = graph.mask(x);
    if let Some(mask) = &mask {
        // What follows a sequence's end may be out of range, so it is not looked up.
        let feature = feature.unwrap_or_else(|| graph.ints(&[-1]));
        let counts = graph.node("Squeeze", &[mask, &feature], &[]);
        let counts = graph.cast_int64(&counts);
        indices = graph.node("Mul", &[&indices, &counts], &[]);
    }
    let y = graph.node("Gather", &[weight, &indices], &[]);
    let Some(mask) = mask else { return y };
    let zero = graph.scalar(R::ZERO);
    graph.node("Where", &[&mask, &y, &zero], &[])
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;
    use crate::data::Arrays;
    use crate::loss::Mse;
    use crate::nn::{Mode, Workspace};
    use crate::optim::Sgd;
    use crate::{Model, Shape, Trainer};

    fn build(n: usize, e: usize, f: usize) -> Result<Model<f64>> {
        Model::builder(Shape::new(2, f)).layer("e", Embedding::new(n, e)).build(1)
    }

    #[test]
    fn bad_sizes_are_errors() {
        let message = |n, e, f| build(n, e, f).unwrap_err().to_string();
        assert_eq!(message(0, 3, 1), "`e: num_embeddings`: found 0, expected 1 to 16777216");
        assert_eq!(message(3, 0, 1), "`e: embedding_dim`: found 0, expected 1 to 16777216");
        assert!(message(3, 3, 2).starts_with("`e: input`: found 2 features per step, expected 1: an index"));
        assert!(build(MAX_SIZE + 1, 1, 1).is_err());
    }

    #[test]
    fn what_is_no_index_is_an_error_wherever_it_is_read() -> Result<()> {
        let mut model = build(3, 2, 1)?;
        let mut x = Array3::from_elem((50, 2, 1), 2.0);
        for bad in [3.0, -1.0, 0.5, f64::NAN] {
            x[[40, 1, 0]] = bad;
            let fault = format!(
                "layer `e`: sample 40, step 1: found {bad}, expected an index: a whole number of at least 0 and below 3"
            );
            assert_eq!(model.predict(&x).unwrap_err().to_string(), fault);
            // A single sample passes without pads.
            let alone = model.predict(&array![[[2.0], [bad]]]).unwrap_err().to_string();
            assert!(alone.contains("sample 0, step 1"), "{alone}");
            if bad.is_nan() {
                continue;
            }
            let data = Arrays::values(x.clone(), Array3::zeros((50, 2, 2)))?;
            assert_eq!(model.evaluate_with(&data, &Mse).unwrap_err().to_string(), fault);
            assert_eq!(model.sample_losses(&data, &Mse).unwrap_err().to_string(), fault);
            let before = model.params().as_slice().to_vec();
            let mut trainer = Trainer::new(Mse, Sgd::new(0.1)).batch_size(50);
            assert_eq!(trainer.fit(&mut model, &data, None).unwrap_err().to_string(), fault);
            assert_eq!(model.params().as_slice(), before);
            // After a sequence's end it does not count.
            let short = data.lengths(vec![1; 50])?;
            assert!(model.evaluate_with(&short, &Mse).is_ok());
        }
        Ok(())
    }

    #[test]
    #[should_panic(expected = "index 3 at step 1 of lane 0, expected a whole number below 3")]
    fn an_index_past_the_end_panics_where_nothing_is_checked() {
        let model = build(3, 2, 1).unwrap();
        let mut ws = Workspace::new(&model, 1, Mode::Infer);
        ws.set_input(array![[[2.0], [3.0]]].view());
        model.forward(&mut ws);
    }
}
