#!/usr/bin/env python3
"""Trains the same LSTM on the same images with bptt, PyTorch, Burn and candle, in turn, and prints medians and ratios.

    pip install torch numpy onnx onnxruntime
    (cd benches/peers/bptt && cargo build --release)
    (cd benches/peers/candle && cargo build --release)
    (cd benches/peers/burn && cargo build --release)      # six minutes
    python benches/peers/compare.py [--hidden 8 35 64] [--layers 2] [--batch 64 128] [--samples 48000] [--rounds 5]
                                    [--slow-samples 3200] [--onnx] [--no-training] [--model conv-lstm] [--threads 1]

Each round is one whole epoch of each (Adam, cross-entropy, f32): A B A B ..., on one machine, which should be quiet.
PyTorch is run with one thread and with all, and its better median counts. Burn and candle take part if they are built,
on `--slow-samples` samples, and their seconds are scaled up.

`--onnx` adds inference of 10,000 images and of one by bptt, PyTorch and ONNX Runtime: the same weights, rounds in turn, one
thread and all, and for the 10,000 the size of a call that is best for each. `--no-training` leaves only that.

`--model conv-lstm` (or `conv-lstm-small`) trains that model of the example instead (`cargo build --release --example
fashion_mnist`), with bptt and PyTorch. `--threads` limits both.

The peak, what fused multiply-adds on registers reach on the instruction set that bptt runs on (`BPTT_SIMD` names another),
is measured before and after each measurement; operations are counted as in docs/performance.md. With `BPTT_SIMD=avx2`,
PyTorch is limited to AVX2 as well; ONNX Runtime cannot be.

A virtual machine shares its cores with others, which can take a third of the speed of whatever does more than add in registers.
So a small model is measured together with the peak. Rounds beside which it was slowed down by more than a tenth do not count,
unless all were; `--rounds` should then be many.
"""

import argparse
import functools
import gzip
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import machine
import numpy as np
import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "data/fashion-mnist"
HERE = machine.HERE
sys.path.append(str(ROOT / "scripts"))
from conv_lstm import SIZES, ConvLstm  # noqa: E402

COUNTS = sorted({1, machine.THREADS})
CALLS = (64, 250, 1000, 10_000)  # images in a call, as in bptt/src/main.rs


def read_idx(name):
    raw = gzip.decompress((DATA / name).read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4).astype(int)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def fashion(name):
    """The images, normalised, and the labels of `train` or `t10k`."""
    x = torch.tensor((read_idx(f"{name}-images-idx3-ubyte.gz") / 255.0 - 0.286) / 0.353, dtype=torch.float32)
    return x, torch.tensor(read_idx(f"{name}-labels-idx1-ubyte.gz").astype(np.int64))


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
        self.model = ConvLstm(*SIZES[work.model]) if work.model else RowLstm(work.hidden, work.layers)
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


