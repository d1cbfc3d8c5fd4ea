"""Depth is time: every solver that a discrete network can use trains one from the command line, on real digits."""

import csv
from inspect import isabstract

import pytest
import yaml

from deqlight import solvers
from deqlight.terms import Noised, Partitioned, Split, Stochastic

CHANCE = 0.1
"""Accuracy of a guess among ten digits."""

TWICE_CHANCE = 2 * CHANCE
"""What two epochs of the smallest network reach by far with any integrator; a broken one stays at chance."""


RESIDUAL = {"class_path": "PreActivation", "init_args": {"norm": "GroupNorm2d"}}
DISSIPATIVE = {"class_path": "Antisymmetric", "init_args": {"scale": 0.2, "damping": 0.1}}
"""For methods that solve equations: a layer of length 1 has a solution where no eigenvalue lies to the right."""


def stage(info):
    """The stage that a solver integrates: its class, and what it is made of."""
    if info.terms == (Partitioned,):
        return "PartitionedStage", {"velocity": RESIDUAL, "force": RESIDUAL}
    if issubclass(info.terms[0], Split):
        return "SemilinearStage", {"linear": "ChannelDecay", "block": RESIDUAL}
    return "LayeredStage", {"block": DISSIPATIVE if info.stability == float("inf") else RESIDUAL}


def experiment(cls):
    info = next(iter(cls.examples())).info
    kind, parts = stage(info)
    batch, rate = (64, 0.05) if info.stability == float("inf") else (32, 0.02)  # fewer batches where each costs more
    net = {
        "stem": {"class_path": "ConvStem", "init_args": {"in_channels": 1, "channels": 8}},
        "stages": [{"class_path": kind, "init_args": {**parts, "channels": 8, "depth": 2}}],
        "head": {"class_path": "PoolHead", "init_args": {"channels": 8, "classes": 10}},
        "solver": solver(cls),
    }
    if info.terms == (Stochastic,):
        noise = {"survival": 0.9, "noise": "gaussian", "convert": info.calculus == "stratonovich"}
        net["regularizers"] = [{"class_path": "StochasticDepth", "init_args": noise}]
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "Classify",
            "init_args": {
                "net": {"class_path": "DepthNet", "init_args": net},
                "classes": 10,
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": rate}},
            },
        },
        "data": {
            "class_path": "Digits",
            "init_args": {"batch_size": batch, "val_fraction": 0.1, "test_fraction": 0.2, "split_seed": 0},
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "num_sanity_val_steps": 0},
    }


def solver(cls):
    """Its name; wrappers wrap the classical Runge–Kutta method."""
    if cls in (solvers.ReversiblePair, solvers.StepDoubling):
        return {"class_path": cls.__name__, "init_args": {"solver": "RK4"}}
    return cls.__name__


CLASSES = [getattr(solvers, name) for name in solvers.__all__]
CLASSES = [c for c in CLASSES if isinstance(c, type) and issubclass(c, solvers.Solver) and not isabstract(c)]
CLASSES = [c for c in CLASSES if not issubclass(next(iter(c.examples())).info.terms[0], Noised)]  # these sample
CLASSES.remove(solvers.LogODE)  # its noise is a matrix, which no regulariser has


def _case(cls):
    """Methods that solve equations take ten times as long: two of them, and the others in `make test-all`."""
    info = next(iter(cls.examples())).info
    long = info.stability == float("inf") and cls not in (solvers.ImplicitEuler, solvers.Rodas4)
    return pytest.param(cls, id=cls.__name__, marks=[pytest.mark.slow] if long else [])


@pytest.mark.parametrize("cls", [_case(cls) for cls in CLASSES])
def test_it_trains_a_network(deqlight, tmp_path, cls):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment(cls)))
    done = deqlight("fit", "-c", "mine.yaml")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(next(tmp_path.glob("runs/mine/version_0/**/metrics.csv")).open()))
    losses = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    accuracy = [float(row["val/accuracy"]) for row in rows if row.get("val/accuracy")]
    assert losses[-1] < losses[0] and accuracy[-1] > TWICE_CHANCE
