//! Making built-in layers from their saved descriptions.

use super::{Activation, Description, Gru, Layer, Linear, LogSoftmax, Lstm, Rnn};
use super::{
    AttentionPool, BatchNorm, Branches, Conv1d, Conv2d, Dropout, EmbedColumns, Embedding, LayerNorm,
    LayerNormLstm, PeepholeLstm, Pool, Pool2d, Transpose,
};
use crate::{Error, Real, Result};

/// The built-in layer with this description; `load` makes the layers within it.
///
/// # Errors
/// [`Error::Config`] for a kind that is not built in, or settings that do not belong to it.
pub(crate) fn layer<R: Real>(
    Description { kind, config }: Description,
    load: &dyn Fn(Description) -> Result<Box<dyn Layer<R>>>,
) -> Result<Box<dyn Layer<R>>> {
    let bad = |e: serde_json::Error| Error::config(&kind, e.to_string());
    let layer: Box<dyn Layer<R>> = match kind.as_str() {
        "lstm" => Box::new(serde_json::from_value::<Lstm>(config).map_err(bad)?),
        "rnn" => Box::new(serde_json::from_value::<Rnn>(config).map_err(bad)?),
        "gru" => Box::new(serde_json::from_value::<Gru>(config).map_err(bad)?),
        "peephole_lstm" => Box::new(serde_json::from_value::<PeepholeLstm>(config).map_err(bad)?),
        "layer_norm_lstm" => Box::new(serde_json::from_value::<LayerNormLstm>(config).map_err(bad)?),
        "linear" => Box::new(serde_json::from_value::<Linear>(config).map_err(bad)?),
        "log_softmax" => Box::new(serde_json::from_value::<LogSoftmax>(config).map_err(bad)?),
        "activation" => Box::new(serde_json::from_value::<Activation>(config).map_err(bad)?),
        "dropout" => Box::new(serde_json::from_value::<Dropout>(config).map_err(bad)?),
        "embed_columns" => Box::new(serde_json::from_value::<EmbedColumns>(config).map_err(bad)?),
        "embedding" => Box::new(serde_json::from_value::<Embedding>(config).map_err(bad)?),
        "layer_norm" => Box::new(serde_json::from_value::<LayerNorm>(config).map_err(bad)?),
        "pool" => Box::new(serde_json::from_value::<Pool>(config).map_err(bad)?),
        "attention_pool" => Box::new(serde_json::from_value::<AttentionPool>(config).map_err(bad)?),
        "batch_norm" => Box::new(serde_json::from_value::<BatchNorm>(config).map_err(bad)?),
        "branches" => Box::new(Branches::from_config(config, load)?),
        "transpose" => Box::new(serde_json::from_value::<Transpose>(config).map_err(bad)?),
        "conv1d" => Box::new(serde_json::from_value::<Conv1d>(config).map_err(bad)?),
        "conv2d" => Box::new(serde_json::from_value::<Conv2d>(config).map_err(bad)?),
        "pool2d" => Box::new(serde_json::from_value::<Pool2d>(config).map_err(bad)?),
        other => {
            return Err(Error::config(other, "found a layer that is not built in; see `Model::load_with`"));
        }
    };
    Ok(layer)
}
