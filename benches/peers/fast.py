#!/usr/bin/env python3
"""Trains by the recipe `fast` of the example and by the same recipe in PyTorch, in turn, and prints seconds, accuracies and ratios.

    pip install torch numpy
    cargo build --release --example fashion_mnist
    (cd benches/peers/bptt && cargo build --release)      # for the peak
    python benches/peers/fast.py [--rounds 3]

The seconds are those of the training alone, on 48,000 images; the accuracies, on the test images. Each round is another seed, and takes
minutes. Both are run with one thread and with all. PyTorch's Muon is `torch.optim.Muon` for matrices, which iterates in bfloat16, and
`torch.optim.AdamW` for biases.
"""

import argparse
import functools
import re
import statistics
import subprocess
import tempfile
import time

import machine
import torch
from compare import ROOT, RowLstm, fashion, in_turn, label
from torch import nn

# Those of `Recipe::fast` in examples/shared/recipe.rs.
EPOCHS, HARDEST, BATCH, RATE, DECAY, MOMENTUM = 12, 0.5, 64, 0.014, 0.04, 0.9
WHOLE = 0.875  # HardestShare's δ: epochs beyond it draw all


def draws(epoch, losses):
    """The images of an epoch, counted from 0."""
    if epoch == 0 or epoch >= WHOLE * EPOCHS:
        return torch.randperm(len(losses))
    hardest = losses.argsort(descending=True)[: round(HARDEST * len(losses))]
    return hardest[torch.randperm(len(hardest))]


class Torch:
    """The recipe in PyTorch."""

    def __init__(self, train, test, threads):
        self.train, self.test, self.threads, self.seed = train, test, threads, 0

    def run(self):
        torch.set_num_threads(self.threads)
        self.seed += 1
        torch.manual_seed(self.seed)
        order = torch.randperm(60_000)[:48_000]
        x, y = self.train[0][order], self.train[1][order]
        model = RowLstm(35, 2)
        start = time.perf_counter()
        self.fit(model, x, y)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            right = model(self.test[0]).argmax(1) == self.test[1]
        return seconds, 100 * right.double().mean().item()

    @staticmethod
    def fit(model, x, y):
        matrices = [p for p in model.parameters() if p.ndim == 2]
        biases = [p for p in model.parameters() if p.ndim != 2]
        muon = dict(lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
        rules = [torch.optim.Muon(matrices, **muon), torch.optim.AdamW(biases, lr=RATE, weight_decay=DECAY)]
        counts = [len(draws(epoch, torch.zeros(len(x)))) for epoch in range(EPOCHS)]
        steps = sum(-(-count // BATCH) for count in counts)
        cycle = functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=RATE, total_steps=steps, cycle_momentum=False)
        schedules = [cycle(rule) for rule in rules]
        losses, first = torch.full((len(x),), torch.inf), torch.rand(len(x)) < 0.5
        for epoch in range(EPOCHS):
            for batch in draws(epoch, losses).split(BATCH):
                mirrored = (first[batch] ^ bool(epoch % 2))[:, None, None]
                images = torch.where(mirrored, x[batch].flip(2), x[batch])
                for rule in rules:
                    rule.zero_grad()
                each = nn.functional.cross_entropy(model(images), y[batch], reduction="none")
                each.mean().backward()
                losses[batch] = each.detach()
                for rule, schedule in zip(rules, schedules):
                    rule.step()
                    schedule.step()


class Example:
    """The recipe of the example."""

    def __init__(self, threads):
        self.threads, self.seed = threads, 0

    def run(self):
        self.seed += 1
        with tempfile.TemporaryDirectory() as out:
            command = [ROOT / "target/release/examples/fashion_mnist", "--recipe", "fast", "--out", out]
            command += ["--seed", str(self.seed), "--threads", str(self.threads)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        accuracy, seconds = re.search(r"test accuracy (\S+) % after (\S+) s of training", printed).groups()
        return float(seconds), float(accuracy)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    train, test = fashion("train"), fashion("t10k")
    counts = sorted({1, machine.THREADS})
    peers = {label("bptt", threads): Example(threads).run for threads in counts}
    peers |= {label(f"PyTorch {torch.__version__}", threads): Torch(train, test, threads).run for threads in counts}
    peak = machine.Peak()
    found = in_turn(peers, args.rounds, peak)
    ours = [seconds for seconds, _ in found[label("bptt", counts[-1])]]
    print(f"\nthe recipe `fast`, s of training, medians of {args.rounds}; test accuracy, mean; s as a multiple of ours")
    for name, each in found.items():
        seconds, accuracies = zip(*each)
        line = f"{name:32} {statistics.median(seconds):8.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"{line}   {statistics.mean(accuracies):.2f} %   {machine.ratio(ours, seconds)}", flush=True)
    print(peak.line())


if __name__ == "__main__":
    main()
