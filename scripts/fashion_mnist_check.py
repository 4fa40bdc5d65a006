"""A trained model of convolutions and an LSTM in ONNX Runtime and in PyTorch: the classes of all 10,000 test images.

    cargo run --example fashion_mnist -- --model conv-lstm
    python scripts/fashion_mnist_check.py [target/fashion_mnist/model.safetensors]

It needs torch, numpy, onnx, onnxruntime and safetensors, and cargo. The example `ensemble` saves bptt's outputs and exports the
model; ONNX Runtime runs the exported file, and PyTorch the same layers with the tensors of the model's own file, strictly. It
fails if a class differs, or an output by more than 1e-4.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from conv_lstm import ConvLstm
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 1e-4


def images():
    raw = gzip.decompress((ROOT / "data/fashion-mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28).astype(np.float32) / np.float32(255)


def read(path):
    """The tensors of a model's file, and the mean and sd by which it normalises."""
    with safe_open(path, "pt") as file:
        model = json.loads(file.metadata()["bptt"])
        return {name: file.get_tensor(name) for name in file.keys()}, model["normalize"]


def compare(name, found, expected):
    difference = float(np.abs(found - expected).max())
    other = int((found.argmax(1) != expected.argmax(1)).sum())
    print(f"{name}: {other} of {len(found)} classes differ; largest difference of an output {difference:.1e}")
    if other or not difference <= LARGEST:
        sys.exit("FAILED")


def main():
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "target/fashion_mnist/model.safetensors").resolve()
    command = ["cargo", "run", "--quiet", "--example", "ensemble", "--", "--outputs", path]
    subprocess.run(command, cwd=ROOT, check=True)
    expected = np.fromfile(path.with_suffix(".f32"), "<f4").reshape(-1, 10)
    x = images()

    exported = path.with_suffix(".onnx")
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})[0][:, 0]
    compare(f"ONNX Runtime {onnxruntime.__version__}", found, expected)

    tensors, normalize = read(path)
    channels = [tensors[f"conv{i}.weight"].shape[0] for i in (1, 2, 3)]
    model = ConvLstm(channels, tensors["lstm.weight_hh_l0"].shape[1])
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    # bptt keeps no number of batches.
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        sys.exit(f"FAILED: missing {missing}, unexpected {unexpected}")
    mean, sd = (torch.tensor(normalize[key], dtype=torch.float32) for key in ("mean", "sd"))
    with torch.no_grad():
        found = model.eval()((torch.from_numpy(x) - mean) / sd).numpy()
    compare(f"PyTorch {torch.__version__}", found, expected)


if __name__ == "__main__":
    main()
