//! The models to choose from.

use bptt::data::Dataset;
use bptt::nn::{
    Activation, BatchNorm, Branches, Chain, Conv2d, Dropout, Lstm, ModelBuilder, Pool2d, Transpose,
};
use bptt::{Model, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::recipe::{Network, Recipe, Rule};

/// What reads the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// Recurrent layers, of the cell and size that other flags say
    #[default]
    Recurrent,
    /// Three convolutions, then an LSTM in both directions: 2.7 million multiply-adds an image
    ConvLstm,
    /// The same with fewer channels and units: 0.54 million multiply-adds an image
    ConvLstmSmall,
    /// Two layers of LSTM along the rows beside two along the columns, each in both directions: 8.1 million multiply-adds an
    /// image
    RowsAndColumns,
}

impl Layers {
    /// How the model is trained, unless flags say otherwise, and on how many of the official images: what did best on
    /// validation images. `None` for those whose recipe is a flag.
    pub fn recipe(self) -> Option<(Recipe, usize)> {
        let recipe = Recipe {
            batch_size: 128,
            flip: 0.5,
            label_smoothing: 0.05,
            lr: 0.006,
            one_cycle: true,
            optimizer: Rule::AdamW,
            shift: 1,
            weight_decay: 0.02,
            ..Recipe::paper()
        };
        match self {
            Layers::Recurrent => None,
            Layers::ConvLstm => Some((recipe, 55_000)),
            Layers::ConvLstmSmall => Some((Recipe { lr: 0.008, ..recipe }, 55_000)),
            Layers::RowsAndColumns => {
                let muon =
                    Recipe { erase: 0.25, lr: 0.01, optimizer: Rule::Muon, weight_decay: 0.04, ..recipe };
                Some((muon, 55_000))
            }
        }
    }

    /// The model, for images like `train`'s; `network` is what other flags say.
    pub fn build(
        self,
        recipe: &Recipe,
        (network, seed): (&Network, u64),
        train: &dyn Dataset<Elem = f32>,
    ) -> Result<Model> {
        let shape = train.shape();
        match self {
            Layers::Recurrent => recipe.model(network, train, seed),
            Layers::ConvLstm => recipe.model_of(train, seed, |builder| {
                let lstm = Lstm::new(64).bidirectional().last();
                convolutions(builder, [16, 32, 64]).layer("lstm", lstm).layer("dropout", Dropout::new(0.2))
            }),
            Layers::ConvLstmSmall => recipe.model_of(train, seed, |builder| {
                let lstm = Lstm::new(24).bidirectional().last();
                convolutions(builder, [8, 16, 24]).layer("lstm", lstm).layer("dropout", Dropout::new(0.1))
            }),
            Layers::RowsAndColumns => recipe.model_of(train, seed, |builder| {
                let lstm = || Lstm::new(64).layers(2).bidirectional().last();
                let columns =
                    Chain::new().layer("transpose", Transpose::new(shape.t, 1)).layer("lstm", lstm());
                let both = Branches::concat()
                    .branch("rows", Chain::new().layer("lstm", lstm()))
                    .branch("columns", columns);
                builder.layer("both", both).layer("dropout", Dropout::new(0.2))
            }),
        }
    }
}

/// Three convolutions of 3 x 3 with so many channels: 28 rows of 28 columns become 7 steps of 4 columns.
// Pooled before they are normalised, which is a quarter of the work and does as well.
fn convolutions(builder: ModelBuilder<f32>, [first, second, third]: [usize; 3]) -> ModelBuilder<f32> {
    let conv = |from, to| Conv2d::new(from, to, [3, 3]).padding([1, 1]).bias(false);
    builder
        .layer("conv1", conv(1, first))
        .layer("pool1", Pool2d::max(first, [2, 2]))
        .layer("norm1", BatchNorm::channels(first))
        .layer("relu1", Activation::relu())
        .layer("conv2", conv(first, second))
        .layer("pool2", Pool2d::max(second, [2, 2]))
        .layer("norm2", BatchNorm::channels(second))
        .layer("relu2", Activation::relu())
        .layer("conv3", conv(second, third).stride([1, 2]))
        .layer("norm3", BatchNorm::channels(third))
        .layer("relu3", Activation::relu())
}
