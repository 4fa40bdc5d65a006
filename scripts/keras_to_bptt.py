"""A Keras model as a file that bptt's `Model::load` reads.

    python scripts/keras_to_bptt.py model.keras model.safetensors [--steps T]

It needs keras 3 with any backend, numpy and safetensors; Keras itself reads the file, `.keras` or `.h5`. From Python:
`convert(model, "model.safetensors")`. In Rust, `let model: Model = Model::load("model.safetensors")?;`. `--steps` gives T where
the model leaves it open (`Input((None, features))`).

Layers keep their names. What differs between the two is converted:

- Kernels are transposed. Keras has one bias a gate: it becomes `bias_ih`, and `bias_hh` is 0.
- LSTM: gates i, f, c, o there are i, f, g, o here. GRU: z, r, h there, r, z, n here, with `reset_after` both ways.
- `return_sequences=False` is `last`. `Bidirectional` has to concatenate, which is its default.
- A softmax at the end becomes a log-softmax: outputs are logarithms of Keras's probabilities, as losses and metrics here want
  them. An activation within a layer becomes a layer of its own, `NAME_activation`.
- Only layers in a row are read, from a Sequential or a functional model. What has no counterpart is named, all of it at once.
"""

import argparse
import json
import sys

import numpy as np

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}


class Unsupported(ValueError):
    """What a model has that cannot be converted, a line for each."""


