#!/usr/bin/env python3
"""Predicts the speed-up of a training step by several ranks: the tables of docs/distributed.md.

    python scripts/distributed_model.py              # with 16 slots, as the crate has
    python scripts/distributed_model.py --slots 64   # what more slots would give

It needs only Python. The time of a step is

    tiles · τ + (slots − 1) · a · P + u · P + log₂ R · (α + bytes / β + a · P)

for the rank with the most tiles: τ is the time of a tile of 32 samples, P the number of parameters, u · P the update, a · P
the addition of two gradients, and the last term the exchange among R ranks of one thread each.
"""

import argparse
import math

STEPS, INPUTS, CLASSES, LANES = 28, 28, 10, 32

# Measured (docs/performance.md, `cargo bench -- shapes` and `lstm_2x35`): ms of a step of 64 samples on two threads, which is
# one tile each, and the update and packing on one.
STEP_OF_64 = {35: 0.59, 128: 6.17, 512: 90.6}
UPDATE = 10.3e-6 / 19_540

# Assumed: seconds to add a value of a gradient to another; latency, and bytes per second.
ADD = 0.5e-9
LINKS = {
    "shared memory": (2e-6, 5e9),
    "100 Gb/s": (3e-6, 11e9),
    "10 Gb/s": (30e-6, 1.1e9),
}


def parameters(hidden):
    """Of two LSTM layers and a linear one."""
    first = 4 * hidden * (INPUTS + hidden) + 8 * hidden
    second = 8 * hidden * hidden + 8 * hidden
    return first + second + CLASSES * (hidden + 1)


def tile(hidden):
    """Seconds that one thread needs for a tile."""
    return STEP_OF_64[hidden] * 1e-3 - UPDATE * parameters(hidden)


def bytes_sent(hidden):
    """What a rank sends in each of the log2(R) turns: gradients in f32, and five counts."""
    return 4 * parameters(hidden) + 5 * 8


def step(hidden, batch, ranks, slots, link):
    """Seconds of a step."""
    tiles = math.ceil(batch / LANES)
    used = min(tiles, slots)
    of_slot = [(s + 1) * tiles // used - s * tiles // used for s in range(used)]
    width = 1 << (used - 1).bit_length()
    shares = [range(min(used, r * width // ranks), min(used, (r + 1) * width // ranks)) for r in range(ranks)]
    own = max(shares, key=lambda share: sum(of_slot[s] for s in share))
    params = parameters(hidden)
    compute = sum(of_slot[s] for s in own) * tile(hidden) + max(len(own) - 1, 0) * ADD * params + UPDATE * params
    latency, bandwidth = LINKS[link]
    turn = latency + bytes_sent(hidden) / bandwidth + ADD * params
    return compute + (math.log2(ranks) * turn if ranks > 1 else 0.0)


def main():
    arguments = argparse.ArgumentParser(description="Predicts the speed-up of a step by several ranks.")
    arguments.add_argument("--slots", type=int, default=16, help="slots of a batch, a power of two")
    slots = arguments.parse_args().slots
    ranks = [r for r in (2, 4, 8, 16, 32, 64) if r <= slots]
    for hidden in STEP_OF_64:
        print(f"\nH = {hidden}: {parameters(hidden):,} parameters, {bytes_sent(hidden):,} bytes a turn\n")
        print("| batch | one rank, ms | " + " | ".join(f"{link}, {r}" for link in LINKS for r in ranks) + " |")
        print("|---|---|" + "---|" * (len(LINKS) * len(ranks)))
        for batch in (64, 256, 512, 1024, 4096):
            one = step(hidden, batch, 1, slots, "shared memory")
            cells = [f"{one / step(hidden, batch, r, slots, link):.1f}" for link in LINKS for r in ranks]
            print(f"| {batch:,} | {one * 1e3:.2f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
