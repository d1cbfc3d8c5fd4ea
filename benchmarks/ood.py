"""Does a classifier notice what it has never seen? SDE-Net, a deep ensemble and a plain softmax, on two tests.

Two moons against far points, and digits against 8×8 grey patches of photographs: each network is trained on the first
and asked for both. A doubt ranks the test samples; AUROC is how often an outside sample has more doubt than an inside
one, FPR95 the share of outside samples that pass where 95 % of the inside ones do. Everything runs through the command
line, from the experiments in configs/; the softmax is the first member of the ensemble, trained alone. The numbers of a
run go to ood.json as they come, and a run that is there is not repeated; the table goes into docs/howto/uncertainty.md.

    OMP_NUM_THREADS=1 python benchmarks/ood.py [--seeds 3 | --quick | --draw]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from trials import ROOT, Config, Row, experiment, main, run, shown

PAGE = ROOT / "docs" / "howto" / "uncertainty.md"
TESTS = {"moons": "two moons, far points", "digits": "digits, patches of photographs"}
METHODS = {"sde_net": "SDE-Net", "ensemble": "deep ensemble, 5", "softmax": "softmax of one network"}
DOUBTS = {
    "sde_net": ("diffusion", "entropy", "confidence", "variance", "information"),
    "ensemble": ("entropy", "confidence", "variance", "information"),
    "softmax": ("entropy", "confidence"),
}
"""What ranks the samples; of a single draw variance and information are zero."""


def config(method: str, test: str) -> Config:
    """The experiment; that of the softmax is made of the ensemble's."""
    if method != "softmax":
        return experiment(f"{method}_{test}")
    content = experiment(f"ensemble_{test}")
    net = content["model"]["init_args"]["net"]["init_args"]
    net["members"] = net["members"][:1]
    return content


def measured(seeds: int, brief: Sequence[str], before: Sequence[Row]) -> Iterator[Row]:
    """A row for each run that is not there yet."""
    done = {(row["method"], row["test"], row["seed"]) for row in before}
    for seed in range(seeds):
        for test in TESTS:
            for method in METHODS:
                if (method, test, seed) in done:
                    continue
                found = run(config(method, test), seed, brief)
                print(method, test, f"seed {seed}:", {k: v for k, v in found.items() if "auroc" in k}, flush=True)
                yield {"method": method, "test": test, "seed": seed, **found}


def table(rows: Sequence[Row]) -> str:
    """Markdown: a row for each test, method and doubt."""
    lines = ["| test | network | doubt | AUROC | FPR95 | accuracy | ECE |", "|---|---|---|---|---|---|---|"]
    for test, told in TESTS.items():
        for method, title in METHODS.items():
            own = [row for row in rows if (row["method"], row["test"]) == (method, test)]
            for doubt in DOUBTS[method] if own else ():
                scores = [
                    shown(own, f"test/{name}") for name in (f"auroc_{doubt}", f"fpr95_{doubt}", "accuracy", "ece")
                ]
                lines.append(f"| {told} | {title} | {doubt} | {' | '.join(scores)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(__doc__, Path(__file__), PAGE, measured, table)
