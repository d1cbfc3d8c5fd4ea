"""What noise in training is good for: a residual network on digits against the same with each regulariser.

Each row is the experiment `resnet_digits` with one thing changed, but for the two branches that shake-shake needs and
the neural SDE, which has a network of its own; both have a row without noise to be held against. The strengths were set
beforehand and are not tuned. All train for 30 epochs; `deqlight test` with the callback `Robustness` tells the accuracy
on the images as they are, with pixel noise of three severities, and under attack by projected gradients, and the
calibration error. Everything runs through the command line; the numbers go to regularizers.json as they come, and a run
that is there is not repeated; the table goes into docs/explanation/regularizers.md.

    OMP_NUM_THREADS=1 python benchmarks/regularizers.py [--seeds 3 | --quick | --draw]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trials import ROOT, Config, Row, experiment, main, run, shown

PAGE = ROOT / "docs" / "explanation" / "regularizers.md"
EPOCHS = 30
SEVERITIES = (1, 3, 5)
ATTACK = {"class_path": "PGD", "init_args": {"eps": 0.1, "steps": 20}}
TRIAL = {
    "class_path": "Robustness",
    "init_args": {"corruptions": ["PixelNoise"], "severities": list(SEVERITIES), "attacks": [ATTACK]},
}
COLUMNS = {
    "accuracy": "clean",
    **{f"accuracy_pixelnoise_{severity}": f"noise {severity}" for severity in SEVERITIES},
    "accuracy_pgd20_0.1": "PGD",
    "ece": "ECE",
    "nfe/forward": "NFE",
}


def part(name: str, **options: Any) -> list[Config]:
    """A regulariser or a cost of a configuration."""
    return [{"class_path": name, "init_args": options}]


def resnet(regularizers: Sequence[Config] = (), costs: Sequence[Config] = ()) -> Config:
    """The residual network with regularisers and costs."""
    content = experiment("resnet_digits")
    content["model"]["init_args"]["net"]["init_args"] |= {"regularizers": list(regularizers), "costs": list(costs)}
    return content


def branches(regularizers: Sequence[Config]) -> Config:
    """The network of two branches."""
    content = experiment("shake_shake_digits")
    content["model"]["init_args"]["net"]["init_args"]["regularizers"] = list(regularizers)
    return content


def long(name: str) -> Config:
    """A shipped experiment, trained as long as the others."""
    content = experiment(name)
    content["model"]["init_args"]["scheduler"]["init_args"]["T_max"] = content["trainer"]["max_epochs"] = EPOCHS
    return content


def neural_sde(sigma: float) -> Config:
    """The neural SDE with noise of this size; without noise, the neural ODE in it."""
    content = long("neural_sde_digits")
    model = content["model"]["init_args"]
    for stage in model["net"]["init_args"]["net"]["init_args"]["stages"]:
        options = stage["init_args"]
        if sigma:
            options["diffusion"]["init_args"]["sigma"] = sigma
        else:
            model["net"]["init_args"]["draws"] = 1
            stage["class_path"] = "ContinuousStage"
            stage["init_args"] = {"field": options["drift"]} | {
                k: options[k] for k in ("channels", "entry") if k in options
            }
    return content


ENTRANTS = {
    "plain": resnet(),
    "Dropout(p=0.1)": resnet(part("Dropout", p=0.1)),
    "RandomBatch(p=0.1, interval=3)": resnet(part("RandomBatch", p=0.1, interval=3.0)),
    "GaussianNoise(0.2, additive)": resnet(part("GaussianNoise", sigma=0.2, proportional="additive")),
    "GaussianNoise(0.2, state)": resnet(part("GaussianNoise", sigma=0.2, proportional="state")),
    "GaussianNoise(0.2, branch)": resnet(part("GaussianNoise", sigma=0.2, proportional="branch")),
    "StochasticDepth(0.8)": resnet(part("StochasticDepth", survival=0.8)),
    "ShakeDrop(0.8)": resnet(part("ShakeDrop", survival=0.8)),
    "Kinetic(1e-4)": resnet(costs=part("Kinetic", weight=1e-4)),
    "JacobianFrobenius(1e-4)": resnet(costs=part("JacobianFrobenius", weight=1e-4)),
    "Smoothness(0.01)": resnet(costs=part("Smoothness", weight=0.01)),
    "two branches": branches(()),
    "two branches, ShakeShake": branches(part("ShakeShake", mode="shake", level="image")),
    "two branches, ShakeShake even": branches(part("ShakeShake", mode="even", level="image")),
    "two branches, DropPath": branches(part("DropPath")),
    "neural ODE": neural_sde(0.0),
    "neural SDE, additive 0.2": neural_sde(0.2),
    "neural SDE, additive 0.5": neural_sde(0.5),
    "neural ODE, measured steps": long("neural_ode_digits"),
    "neural ODE, measured steps, Kinetic and JacobianFrobenius(1e-4)": long("rnode_digits"),
}


def trial(content: Config) -> Config:
    """The configuration with the images made worse."""
    trainer = content["trainer"]
    return {**content, "trainer": {**trainer, "callbacks": [*trainer.get("callbacks", ()), TRIAL]}}


def measured(seeds: int, brief: Sequence[str], before: Sequence[Row]) -> Iterator[Row]:
    """A row for each run that is not there yet, one seed of all after the other."""
    done = {(row["network"], row["seed"]) for row in before}
    for seed in range(seeds):
        for network, content in ENTRANTS.items():
            if (network, seed) not in done:
                found = run(trial(content), seed, brief)
                print(network, f"seed {seed}:", {told: found[key(name)] for name, told in COLUMNS.items()}, flush=True)
                yield {"network": network, "seed": seed, **found}


def table(rows: Sequence[Row]) -> str:
    """Markdown: a row for each network; per cent, but for the calibration error."""
    lines = [f"| network | {' | '.join(COLUMNS.values())} |", "|---|" + "---|" * len(COLUMNS)]
    for network in ENTRANTS:
        own = [row for row in rows if row["network"] == network]
        if own:
            scores = [shown(own, key(name), _figure(name)) for name in COLUMNS]
            lines.append(f"| {network} | {' | '.join(scores)} |")
    return "\n".join(lines) + "\n"


def key(name: str) -> str:
    """What the log calls a column."""
    return name if "/" in name else f"test/{name}"


def _figure(name: str) -> Any:
    if name in ("ece", "nfe/forward"):
        return "{:.3f}".format if name == "ece" else "{:.0f}".format
    return lambda value: f"{100 * value:.1f}"


if __name__ == "__main__":
    main(__doc__, Path(__file__), PAGE, measured, table)
