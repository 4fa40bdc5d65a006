"""What compare.py and stream.py share: the machine and its peak, our program, tensors of a file, figures in a line."""

import json
import os
import pathlib
import platform
import statistics
import subprocess

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
OURS = HERE / "bptt/target/release/bptt-lstm"

# Asked to run on AVX2, PyTorch does so as well. It reads these when it is imported. ONNX Runtime has no such variable.
if os.environ.get("BPTT_SIMD") == "avx2":
    for variable, level in [("ATEN_CPU_CAPABILITY", "avx2"), ("DNNL_MAX_CPU_ISA", "AVX2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2")]:
        os.environ.setdefault(variable, level)

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run(program, *args, env={}):
    """Runs a peer's program, with additions to the environment, and returns the JSON that it prints."""
    command = [str(program), *map(str, args)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}).stdout
    return json.loads(text) if text else None


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    family = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return ", ".join([name, *family])


# A probe that reads at least so many of the images that the best of a run reads finds the machine quiet.
QUIET = 0.9


class Peak:
    """The registers' GFLOP/s, measured again and again during a run, of which the median counts, and whether it was quiet."""

    def __init__(self):
        self.found = []
        self.measure()

    def measure(self):
        self.found.append(run(OURS, "peak"))

    def of(self, key):
        return statistics.median(found[key] for found in self.found)

    def quiet(self, probes):
        """Whether nobody else slowed the machine down at any of these probes."""
        images = [found["images"] for found in self.found]
        return min(images[i] for i in probes) >= QUIET * max(images)

    def line(self):
        first = self.found[0]
        one, every = ([found[key] for found in self.found] for key in ("one", "all"))
        figure = lambda rates: f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"  # noqa: E731
        peak = f"peak {figure(one)} GFLOP/s on one thread, {figure(every)} on {first['threads']}"
        return f"{processor()}; {first['level']}; {peak}"


def ratio(ours, others):
    """How many times as long the others take, round by round: the median, the least and the greatest."""
    ratios = sorted(b / a for a, b in zip(ours, others))
    return f"x {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def tensors(path):
    """The f32 tensors of a safetensors file."""
    raw = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    slices = {name: (entry["shape"], raw[start:][slice(*entry["data_offsets"])]) for name, entry in header.items()}
    return {name: np.frombuffer(data, "<f4").reshape(shape) for name, (shape, data) in slices.items()}
