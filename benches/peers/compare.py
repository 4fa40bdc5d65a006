#!/usr/bin/env python3
"""Trains the same LSTM on the same images with bptt and with PyTorch, in turn, and prints medians and ratios.

    pip install torch numpy onnx onnxruntime
    cargo build --release --example fashion_mnist
    python benches/peers/compare.py [--hidden 35] [--layers 2] [--batch 128] [--patterns 48000] [--rounds 5] [--infer]

Each round is one whole epoch of each (Adam, cross-entropy, f32): A B A B ..., on one machine, which should be quiet.
PyTorch is run with one thread and with all, and its better median counts. `--infer` adds PyTorch's and ONNX Runtime's
seconds for 10,000 images and microseconds for one; ours are the benches `infer_10000` and `infer_1` of `cargo bench`.
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read_idx(name):
    raw = gzip.decompress((ROOT / "data/fashion-mnist" / name).read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4).astype(int)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


class RowLstm(nn.Module):
    def __init__(self, hidden, layers):
        super().__init__()
        self.lstm = nn.LSTM(28, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, 10)

    def forward(self, x):
        return self.linear(self.lstm(x)[0][:, -1])


class Torch:
    """One epoch after another of the same model."""

    def __init__(self, args, x, y, threads):
        torch.manual_seed(1)
        self.args, self.x, self.y, self.threads = args, x, y, threads
        self.model = RowLstm(args.hidden, args.layers)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def epoch(self):
        torch.set_num_threads(self.threads)
        start = time.perf_counter()
        order = torch.randperm(len(self.x))
        for i in range(0, len(order), self.args.batch):
            batch = order[i : i + self.args.batch]
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x[batch]), self.y[batch]).backward()
            self.optimizer.step()
        return time.perf_counter() - start


def ours(args, out):
    """Seconds of one epoch, measured by the example itself, validation not counted; the second of two epochs."""
    example = ROOT / "target/release/examples/fashion_mnist"
    flags = ["--epochs", "2", "--hidden", args.hidden, "--layers", args.layers]
    flags += ["--batch-size", args.batch, "--patterns", args.patterns, "--out", out]
    subprocess.run([example, *map(str, flags)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    metrics = json.loads((pathlib.Path(out) / "metrics.json").read_text())
    return metrics["phases"][0]["epochs"][-1]["seconds"]


def median_time(f, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def infer(args, x):
    import onnxruntime

    model = RowLstm(args.hidden, args.layers).eval()
    many, one = x[:10_000], x[:1]
    for threads in sorted({1, os.cpu_count()}):
        torch.set_num_threads(threads)
        with torch.no_grad():
            all_images = median_time(lambda: [model(many[i : i + 1000]) for i in range(0, 10_000, 1000)], 5)
            single = median_time(lambda: model(one), 300)
        print(f"PyTorch, {threads} threads: 10,000 images {all_images:.3f} s, one {1e6 * single:.0f} µs")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            axes = {"x": {0: "batch"}}
            torch.onnx.export(model, (many[:2],), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(path, options)
        rows, row = many.numpy(), one.numpy()
        run = lambda a: session.run(None, {"x": a})  # noqa: E731
        best = min(
            median_time(lambda: [run(rows[i : i + size]) for i in range(0, 10_000, size)], 5) for size in (64, 250, 1000)
        )
        single = median_time(lambda: run(row), 1000)
        print(f"ONNX Runtime, {threads} threads: 10,000 images {best:.3f} s, one {1e6 * single:.0f} µs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in [("hidden", 35), ("layers", 2), ("batch", 128), ("patterns", 48_000), ("rounds", 5)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--infer", action="store_true")
    args = parser.parse_args()
    images = read_idx("train-images-idx3-ubyte.gz")[: args.patterns]
    x = torch.tensor((images / 255.0 - 0.286) / 0.353, dtype=torch.float32)
    y = torch.tensor(read_idx("train-labels-idx1-ubyte.gz")[: args.patterns].astype(np.int64))
    peers = {threads: Torch(args, x, y, threads) for threads in sorted({1, os.cpu_count()})}
    for peer in peers.values():
        peer.epoch()  # warm-up
    own, theirs = [], {threads: [] for threads in peers}
    with tempfile.TemporaryDirectory() as out:
        for _ in range(args.rounds):
            own.append(ours(args, out))
            for threads, peer in peers.items():
                theirs[threads].append(peer.epoch())
    best = min(theirs, key=lambda threads: statistics.median(theirs[threads]))
    print(f"{args.layers} x {args.hidden}, batch {args.batch}, {args.patterns} patterns, medians of {args.rounds}:")
    print(f"bptt     {statistics.median(own):.3f} s an epoch ({min(own):.3f} to {max(own):.3f})")
    for threads, times in theirs.items():
        print(f"PyTorch  {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f}), {threads} threads")
    ratios = sorted(b / a for a, b in zip(own, theirs[best]))
    print(f"ratio    {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), PyTorch {torch.__version__}")
    if args.infer:
        infer(args, x)


if __name__ == "__main__":
    main()