class Example:
    """The example's own figure for the second of two epochs, without validation."""

    def __init__(self, work):
        self.flags = ["--epochs", 2, "--retrain-epochs", 0, "--prune", "none", "--recipe", "paper", "--model", work.model]
        self.flags += ["--batch-size", work.batch, "--samples", work.samples, "--threads", work.threads]

    def epoch(self):
        example = ROOT / "target/release/examples/fashion_mnist"
        with tempfile.TemporaryDirectory() as out:
            flags = [*map(str, self.flags), "--out", out]
            subprocess.run([example, *flags], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            metrics = json.loads((pathlib.Path(out) / "metrics.json").read_text())
        return metrics["phases"][0]["epochs"][-1]["seconds"]


def ours(work):
    """A function that trains with bptt and returns the seconds of the second of two epochs."""
    if work.model:
        return Example(work).epoch
    sizes = (work.hidden, work.layers, work.batch, work.samples, work.threads)
    return functools.partial(machine.run, machine.OURS, "train", *sizes, DATA)


class Program:
    """A peer that is a separate program; see work.rs."""

    def __init__(self, path, work, samples):
        self.scale = work.samples / samples
        self.command = [path, *map(str, [work.hidden, work.layers, work.batch, samples, DATA])]

    def epoch(self):
        return self.scale * float(subprocess.run(self.command, check=True, capture_output=True, text=True).stdout)


def operations(work):
    """Floating-point operations of a sample: of the forward pass, and of a whole step of training."""
    if work.model:
        (one, two, three), hidden = SIZES[work.model]
        first = 28 * 28 * one * 9
        more = 14 * 14 * two * one * 9 + 7 * 4 * three * two * 9 + 2 * 7 * 4 * hidden * (4 * three + hidden) + 20 * hidden
        return 2 * (first + more), 2 * (2 * first + 3 * more)
    first, more = 8 * work.hidden * (28 + work.hidden), 16 * work.hidden**2 * (work.layers - 1)
    back = 8 * work.hidden**2 * (2 * work.layers - 1)
    return 28 * (first + more), 28 * (2 * (first + more) + back)


def label(name, threads):
    return f"{name}, {threads} thread{'s'[: threads != 1]}"


def share(peak, operations, seconds, threads=machine.THREADS):
    gflops = 1e-9 * operations / seconds
    return f"{gflops:6.0f} GFLOP/s, {100 * gflops / peak.of('one' if threads == 1 else 'all'):3.0f} % of the peak"


def in_turn(peers, rounds, peak):
    """What each peer's function returns in the rounds that count, and a phrase that says which these are."""
    found = {name: [] for name in peers}
    first = len(peak.found) - 1
    for _ in range(rounds):
        for name, peer in peers.items():
            found[name].append(peer())
            # Its threads may still be spinning.
            time.sleep(0.05)
            peak.measure()
    probes = [range(first + i * len(peers), first + (i + 1) * len(peers) + 1) for i in range(rounds)]
    quiet = [i for i, probes in enumerate(probes) if peak.quiet(probes)]
    which = f"{len(quiet)} quiet of {rounds} rounds" if quiet else f"{rounds} rounds, none of them quiet"
    return {name: [all_rounds[i] for i in quiet or range(rounds)] for name, all_rounds in found.items()}, which


def compare(work, args, x, y):
    """Prints a table of one size: a row for each peer, and its time as a multiple of ours, round by round."""
    peers = {"bptt": ours(work)}
    for threads in sorted({1, work.threads}):
        peers[label(f"PyTorch {torch.__version__}", threads)] = Torch(work, x, y, threads).epoch
    for name in ["burn", "candle"] if not work.model else []:
        path = HERE / name / "target/release" / f"{name}-lstm"
        if path.exists() and args.slow_samples > 0:
            peers[name] = Program(path, work, min(args.slow_samples, work.samples)).epoch
    peak = machine.Peak()
    times, which = in_turn(peers, args.rounds, peak)
    size = f"{work.model or f'{work.layers} x {work.hidden}'}, batch {work.batch}, {work.samples} samples"
    print(f"\n{size}, s an epoch, medians of {which}:")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        line = f"{name:32} {median:8.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
        line += share(peak, work.samples * operations(work)[1], median, work.threads)
        print(line + (f"   {machine.ratio(times['bptt'], seconds)}" if name != "bptt" else ""), flush=True)
    print(peak.line(), flush=True)


def median_time(f, repeats):
    """The seconds of each of `repeats` calls, of which the median counts, after one that does not."""
    f()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(run, images):
    """What `bptt-lstm infer` returns, of a function that takes images and returns its outputs."""
    pieces = {size: [images[i : i + size] for i in range(0, len(images), size)] for size in CALLS}
    many = {str(size): median_time(lambda: [run(x) for x in pieces[size]], 3) for size in CALLS}
    one = median_time(lambda: run(images[:1]), 1000)
    return {"many": many, "one": one, "output": np.asarray(run(images[:64])).reshape(-1).tolist()}


def in_torch(model, images, threads):
    torch.set_num_threads(threads)
    with torch.no_grad():
        return measure(model, images)


def onnx_session(model, path, threads):
    import onnxruntime

    with warnings.catch_warnings(action="ignore"):  # that the exporter is the older of two, and of other batches
        axes = {"x": {0: "batch"}}
        torch.onnx.export(model, (torch.zeros(2, 28, 28),), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return f"ONNX Runtime {onnxruntime.__version__}", onnxruntime.InferenceSession(path, options)


def inference_peers(work, images, folder):
    """The functions that make a round, with one thread and with all, each on the same weights."""
    path = f"{folder}/rows.safetensors"
    machine.run(machine.OURS, "save", "rows", work.hidden, work.layers, path)
    model = RowLstm(work.hidden, work.layers).eval()
    weights = {name.replace("rnn.", "lstm."): torch.tensor(x) for name, x in machine.tensors(path).items()}
    model.load_state_dict(weights)
    found = {}
    for threads in COUNTS:
        name, session = onnx_session(model, f"{folder}/{threads}.onnx", threads)
        run = lambda x, session=session: session.run(None, {"x": x})[0]  # noqa: E731
        env = {"RAYON_NUM_THREADS": str(threads)}
        found |= {
            label("bptt", threads): functools.partial(machine.run, machine.OURS, "infer", path, DATA, env=env),
            label(f"PyTorch {torch.__version__}", threads): functools.partial(in_torch, model, images, threads),
            label(name, threads): functools.partial(measure, run, images.numpy()),
        }
    return found


def infer(work, rounds, images):
    """Prints a row for each peer, and its times as multiples of ours with all threads, round by round."""
    peak = machine.Peak()
    with tempfile.TemporaryDirectory() as folder:
        found, which = in_turn(inference_peers(work, images, folder), rounds, peak)
    ours = found[label("bptt", COUNTS[-1])]
    print(f"\n{work.layers} x {work.hidden}, inference, medians of {which}: 10,000 images, by the best size of a call; one")
    best = lambda each: min(CALLS, key=lambda size: statistics.median(r["many"][str(size)] for r in each))  # noqa: E731
    many = lambda each: [r["many"][str(best(each))] for r in each]  # noqa: E731
    one = lambda each: [r["one"] for r in each]  # noqa: E731
    for name, each in found.items():
        difference = np.abs(np.subtract(each[0]["output"], ours[0]["output"])).max()
        if not difference <= 1e-5:
            raise SystemExit(f"{name}: the outputs differ by {difference:.1e}")
        seconds = statistics.median(many(each))
        line = f"{name:32} {1e3 * seconds:8.1f} ms by {best(each):5}"
        line += share(peak, 10_000 * operations(work)[0], seconds) + f"   {machine.ratio(many(ours), many(each))}"
        print(f"{line}   {1e6 * statistics.median(one(each)):6.1f} µs   {machine.ratio(one(ours), one(each))}", flush=True)
    print(peak.line(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[35])
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    for name, default in [("layers", 2), ("samples", 48_000), ("rounds", 5), ("slow-samples", 3200)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", choices=SIZES)
    parser.add_argument("--threads", type=int, default=machine.THREADS)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--no-training", action="store_true")
    args = parser.parse_args()
    x, y = (all[: args.samples] for all in fashion("train"))
    test, _ = fashion("t10k")
    for hidden in args.hidden:
        for batch in args.batch if not args.no_training else []:
            sizes = dict(hidden=hidden, layers=args.layers, batch=batch, samples=args.samples)
            sizes |= dict(model=args.model, threads=args.threads)
            compare(argparse.Namespace(**sizes), args, x, y)
        if args.onnx:
            infer(argparse.Namespace(hidden=hidden, layers=args.layers, model=None), args.rounds, test)


if __name__ == "__main__":
    main()
