"""Parameters from PyTorch to bptt and back, by safetensors files, twenty times.

    python scripts/pytorch_roundtrip.py [seed]

It needs torch, safetensors and cargo. Each case has random sizes, a recurrent cell in one to three layers and one or both
directions, a linear layer, and sometimes an embedding and a layer normalisation, in f32 or f64, as a module by itself, within
other modules, or with the names that nn.Sequential gives its parts. There: bptt loads the state dict of a module made here,
under other names, strictly. Back: `load_state_dict(strict=True)` loads what bptt initialised and saved. Both ways the outputs
are compared, relative to max(1, |PyTorch's|); it fails above 1e-5 in f32 or 1e-12 in f64.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

LARGEST = {"f32": 1e-5, "f64": 1e-12}
DTYPES = {"f32": torch.float32, "f64": torch.float64}
CELLS = {"lstm": (nn.LSTM, {}), "gru": (nn.GRU, {}), "rnn_tanh": (nn.RNN, {}), "rnn_relu": (nn.RNN, {"nonlinearity": "relu"})}
# PyTorch's names for embedding, rnn, norm and linear here.
STYLES = {
    "same names": ["embedding", "rnn", "norm", "linear"],
    "own names": ["words", "encoder", "ln", "fc"],
    "within module": ["module.words", "module.encoder", "module.ln", "module.fc"],
    "numbered": ["0", "1", "2", "3"],
}


class Chain(nn.Module):
    """A chain of modules, under names with or without dots."""

    def __init__(self, parts):
        super().__init__()
        self.order = [name for name, _ in parts]
        for name, part in parts:
            *outer, last = name.split(".")
            parent = self
            for level in outer:
                if not hasattr(parent, level):
                    parent.add_module(level, nn.Module())
                parent = getattr(parent, level)
            parent.add_module(last, part)

    def forward(self, x):
        for name in self.order:
            part = self.get_submodule(name)
            if isinstance(part, nn.Embedding):
                x = part(x.squeeze(-1).long())
            elif isinstance(part, nn.RNNBase):
                x, _ = part(x)
            else:
                x = part(x)
        return x


def draw(i, rng):
    cells, scalars, styles = list(CELLS), list(DTYPES), list(STYLES)
    return {
        "name": f"case{i:02}",
        # Every cell in both scalars; all else at random.
        "cell": cells[i % 4],
        "scalar": scalars[i // 4 % 2],
        "style": styles[(i + i // 4) % 4],
        "layers": rng.randint(1, 3),
        "bidirectional": rng.random() < 0.5,
        "input": rng.randint(1, 40),
        "hidden": rng.randint(1, 40),
        "output": rng.randint(1, 20),
        "norm": rng.random() < 0.5,
        "words": rng.randint(2, 50) if rng.random() < 0.5 else None,
        "batch": rng.randint(1, 70),
        "steps": rng.randint(1, 30),
    }


def module(case):
    """A fresh module, and what its parts are called here."""
    theirs = STYLES[case["style"]]
    make, settings = CELLS[case["cell"]]
    directions = 2 if case["bidirectional"] else 1
    rnn = make(
        case["input"], case["hidden"], case["layers"], batch_first=True, bidirectional=directions == 2, **settings
    )
    parts = [("rnn", rnn), ("linear", nn.Linear(directions * case["hidden"], case["output"]))]
    if case["norm"]:
        norm = nn.LayerNorm(directions * case["hidden"])
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        parts.insert(1, ("norm", norm))
    if case["words"]:
        parts.insert(0, ("embedding", nn.Embedding(case["words"], case["input"])))
    names = dict(zip(["embedding", "rnn", "norm", "linear"], theirs))
    chain = Chain([(names[name], part) for name, part in parts]).to(DTYPES[case["scalar"]])
    return chain, {names[name]: name for name, _ in parts}


def difference(found, expected):
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    return ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    rng = random.Random(seed)
    torch.manual_seed(seed)
    cases, expected = [draw(i, rng) for i in range(20)], []
    with tempfile.TemporaryDirectory() as folder:
        file = lambda case, what: Path(folder) / f"{case['name']}.{what}.safetensors"
        for case in cases:
            made, case["renames"] = module(case)
            shape = (case["batch"], case["steps"])
            if case["words"]:
                x = torch.randint(case["words"], (*shape, 1)).to(DTYPES[case["scalar"]])
            else:
                x = torch.randn(*shape, case["input"], dtype=DTYPES[case["scalar"]])
            save_file(made.state_dict(), file(case, "torch"))
            save_file({"x": x}, file(case, "x"))
            with torch.no_grad():
                expected.append((x, made(x)))
        (Path(folder) / "cases.json").write_text(json.dumps(cases))
        command = ["cargo", "run", "--quiet", "--example", "pytorch_roundtrip", "--", folder]
        subprocess.run(command, cwd=Path(__file__).resolve().parent.parent, check=True)

        print(f"torch {torch.__version__}, seed {seed}")
        print(f"{'case':7}{'cell':9}{'type':5}{'layers':7}{'dirs':5}{'I':>3}{'H':>4}{'O':>4}{'T':>4}{'batch':>6}"
              f"  {'also':15}{'names':14}{'there':>9}{'back':>9}")
        largest = {scalar: 0.0 for scalar in DTYPES}
        for case, (x, y) in zip(cases, expected):
            there = difference(load_file(file(case, "loaded"))["y"], y)
            fresh, _ = module(case)
            fresh.load_state_dict(load_file(file(case, "bptt")), strict=True)
            with torch.no_grad():
                back = difference(load_file(file(case, "own"))["y"], fresh(x))
            also = " ".join(["embed"] * bool(case["words"]) + ["norm"] * case["norm"])
            directions = 1 + case["bidirectional"]
            print(f"{case['name']:7}{case['cell']:9}{case['scalar']:5}{case['layers']:<7}{directions:<5}{case['input']:3}"
                  f"{case['hidden']:4}{case['output']:4}{case['steps']:4}{case['batch']:6}  {also:15}{case['style']:14}"
                  f"{there:9.1e}{back:9.1e}")
            largest[case["scalar"]] = max(largest[case["scalar"]], there, back)
    for scalar, value in largest.items():
        print(f"{scalar}: largest difference {value:.1e}")
    if any(not largest[scalar] <= LARGEST[scalar] for scalar in largest):
        sys.exit("FAILED")


if __name__ == "__main__":
    main()
