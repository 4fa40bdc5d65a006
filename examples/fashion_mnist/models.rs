//! The models to choose from.

use bptt::data::Dataset;
use bptt::nn::{Activation, Branches, Chain, Conv2d, Dropout, Lstm, Pool2d, Transpose};
use bptt::{Model, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::recipe::{Network, Recipe};

/// What reads the images.
#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// Recurrent layers, of the cell and size that other flags say
    Recurrent,
    /// Two convolutions, then an LSTM in both directions: 2 million multiply-adds an image
    ConvLstm,
    /// An LSTM along the rows beside one along the columns, each in both directions
    RowsAndColumns,
}

impl Layers {
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
                builder
                    .layer("conv1", Conv2d::new(1, 16, [3, 3]).padding([1, 1]))
                    .layer("pool1", Pool2d::max(16, [2, 2]))
                    .layer("relu1", Activation::relu())
                    .layer("conv2", Conv2d::new(16, 32, [3, 3]).padding([1, 1]))
                    .layer("pool2", Pool2d::max(32, [1, 2]))
                    .layer("relu2", Activation::relu())
                    .layer("lstm", Lstm::new(64).bidirectional().last())
                    .layer("dropout", Dropout::new(0.2))
            }),
            Layers::RowsAndColumns => recipe.model_of(train, seed, |builder| {
                let lstm = || Lstm::new(48).bidirectional().last();
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
