"""Twenty random Keras models, converted, and read and run by bptt.

    KERAS_BACKEND=torch python scripts/keras_check.py [seed]       # compares, and fails if a difference is too large
    KERAS_BACKEND=torch python scripts/keras_check.py --fixtures   # writes tests/fixtures/keras anew

It needs keras 3 with a backend, h5py, numpy and safetensors, and cargo. Each model is saved as `.keras` or `.h5` and converted by
`scripts/keras_to_bptt.py` from there. `tests/behaviour/state_dict.rs` compares the outputs, relative to max(1, |Keras's|), and fails above
1e-5 in f32 or 1e-12 in f64. Models in f64 have only layers that Keras over PyTorch does not compute with the precision of
f32: no matrix products of its own, no means.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras import layers

from keras_to_bptt import convert

ROOT = Path(__file__).resolve().parent.parent


def cell(rng, kind, units, **settings):
    settings["use_bias"] = rng.random() < 0.8
    if kind == "gru_before":
        return layers.GRU(units, reset_after=False, **settings)
    if kind == "rnn":
        return layers.SimpleRNN(units, activation=rng.choice(["tanh", "relu"]), **settings)
    return {"lstm": layers.LSTM, "gru": layers.GRU}[kind](units, **settings)


def draw(i, rng, largest, exact):
    """A random model: perhaps an embedding or a convolution, then recurrent layers, then, unless `exact`, dense ones."""
    steps, size = rng.randint(3, 12), lambda: rng.randint(1, largest)
    kind = ["lstm", "gru", "gru_before", "rnn"][i % 4]
    words = rng.randint(2, 20) if rng.random() < 0.3 else None
    chain = [keras.Input((steps,) if words else (steps, size()))]
    if words:
        chain.append(layers.Embedding(words, size()))
    elif rng.random() < 0.4:
        padding = rng.choice(["valid", "causal", "same"])
        chain.append(layers.Conv1D(size(), rng.choice([1, 3]), padding=padding, activation=rng.choice([None, "relu"])))
    depth = rng.randint(1, 3)
    pooled = rng.choice([None, layers.GlobalMaxPooling1D] + [layers.GlobalAveragePooling1D] * (not exact))
    for level in range(depth):
        last = level == depth - 1 and pooled is None and rng.random() < 0.6
        made = cell(rng, kind, size(), return_sequences=not last)
        chain.append(layers.Bidirectional(made) if rng.random() < 0.4 else made)
        if not exact and not last and rng.random() < 0.4:
            chain.append(layers.LayerNormalization(scale=rng.random() < 0.7))
    if pooled:
        chain.append(pooled())
    if exact:
        return keras.Sequential(chain), words
    if rng.random() < 0.5:
        chain.append(layers.Dense(size(), activation=rng.choice(["relu", "tanh", "sigmoid"])))
        chain.append(layers.Dropout(0.3))
    chain.append(layers.Dense(size(), activation=rng.choice([None, "softmax", "sigmoid"])))
    return keras.Sequential(chain), words


def randomize(model, rng):
    """Random values everywhere: Keras begins with biases of 0, where a wrong order would not show."""
    for weight in model.weights:
        weight.assign(rng.uniform(-0.6, 0.6, weight.shape))


def case(i, rng, folder, largest):
    scalar = "f64" if i % 4 < 2 and i // 4 % 2 == 1 else "f32"
    keras.backend.set_floatx({"f32": "float32", "f64": "float64"}[scalar])
    keras.utils.clear_session()
    model, words = draw(i, rng, largest, scalar == "f64")
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    randomize(model, numbers)
    shape = (3, *model.input_shape[1:])
    x = numbers.integers(words, size=shape) if words else numbers.normal(size=shape).astype(keras.backend.floatx())
    y = np.asarray(model.predict(x, verbose=0))
    if model.layers[-1].get_config().get("activation") == "softmax":
        y = np.log(y)
    with tempfile.TemporaryDirectory() as saved:
        path = Path(saved) / ("model.keras" if i % 2 == 0 else "model.h5")
        model.save(path)
        convert(keras.saving.load_model(path, compile=False), folder / f"case{i:02}.safetensors")
    kinds = ", ".join(
        f"Bidirectional {type(layer.forward_layer).__name__}" if hasattr(layer, "forward_layer") else type(layer).__name__
        for layer in model.layers
    )
    return {"name": f"case{i:02}", "layers": kinds, "scalar": scalar, "x": x.ravel().tolist(), "y": y.ravel().tolist()}


def write(folder, seed, count, largest):
    rng = random.Random(seed)
    cases = [case(i, rng, folder, largest) for i in range(count)]
    text = json.dumps({"keras": keras.__version__, "seed": seed, "cases": cases}, separators=(",", ":"))
    (folder / "cases.json").write_text(text + "\n")


def main():
    argument = sys.argv[1] if len(sys.argv) > 1 else "1"
    if argument == "--fixtures":
        folder = ROOT / "tests/fixtures/keras"
        folder.mkdir(exist_ok=True)
        return write(folder, 7, 8, 5)
    print(f"keras {keras.__version__}, backend {keras.backend.backend()}, seed {argument}")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), int(argument), 20, 40)
        command = ["cargo", "test", "--quiet", "--test", "behaviour", "models_of_keras", "--", "--nocapture"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "BPTT_KERAS_CASES": folder}, check=True)


if __name__ == "__main__":
    main()
