#!/usr/bin/env python3
"""Trains the same LSTM on the same images with bptt, PyTorch, Burn and candle, in turn, and prints medians and ratios.

    pip install torch numpy onnx onnxruntime
    cargo build --release --example fashion_mnist
    (cd benches/peers/candle && cargo build --release)
    (cd benches/peers/burn && cargo build --release)      # six minutes
    python benches/peers/compare.py [--hidden 8 35 64] [--layers 2] [--batch 64 128] [--samples 48000] [--rounds 5]
                                    [--slow-samples 3200] [--infer]

Each round is one whole epoch of each (Adam, cross-entropy, f32): A B A B ..., on one machine, which should be quiet.
PyTorch is run with one thread and with all, and its better median counts. Burn and candle take part if they are built,
on `--slow-samples` samples, and their seconds are scaled up. `--infer` adds PyTorch's and ONNX Runtime's seconds for
10,000 images and microseconds for one; ours are the benches `infer_10000` and `infer_1` of `cargo bench`.
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
DATA = ROOT / "data/fashion-mnist"
HERE = pathlib.Path(__file__).resolve().parent


def read_idx(name):
    raw = gzip.decompress((DATA / name).read_bytes())
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
    """Trains one model, an epoch a call."""

    def __init__(self, work, x, y, threads):
        torch.manual_seed(1)
        self.batch, self.x, self.y, self.threads = work.batch, x, y, threads
        self.model = RowLstm(work.hidden, work.layers)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.epoch()  # warm-up

    def epoch(self):
        torch.set_num_threads(self.threads)
        start = time.perf_counter()
        order = torch.randperm(len(self.x))
        for i in range(0, len(order), self.batch):
            batch = order[i : i + self.batch]
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x[batch]), self.y[batch]).backward()
            self.optimizer.step()
        return time.perf_counter() - start


class Ours:
    """The example's own figure for the second of two epochs, without validation."""

    def __init__(self, work):
        self.flags = ["--epochs", 2, "--retrain-epochs", 0, "--prune", "none", "--hidden", work.hidden]
        self.flags += ["--layers", work.layers, "--batch-size", work.batch, "--samples", work.samples]

    def epoch(self):
        example = ROOT / "target/release/examples/fashion_mnist"
        with tempfile.TemporaryDirectory() as out:
            flags = [*map(str, self.flags), "--out", out]
            subprocess.run([example, *flags], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            metrics = json.loads((pathlib.Path(out) / "metrics.json").read_text())
        return metrics["phases"][0]["epochs"][-1]["seconds"]


class Program:
    """A peer that is a separate program; see work.rs."""

    def __init__(self, path, work, samples):
        self.scale = work.samples / samples
        self.command = [path, *map(str, [work.hidden, work.layers, work.batch, samples, DATA])]

    def epoch(self):
        return self.scale * float(subprocess.run(self.command, check=True, capture_output=True, text=True).stdout)


def compare(work, args, x, y):
    """Prints a table of one size: a row for each peer, and its time as a multiple of ours, round by round."""
    peers = {"bptt": Ours(work)}
    for threads in sorted({1, os.cpu_count()}):
        peers[f"PyTorch {torch.__version__}, {threads} threads"] = Torch(work, x, y, threads)
    for name in ["burn", "candle"]:
        path = HERE / name / "target/release" / f"{name}-lstm"
        if path.exists() and args.slow_samples > 0:
            peers[name] = Program(path, work, min(args.slow_samples, work.samples))
    times = {name: [] for name in peers}
    for _ in range(args.rounds):
        for name, peer in peers.items():
            times[name].append(peer.epoch())
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    size = f"{work.layers} x {work.hidden}, batch {work.batch}, {work.samples} samples"
    print(f"\n{size}, s an epoch, medians of {args.rounds}:")
    for name, seconds in times.items():
        ratios = sorted(b / a for a, b in zip(times["bptt"], seconds))
        line = f"{name:32} {median[name]:8.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
        ratio = f"   x {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(line + (ratio if name != "bptt" else ""), flush=True)


def median_time(f, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def infer(x):
    import onnxruntime

    model = RowLstm(35, 2).eval()
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
    parser.add_argument("--hidden", type=int, nargs="+", default=[35])
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    for name, default in [("layers", 2), ("samples", 48_000), ("rounds", 5), ("slow-samples", 3200)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--infer", action="store_true")
    args = parser.parse_args()
    images = read_idx("train-images-idx3-ubyte.gz")[: args.samples]
    x = torch.tensor((images / 255.0 - 0.286) / 0.353, dtype=torch.float32)
    y = torch.tensor(read_idx("train-labels-idx1-ubyte.gz")[: args.samples].astype(np.int64))
    for hidden in args.hidden:
        for batch in args.batch:
            sizes = dict(hidden=hidden, layers=args.layers, batch=batch, samples=args.samples)
            compare(argparse.Namespace(**sizes), args, x, y)
    if args.infer:
        infer(torch.tensor((read_idx("t10k-images-idx3-ubyte.gz") / 255.0 - 0.286) / 0.353, dtype=torch.float32))


if __name__ == "__main__":
    main()
