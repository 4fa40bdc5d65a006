"""Random Keras models as ONNX files of tf2onnx, read and run by bptt.

    python scripts/keras_onnx_check.py [seed]

It needs tensorflow-cpu, keras 3 and tf2onnx, and cargo. Twenty models have LSTMs, in one direction or both, which tf2onnx
writes as the operator; `tests/onnx.rs` compares what they compute, relative to max(1, |Keras's|), and fails above 1e-5.
tf2onnx writes GRU and SimpleRNN as loops, which are refused by name: one of each is among the cases, and
`scripts/keras_to_bptt.py` converts such models.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from keras import layers

ROOT = Path(__file__).resolve().parent.parent


def draw(rng):
    """Perhaps a convolution or an embedding, one to three LSTMs, and dense layers."""
    steps, size = rng.randint(3, 9), lambda: rng.randint(2, 6)
    words = rng.randint(2, 20) if rng.random() < 0.25 else None
    chain = [keras.Input((steps,), dtype="int32") if words else keras.Input((steps, size()))]
    if words:
        chain.append(layers.Embedding(words, size()))
    elif rng.random() < 0.4:
        padding = rng.choice(["valid", "causal", "same"])
        chain.append(layers.Conv1D(size(), 3, padding=padding, activation=rng.choice([None, "relu"])))
        if rng.random() < 0.5:
            chain.append(layers.BatchNormalization())
    depth = rng.randint(1, 3)
    pooled = rng.choice([None, None, layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D])
    for level in range(depth):
        last = level == depth - 1 and pooled is None and rng.random() < 0.6
        made = layers.LSTM(size(), return_sequences=not last, use_bias=rng.random() < 0.8)
        chain.append(layers.Bidirectional(made) if rng.random() < 0.5 else made)
    if pooled:
        chain.append(pooled())
    if rng.random() < 0.6:
        chain.append(layers.Dense(size(), activation=rng.choice(["tanh", "relu", "sigmoid"])))
    chain.append(layers.Dense(size()))
    return chain, steps, words


def save(folder, name, chain, x, **more):
    model = keras.Sequential(chain)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([w + np.abs(np.random.normal(size=w.shape)).astype(w.dtype) for w in layer.get_weights()])
    spec = (tf.TensorSpec((None, *x.shape[1:]), x.dtype, name="x"),)
    made, _ = tf2onnx.convert.from_function(tf.function(lambda x: model(x), input_signature=spec), spec, opset=17)
    onnx.save(made, folder / f"{name}.onnx")
    y = np.asarray(model(x), dtype=np.float64)
    flat = lambda values: [float(value) for value in values.flatten()]
    return {"name": name, "input": flat(x), "output": flat(y), **more}


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print(f"tensorflow {tf.__version__}, keras {keras.__version__}, tf2onnx {tf2onnx.__version__}")
    rng, cases = random.Random(seed), []
    np.random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for i in range(20):
            keras.utils.set_random_seed(seed + i)
            chain, steps, words = draw(rng)
            shape = (3, *chain[0].shape[1:])
            x = np.random.randint(0, words, shape).astype(np.int32) if words else np.random.normal(size=shape).astype(np.float32)
            cases.append(save(folder, f"keras_{i:02}", chain, x))
        for kind in [layers.GRU, layers.SimpleRNN]:
            chain = [keras.Input((4, 3)), kind(2)]
            x = np.random.normal(size=(3, 4, 3)).astype(np.float32)
            cases.append(save(folder, f"keras_{kind.__name__.lower()}", chain, x, refused="Loop `"))
        (folder / "cases.json").write_text(json.dumps({"cases": cases}))
        if keep := os.environ.get("BPTT_KEEP"):
            subprocess.run(["cp", "-r", str(folder), keep], check=True)
        command = ["cargo", "test", "--test", "onnx", "--", "--ignored", "--nocapture", "models_in_a_folder"]
        environment = {**os.environ, "BPTT_ONNX_MODELS": str(folder)}
        sys.exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
