#!/usr/bin/env python3
"""Predicts the speed-up of a training step by several ranks: the tables of docs/distributed.md.

    python scripts/distributed_model.py              # with 16 slots, as the crate has
    python scripts/distributed_model.py --slots 64   # what more slots would give
    python scripts/distributed_model.py --picture docs/distributed.svg     # needs matplotlib

The time of a step is

    tiles · τ + (slots − 1) · a · P + u · P + log₂ R · turn

for the rank with the most tiles: τ is the time of a tile of 32 samples, P the number of parameters, u · P the update, a · P
the addition of two gradients, and a turn one exchange with another rank and the addition of what it sent. R ranks have one
thread each. Over a network a turn takes α + bytes / β + a · P; in shared memory it is measured.
"""

import argparse
import math

STEPS, INPUTS, CLASSES, LANES = 28, 28, 10, 32

# Measured on two cores of an AMD EPYC (Zen 4, AVX-512): ms of a step of 64 samples on two threads, which is one tile each
# (`cargo bench -- shapes` and `lstm_2x35`), the update and packing on one, and us of a turn between two ranks (`mpirun -n 2
# mpi/target/release/examples/exchange`).
STEP_OF_64 = {35: 1.22, 128: 13.1, 512: 204.0}
UPDATE = 19.3e-6 / 19_540
TURN = {35: 18.0, 128: 96.0, 512: 3320.0}

# Assumed: seconds to add a value of a gradient to another; latency, and bytes per second.
ADD = 0.2e-9
LINKS = {
    "shared memory": None,
    "100 Gb/s": (3e-6, 11e9),
    "10 Gb/s": (30e-6, 1.1e9),
}
BATCHES = (64, 256, 512, 1024, 4096)


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
    return compute + (math.log2(ranks) * turn(hidden, link) if ranks > 1 else 0.0)


def turn(hidden, link):
    """Seconds of an exchange with one other rank."""
    if LINKS[link] is None:
        return TURN[hidden] * 1e-6
    latency, bandwidth = LINKS[link]
    return latency + bytes_sent(hidden) / bandwidth + ADD * parameters(hidden)


def picture(path, slots):
    """Speed-ups over the number of ranks: a panel for each size, a colour for each link, a line for each batch."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bptt"
    from matplotlib import pyplot

    ranks = [r for r in (1, 2, 4, 8, 16, 32, 64) if r <= slots]
    figure, axes = pyplot.subplots(1, len(STEP_OF_64), figsize=(10, 3.6), sharey=True)
    colors = dict(zip(LINKS, ("#1f77b4", "#1e823c", "#c84614")))
    styles = {64: ":", 512: "--", 4096: "-"}
    for axis, hidden in zip(axes, STEP_OF_64):
        axis.plot(ranks, ranks, color="#bbbbbb", linewidth=1)
        for link in LINKS:
            for batch, style in styles.items():
                one = step(hidden, batch, 1, slots, link)
                speed = [one / step(hidden, batch, r, slots, link) for r in ranks]
                axis.plot(ranks, speed, style, color=colors[link], linewidth=1.5, label=f"{link}, batch {batch:,}")
        axis.set(title=f"H = {hidden}", xscale="log", yscale="log", xlabel="ranks", xticks=ranks, yticks=ranks)
        axis.set_xticklabels(ranks)
        axis.set_yticklabels(ranks)
        axis.minorticks_off()
    axes[0].set_ylabel("computed speed-up")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.2, 1, 1))
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def main():
    arguments = argparse.ArgumentParser(description="Predicts the speed-up of a step by several ranks.")
    arguments.add_argument("--slots", type=int, default=16, help="slots of a batch, a power of two")
    arguments.add_argument("--picture", help="an SVG file to write instead")
    arguments = arguments.parse_args()
    slots = arguments.slots
    if arguments.picture:
        return picture(arguments.picture, slots)
    ranks = [r for r in (2, 4, 8, 16, 32, 64) if r <= slots]
    for hidden in STEP_OF_64:
        print(f"\nH = {hidden}: {parameters(hidden):,} parameters, {bytes_sent(hidden):,} bytes a turn\n")
        print("| batch | one rank, ms | " + " | ".join(f"{link}, {r}" for link in LINKS for r in ranks) + " |")
        print("|---|---|" + "---|" * (len(LINKS) * len(ranks)))
        for batch in BATCHES:
            one = step(hidden, batch, 1, slots, "shared memory")
            cells = [f"{one / step(hidden, batch, r, slots, link):.1f}" for link in LINKS for r in ranks]
            print(f"| {batch:,} | {one * 1e3:.2f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
