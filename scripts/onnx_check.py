"""Exported models in ONNX Runtime: every kind of layer, checked by onnx and compared with bptt's outputs.

    python scripts/onnx_check.py

It needs numpy, onnx, onnxruntime and safetensors, and cargo. `tests/onnx.rs` writes the cases (f32 and f64; only input and
output, with states, with states and lengths), and this compares them at batches of 1 and 64. A difference is relative to
max(1, |expected|). It fails if one is larger than 1e-5 in f32 or 1e-7 in f64 (where ONNX has the epsilon of layer
normalisation in f32), and names the operators that the runtime does not have in that precision.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException
from safetensors.numpy import load_file

LARGEST = {"f32": 1e-5, "f64": 1e-7}


def write_cases(folder):
    command = ["cargo", "test", "--quiet", "--test", "onnx", "--", "--ignored", "write_cases"]
    root = Path(__file__).resolve().parent.parent
    subprocess.run(command, cwd=root, env={**os.environ, "BPTT_ONNX_CASES": str(folder)}, check=True, stdout=subprocess.DEVNULL)


def difference(found, expected):
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max(initial=0))


def check(path):
    """Returns the largest difference of a model at batches of 1 and 64, and how many values were compared."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest, count = 0.0, 0
    for batch in [1, 64]:
        tensors = load_file(path.with_suffix(f".{batch}.safetensors"))
        group = lambda name: {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
        names = [output.name for output in session.get_outputs()]
        expected = group("out/")
        if set(names) != set(expected):
            sys.exit(f"{path.name}: found outputs {names}, expected {sorted(expected)}")
        for name, found in zip(names, session.run(names, group("in/"))):
            count += found.size
            largest = max(largest, difference(found, expected[name]))
    return largest, count


def main():
    onnxruntime.set_default_logger_severity(4)
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
    wrong, missing, tables = [], defaultdict(list), defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        write_cases(folder)
        paths = sorted(Path(folder).glob("*.onnx"))
        if len(paths) < 100:
            sys.exit(f"found {len(paths)} models, expected more")
        for path in paths:
            case, scalar, kind = path.stem.split(".")
            try:
                largest, count = check(path)
            except (NotImplemented_, RuntimeException) as error:
                # Such as "Could not find an implementation for RNN(14) node", "GRU operator does not support double yet".
                operator = re.search(r"implementation for (\w+)|(\w+) operator does not support", str(error))
                if operator is None:
                    raise
                missing[scalar, operator[1] or operator[2]].append(path.stem)
                continue
            tables[case][scalar, kind] = largest
            if not largest <= LARGEST[scalar] or count == 0:
                wrong.append(path.stem)
    columns = [(scalar, kind) for scalar in LARGEST for kind in ["plain", "states", "lengths"]]
    print(f"{'largest difference':20}" + "".join(f"{' '.join(column):>13}" for column in columns))
    for case, row in sorted(tables.items()):
        print(f"{case:20}" + "".join(f"{row[column]:13.1e}" if column in row else f"{'-':>13}" for column in columns))
    for scalar in LARGEST:
        values = [value for row in tables.values() for column, value in row.items() if column[0] == scalar]
        print(f"{scalar}: {len(values)} models, batches of 1 and 64, largest difference {max(values):.1e}")
    for (scalar, operator), cases in sorted(missing.items()):
        print(f"{scalar}: ONNX Runtime has no {operator}: {len(cases)} models left out")
    if wrong or any(scalar == "f32" for scalar, _ in missing):
        sys.exit(f"FAILED: {wrong or missing}")


if __name__ == "__main__":
    main()
