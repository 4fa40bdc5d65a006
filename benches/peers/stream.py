#!/usr/bin/env python3
"""One step of a stream: an LSTM and a GRU layer with as many inputs as units, in bptt, nexus-inference and ONNX Runtime.

    pip install numpy onnx onnxruntime
    (cd benches/peers/bptt && cargo build --release)
    (cd benches/peers/nexus && RUSTFLAGS="-C target-cpu=native" cargo build --release)
    (cd benches/peers/nexus && RUSTFLAGS="-C target-cpu=x86-64-v3" cargo build --release --target-dir target/x86-64-v3)
    (cd benches/peers/onnxruntime && cargo build --release)
    taskset -c 1 python benches/peers/stream.py [--units 8 16 24 32 64] [--streams 1 64 1000] [--rounds 15]

Each round is 20,000 steps of each, on one thread: A B A B ..., and figures are medians. The input of each step differs from
the one before, and the output is used (steps.rs). All have the weights of one file, and the outputs of the last step must
agree to 1e-5. A peer takes part if it is built. nexus-inference chooses its instructions when it is built, and its code for
AVX-512 is not always the faster, hence two builds. ONNX Runtime is called from Rust, so that no interpreter counts.

With more than one of `--streams` there is a table for each number of them side by side, in one call where a peer can: that is
`Streams::push` in bptt, a batch in ONNX Runtime, and one model after another in nexus-inference. Figures are of one stream.
"""

import argparse
import pathlib
import statistics
import tempfile

import machine
import numpy as np

GATE_ROWS = {"lstm": 4, "gru": 3}
# The order of the gates in ONNX, by their number in PyTorch.
GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
STATES = {"LSTM": ["h", "c"], "GRU": ["h"]}
MORE = {"LSTM": {}, "GRU": {"linear_before_reset": 1}}


def write_onnx(operator, streams, tensors, path):
    """Writes a graph of the one operator for one step of each stream, with the states as inputs and outputs."""
    import onnx
    from onnx import helper, numpy_helper

    gates = lambda x: np.concatenate([np.split(x, len(GATES[operator]))[i] for i in GATES[operator]])  # noqa: E731
    w, u, b, c = (gates(tensors[f"rnn.{name}_l0"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    units = u.shape[1]
    weights = {"W": w[None], "R": u[None], "B": np.concatenate([b, c])[None]}
    ins, outs = ["x", *STATES[operator]], [f"{state}1" for state in STATES[operator]]
    # Without the output of all steps, and without lengths.
    names = (["x", *weights, "", *STATES[operator]], ["", *outs])
    node = helper.make_node(operator, *names, hidden_size=units, **MORE[operator])
    value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, streams, units])  # noqa: E731
    constants = [numpy_helper.from_array(data, name) for name, data in weights.items()]
    graph = helper.make_graph([node], "step", [*map(value, ins)], [*map(value, outs)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def runtime():
    """The environment in which the program finds the library that the Python package has."""
    import onnxruntime

    library, *_ = (pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.*")
    return f"ONNX Runtime {onnxruntime.__version__}", {"ORT_DYLIB_PATH": str(library)}


def peers(cell, units, streams, folder):
    """The name of each peer, and the arguments of `machine.run` for its round."""
    path, onnx_path = f"{folder}/{cell}-{units}.safetensors", f"{folder}/{cell}-{units}.onnx"
    machine.run(machine.OURS, "save", cell, units, 1, path)
    found = {"bptt": ((machine.OURS, "step", path, streams), {})}
    for name, target in [("nexus-inference", "target"), ("the same, AVX2", "target/x86-64-v3")]:
        program = machine.HERE / "nexus" / target / "release/nexus-lstm"
        if program.exists():
            found[name] = ((program, path, streams), {})
    program = machine.HERE / "onnxruntime/target/release/onnxruntime-lstm"
    if program.exists():
        write_onnx(cell.upper(), streams, machine.tensors(path), onnx_path)
        name, env = runtime()
        found[name] = ((program, onnx_path), env)
    return found


def compare(cell, units, streams, rounds, folder):
    """Returns the nanoseconds of each round by peer, having checked that all computed the same."""
    programs = peers(cell, units, streams, folder)
    found = {name: [] for name in programs}
    for _ in range(rounds):
        for name, (command, env) in programs.items():
            found[name].append(machine.run(*command, env=env))
    expected = found["bptt"][0]["output"]
    for name, all_rounds in found.items():
        difference = np.abs(np.subtract([each["output"] for each in all_rounds], expected)).max()
        if not difference <= 1e-5:
            raise SystemExit(f"{name}, {streams} x {cell} of {units}: the last output differs by {difference:.1e}")
    return {name: [each["ns"] for each in all_rounds] for name, all_rounds in found.items()}


def line(cell, units, found, peak):
    """A row of the table: medians, and the others' time as a multiple of ours, round by round."""
    ours, *others = found.values()
    ns = statistics.median(ours)
    share = 100 * GATE_ROWS[cell] * units * 4 * units / ns / peak.of("one")
    cells = [f"{ns:.0f}, {share:.0f} %", *(f"{statistics.median(ns):.0f} {machine.ratio(ours, ns)}" for ns in others)]
    return f"| {cell.upper()} {units} | " + " | ".join(cells) + " |"


def table(args, streams, peak, folder):
    side_by_side = f" of one of {streams} streams" if streams > 1 else ""
    print(f"\nns a step{side_by_side}, medians of {args.rounds} rounds; bptt's share of the peak of one thread")
    for i, (cell, units) in enumerate((cell, units) for cell in GATE_ROWS for units in args.units):
        found = compare(cell, units, streams, args.rounds, folder)
        peak.measure()
        if i == 0:
            print("| | " + " | ".join(found) + " |\n|" + "---|" * (len(found) + 1))
        print(line(cell, units, found, peak), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[8, 16, 24, 32, 64])
    parser.add_argument("--streams", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    peak = machine.Peak()
    with tempfile.TemporaryDirectory() as folder:
        for streams in args.streams:
            table(args, streams, peak, folder)
    print(peak.line())


if __name__ == "__main__":
    main()
