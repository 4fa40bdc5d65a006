"""The model of `cargo run --example garments` in PyTorch, on the same strips: edit distance, and seconds an epoch.

    pip install torch numpy
    cargo build --release --example garments
    python scripts/garments.py [--seed 1] [--epochs 12] [--beside target/release/examples/garments]

Same sizes, batch, Adam, clipping and number of epochs; `nn.CTCLoss`. A direction is an `nn.LSTM` of its own, and the second one reads
the padded strips backwards from their ends: the outputs are those of packed sequences, in a quarter of the time. Epochs are run
with one thread and with all in turn; the faster median counts. With `--beside`, an epoch of the example, on all threads, follows
each of PyTorch's.
"""

import argparse
import gzip
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data/fashion-mnist"
MOST, LEAST, SIDE, GAP = 5, 2, 28, 8
ROWS = MOST * (SIDE + GAP - 1)


def read_idx(name):
    raw = gzip.decompress((DATA / name).read_bytes())
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])


def key(*parts):
    """`bptt::rng::key`, by which the example draws its strips."""
    z, bits = 0, (1 << 64) - 1
    for part in parts:
        z = (z + 0x9E3779B97F4A7C15 & bits) ^ part
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ z >> shift) * factor & bits
        z ^= z >> 31
    return z


def strips(part, n, seed):
    """Strips `[n, 175, 28]`, their lengths, and their labels, of which 0 is the blank."""
    images = read_idx(f"{part}-images-idx3-ubyte.gz").reshape(-1, SIDE, SIDE) / np.float32(255)
    classes = read_idx(f"{part}-labels-idx1-ubyte.gz")
    x, lengths, labels = torch.zeros(n, ROWS, SIDE), [], []
    for sample in range(n):
        row, own = 0, []
        for i in range(LEAST + key(seed, sample, 0) % (MOST - LEAST + 1)):
            row += key(seed, sample, 2 * i + 1) % GAP
            image = key(seed, sample, 2 * i + 2) % len(images)
            x[sample, row : row + SIDE] = torch.from_numpy(images[image])
            own.append(1 + int(classes[image]))
            row += SIDE
        lengths.append(row)
        labels.append(own)
    return x, torch.tensor(lengths), labels


class Reader(nn.Module):
    def __init__(self, units):
        super().__init__()
        lstm = lambda inputs: nn.ModuleList(nn.LSTM(inputs, units, batch_first=True) for _ in range(2))
        self.layers = nn.ModuleList([lstm(SIDE), lstm(2 * units)])
        self.linear = nn.Linear(2 * units, 11)

    def forward(self, x, lengths):
        x = x[:, : lengths.max()]
        steps = torch.arange(x.shape[1])
        mirrored = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
        mirror = lambda x: x.gather(1, mirrored[:, :, None].expand_as(x))
        for forward, reverse in self.layers:
            x = torch.cat([forward(x)[0], mirror(reverse(mirror(x))[0])], 2)
        return self.linear(x).log_softmax(2)


def epoch(model, optimizer, x, lengths, labels):
    ctc = nn.CTCLoss()
    for batch in torch.randperm(len(x)).split(64):
        targets = [labels[i] for i in batch]
        joined = torch.tensor([label for own in targets for label in own])
        counts = torch.tensor([len(own) for own in targets])
        optimizer.zero_grad()
        ctc(model(x[batch], lengths[batch]).transpose(0, 1), joined, lengths[batch], counts).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def distance(model, x, lengths, labels):
    """The edit distance per 100 garments of the most probable path, repetitions and then blanks removed."""
    with torch.no_grad():
        classes = model(x, lengths).argmax(2)
    read = [torch.unique_consecutive(path[:n]).tolist() for path, n in zip(classes, lengths)]
    wrong = sum(edit_distance(truth, [c for c in path if c]) for truth, path in zip(labels, read))
    return 100 * wrong / sum(map(len, labels))


def example(program, seed):
    command = [Path(program).resolve(), "--epochs", "1", "--seed", str(seed)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return float(re.search(r"trained in ([\d.]+) s", text)[1])


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("seed", 1), ("epochs", 12), ("samples", 6000), ("units", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--beside")
    args = parser.parse_args()
    train, test = strips("train", args.samples, args.seed), strips("t10k", 1000, args.seed)
    # The mean and sd of what is not padding.
    rows = train[0][torch.arange(ROWS) < train[1][:, None]]
    mean, sd = rows.mean(), rows.std(correction=0)
    train, test = [((x - mean) / sd, *rest) for x, *rest in (train, test)]
    torch.manual_seed(args.seed)
    model = Reader(args.units)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seconds = {}
    for i in range(args.epochs):
        threads = (1, os.cpu_count())[i % 2]
        torch.set_num_threads(threads)
        start = time.perf_counter()
        epoch(model, optimizer, *train)
        seconds.setdefault(f"PyTorch, threads {threads}", []).append(time.perf_counter() - start)
        if args.beside:
            seconds.setdefault("the example", []).append(example(args.beside, args.seed))
    for name, values in seconds.items():
        print(f"{name}: {statistics.median(values):.2f} s an epoch ({min(values):.2f} to {max(values):.2f})")
    print(f"PyTorch {torch.__version__}: edit distance {distance(model, *test):.2f} per 100 garments")


if __name__ == "__main__":
    main()