class Conversion:
    """Layers and tensors, as they come together, and what could not be converted."""

    def __init__(self):
        self.layers, self.tensors, self.faults, self.notes = [], {}, [], []

    def add(self, name, kind, config, **tensors):
        self.layers.append({"layer": {"kind": kind, "config": config}, "name": name})
        self.tensors |= {f"{name}.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}

    def expect(self, layer, **settings):
        """Notes a fault for each setting of `layer` that is not as given."""
        for key, expected in settings.items():
            found = getattr(layer, key, expected)
            if found != expected:
                self.faults.append(f"{layer.name}: found {key}={found!r}, expected {expected!r}")

    def activation(self, name, function, last):
        """Adds an activation function, by Keras's name for it."""
        if function == "linear":
            return
        if function in ACTIVATIONS:
            self.add(name, "activation", ACTIVATIONS[function])
        elif function == "log_softmax" or function == "softmax" and last:
            self.add(name, "log_softmax", None)
            if function == "softmax":
                self.notes.append(f"{name}: outputs are log-probabilities, where Keras's are probabilities")
        else:
            where = " before the end" if function == "softmax" else ""
            self.faults.append(f"{name}: found the activation {function}{where}, expected one of {[*ACTIVATIONS]}")


def function(layer, key="activation"):
    return getattr(getattr(layer, key), "__name__", "?")


def rows(kernel, order):
    """A kernel or bias with its gates along the last axis: transposed, its gates in another order."""
    return np.concatenate([np.split(kernel, len(order), axis=-1)[gate].T for gate in order])


def cell_tensors(layer, order, suffix):
    """The tensors of one direction."""
    weights = {weight.name: weight.numpy() for weight in layer.weights}
    tensors = {
        f"weight_ih_l0{suffix}": rows(weights["kernel"], order),
        f"weight_hh_l0{suffix}": rows(weights["recurrent_kernel"], order),
    }
    if layer.use_bias:
        bias = weights["bias"]
        # A GRU with `reset_after` has two.
        ours, recurrent = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
        tensors |= {f"bias_ih_l0{suffix}": rows(ours, order), f"bias_hh_l0{suffix}": rows(recurrent, order)}
    return tensors


def recurrent(to, name, layer, backward=None):
    kinds = {"LSTM": ("lstm", [0, 1, 2, 3]), "GRU": ("gru", [1, 0, 2]), "SimpleRNN": ("rnn", [0])}
    kind, order = kinds[type(layer).__name__]
    to.expect(layer, return_state=False, stateful=False, go_backwards=False)
    cell = None
    if kind == "rnn":
        cell = function(layer)
        if cell not in ("tanh", "relu"):
            to.faults.append(f"{name}: found the activation {cell}, expected tanh or relu")
    else:
        if (found := (function(layer), function(layer, "recurrent_activation"))) != ("tanh", "sigmoid"):
            to.faults.append(f"{name}: found the activations {found}, expected tanh and sigmoid")
        if kind == "gru" and not layer.reset_after:
            cell = {"reset_after": False}
    if layer.dropout or layer.recurrent_dropout:
        to.notes.append(f"{name}: dropout={layer.dropout}, recurrent_dropout={layer.recurrent_dropout} are left out")
    tensors = cell_tensors(layer, order, "")
    if backward is not None:
        tensors |= cell_tensors(backward, order, "_reverse")
    config = {
        "bias": layer.use_bias,
        "bidirectional": backward is not None,
        "cell": cell,
        "dropout": 0.0,
        "hidden_size": layer.units,
        "last": not layer.return_sequences,
        "layers": 1,
    }
    to.add(name, kind, config, **tensors)


def bidirectional(to, name, layer):
    if type(layer.forward_layer).__name__ not in ("LSTM", "GRU", "SimpleRNN"):
        to.faults.append(f"{name}: found {type(layer.forward_layer).__name__} within, expected LSTM, GRU or SimpleRNN")
        return
    to.expect(layer, merge_mode="concat")
    theirs, ours = layer.backward_layer.get_config(), layer.forward_layer.get_config()
    same = ["units", "activation", "recurrent_activation", "use_bias", "reset_after", "return_sequences"]
    if type(layer.backward_layer) is not type(layer.forward_layer) or any(theirs.get(k) != ours.get(k) for k in same):
        to.faults.append(f"{name}: found two directions that differ, expected the same settings")
        return
    recurrent(to, name, layer.forward_layer, layer.backward_layer)


def dense(to, name, layer, last):
    kernel, *bias = [weight.numpy() for weight in layer.weights]
    if kernel.ndim != 2:
        to.faults.append(f"{name}: found a kernel of shape {kernel.shape}, expected two axes")
        return
    config = {"bias": layer.use_bias, "out_features": layer.units}
    to.add(name, "linear", config, weight=kernel.T, **{"bias": value for value in bias})
    to.activation(f"{name}_activation", function(layer), last)


def layer_norm(to, name, layer):
    weights = {weight.name: weight.numpy() for weight in layer.weights}
    features = layer.input.shape[-1]
    to.expect(layer, rms_scaling=False)
    if list(np.atleast_1d(layer.axis)) not in ([-1], [2]):
        to.faults.append(f"{name}: found axis={layer.axis}, expected the last")
    tensors = {}
    if weights:
        dtype = next(iter(weights.values())).dtype
        tensors["weight"] = weights.get("gamma", np.ones(features, dtype))
        tensors["bias"] = weights.get("beta", np.zeros(features, dtype))
    to.add(name, "layer_norm", {"elementwise_affine": bool(weights), "eps": layer.epsilon}, **tensors)


def conv1d(to, name, layer, last):
    to.expect(layer, dilation_rate=(1,), groups=1, data_format="channels_last")
    [size], [stride] = layer.kernel_size, layer.strides
    if layer.padding == "same" and (size % 2 == 0 or stride > 1):
        to.faults.append(f"{name}: found padding='same' of size {size} and stride {stride}, expected an odd size, stride 1")
    kernel, *bias = [weight.numpy() for weight in layer.weights]
    config = {
        "bias": layer.use_bias,
        "causal": layer.padding == "causal",
        "kernel_size": size,
        "out_channels": layer.filters,
        "padding": size // 2 if layer.padding == "same" else 0,
        "stride": stride,
    }
    # [k, in, out] there, [out, in, k] here.
    to.add(name, "conv1d", config, weight=kernel.transpose(2, 1, 0), **{"bias": value for value in bias})
    to.activation(f"{name}_activation", function(layer), last)


def embedding(to, name, layer):
    to.expect(layer, mask_zero=False)
    if to.layers:
        to.faults.append(f"{name}: found an embedding after other layers, expected it first")
    config = {"embedding_dim": layer.output_dim, "num_embeddings": layer.input_dim}
    to.add(name, "embedding", config, weight=layer.weights[0].numpy())


def convert_layer(to, layer, last):
    kind, name = type(layer).__name__, layer.name.replace(".", "_")
    if kind == "TimeDistributed" and type(layer.layer).__name__ == "Dense":
        # A dense layer is applied to each step anyway.
        kind, layer = "Dense", layer.layer
    match kind:
        case "InputLayer":
            pass
        case "LSTM" | "GRU" | "SimpleRNN":
            recurrent(to, name, layer)
        case "Bidirectional":
            bidirectional(to, name, layer)
        case "Dense":
            dense(to, name, layer, last)
        case "Conv1D":
            conv1d(to, name, layer, last)
        case "LayerNormalization":
            layer_norm(to, name, layer)
        case "Embedding":
            embedding(to, name, layer)
        case "Dropout" | "SpatialDropout1D":
            to.add(name, "dropout", {"locked": kind == "SpatialDropout1D", "p": layer.rate})
        case "GlobalAveragePooling1D" | "GlobalMaxPooling1D":
            to.expect(layer, keepdims=False, data_format="channels_last")
            to.add(name, "pool", "mean" if "Average" in kind else "max")
        case "Activation":
            to.activation(name, function(layer), last)
        case "ReLU":
            to.expect(layer, max_value=None, negative_slope=0.0, threshold=0.0)
            to.activation(name, "relu", last)
        case "Softmax":
            to.expect(layer, axis=-1)
            to.activation(name, "softmax", last)
        case _:
            to.faults.append(f"{name}: found a layer {kind}, which has no counterpart here")


def layers_in_a_row(model, to):
    """The layers in order; a fault where they are no chain."""
    # A Sequential keeps what it is made of as a functional model once it is built.
    function = getattr(model, "_functional", model)
    calls = getattr(function, "_nodes_by_depth", None)
    if calls is None:
        to.faults.append(f"{model.name}: found a model of a class of its own, expected Sequential or functional")
    elif any(len(nodes) > 1 for nodes in calls.values()) or len(calls) > len(function.layers) or len(function.outputs) > 1:
        to.faults.append(f"{model.name}: found branches or layers used twice, expected layers in a row")
    return model.layers


def input_shape(model, steps, to):
    shape = model.input_shape
    if isinstance(shape, list) or len(shape) not in (2, 3):
        to.faults.append(f"{model.name}: found the input {shape}, expected one of [batch, time, features]")
        return None
    # An embedding takes [batch, time] of whole numbers there, and one feature here.
    time, features = (shape[1], 1) if len(shape) == 2 else shape[1:]
    if steps is not None and time not in (None, steps):
        to.faults.append(f"{model.name}: found {time} steps, expected {steps}")
    if steps is None and time is None:
        to.faults.append(f"{model.name}: found no number of steps, expected it by --steps or steps=")
    return {"f": features, "t": time or steps}


def convert(model, path, steps=None, classes=()):
    """Writes `model` to `path`, and returns notes on what is not as it was there.

    Raises `Unsupported`, which names all that has no counterpart.
    """
    from safetensors.numpy import save_file

    to = Conversion()
    shape = input_shape(model, steps, to)
    layers = layers_in_a_row(model, to)
    for layer in layers:
        convert_layer(to, layer, layer is layers[-1])
    if shape and len(model.input_shape) == 2 and (not to.layers or to.layers[0]["layer"]["kind"] != "embedding"):
        to.faults.append(f"{model.name}: found the input {model.input_shape}, expected [batch, time, features]")
    if to.faults:
        raise Unsupported("\n".join(to.faults))
    header = {
        "classes": list(classes),
        "input": shape,
        "layers": to.layers,
        "normalize": {"mean": [0.0], "sd": [1.0]},
        "version": 1,
    }
    save_file(to.tensors, path, {"bptt": json.dumps(header)})
    return to.notes


def main():
    parser = argparse.ArgumentParser(description="Converts a Keras model to a file for bptt's Model::load.")
    parser.add_argument("keras", help="a .keras or .h5 file")
    parser.add_argument("safetensors", help="the file to write")
    parser.add_argument("--steps", type=int, help="T, where the model leaves it open")
    parser.add_argument("--classes", nargs="*", default=[], help="the names of the classes")
    arguments = parser.parse_args()
    import keras

    try:
        model = keras.saving.load_model(arguments.keras, compile=False)
        notes = convert(model, arguments.safetensors, arguments.steps, arguments.classes)
    except Unsupported as fault:
        sys.exit(f"{arguments.keras} cannot be converted:\n{fault}")
    for note in notes:
        print(note)


if __name__ == "__main__":
    main()
