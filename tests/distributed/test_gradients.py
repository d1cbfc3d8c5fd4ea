"""Two gloo processes give the gradients of one with the same samples, for every experiment."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import lightning as L
import pytest
import tiny_sets
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from processes import free_port
from torch import nn

from deqlight.cli.start import import_choices
from deqlight.data import CIFAR10

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "configs" / "experiment").glob("*.yaml"))
TOLERANCE = 1e-10  # float64; rounding of sums in another order gives 1e-15 to 1e-13
WORLD = 2
LIMIT = 90  # seconds; a rank that waits for another is ended after 20


VARIANTS = {
    "implicit": ("midpoint_digits", {"solver": "Trapezoid", "gradient": "Direct"}),
    "IMEX": ("semilinear_digits", {"solver": "IMEXEuler"}),
    "stiff, measured": ("neural_ode_digits", {"solver": "Kvaerno3"}),
    "branches left out": (
        "stochastic_depth_digits",
        {"regularizers": [{"class_path": "StochasticDepth", "init_args": {"survival": 0.2, "per": "batch"}}]},
    ),
    "pair": (
        "resnet_digits",
        {"solver": {"class_path": "ReversiblePair", "init_args": {"solver": "Heun"}}, "gradient": "Reversible"},
    ),
}
"""Experiments with other solvers and noise: gradients of zero for branches that a batch leaves out; gradients by the
implicit function, by GMRES, and by undoing a wrapped method."""

RULES = ("Direct", "Checkpoint", "Backsolve", "Reversible", "Implicit")

NETWORKS = {path.stem: (path.stem, {}) for path in EXPERIMENTS} | VARIANTS


def network(name, changes, root):
    """The network of an experiment, every norm replaced by one that does not mix samples, and its data below `root`."""
    import_choices()
    text = (
        (ROOT / "configs" / "experiment" / f"{name}.yaml")
        .read_text()
        .replace("torch.nn.BatchNorm2d", "deqlight.fields.GroupNorm2d")
    )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net", fail_untyped=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    experiment = yaml.safe_load(text)
    net = experiment["model"]["init_args"]["net"]
    net["init_args"].update(changes)
    if "root" in experiment["data"]["init_args"]:
        experiment["data"]["init_args"]["root"] = str(root)
    config = parser.parse_object({"net": net, "data": experiment["data"]})
    torch.manual_seed(0)
    made = parser.instantiate(config)
    net, data = made["net"], made["data"]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    data.setup("fit")
    return net, data._dataset


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    with small_sets(folder):
        for name, (experiment, changes) in NETWORKS.items():
            torch.save(network(experiment, changes, folder / "data"), folder / f"{name}.net")
    return compared(folder)


@contextmanager
def small_sets(folder):
    with pytest.MonkeyPatch.context() as patch:
        tiny_sets.shrink(patch)
        tiny_sets.publish(patch, CIFAR10, folder / "data")
        yield


def compared(folder, limit=LIMIT):
    """What both ranks have to report of the networks in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    arguments = [str(WORLD), str(free_port()), str(folder)]
    ranks = [subprocess.Popen([*command, str(rank), *arguments], env=environment) for rank in range(WORLD)]
    try:
        assert [rank.wait(limit) for rank in ranks] == [0] * WORLD
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_do_not_depend_on_the_number_of_processes(reports, name):
    assert all(report["differences"][name] < TOLERANCE for report in reports), reports


def test_a_rank_with_other_plugins_is_named_on_every_rank(reports):
    for report in reports:
        assert "rank 1 has other plugins than the rest" in report["odd"]
        assert "guest:guest" in report["odd"]


def test_a_mean_is_that_of_all_samples(reports):
    assert [report["mean"] for report in reports] == [pytest.approx((3 * 1.0 + 4 * 2.0) / 7)] * WORLD


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nor_by_any_rule_that_an_experiment_takes(tmp_path):
    """Every experiment with every rule; a network that refuses a rule does so in one process as well."""
    with small_sets(tmp_path):
        for experiment, rule in product((path.stem for path in EXPERIMENTS), RULES):
            with suppress(ArgumentError, ValueError):
                made = network(experiment, {"gradient": rule}, tmp_path / "data")
                torch.save(made, tmp_path / f"{experiment} {rule}.net")
    for report in compared(tmp_path, limit=600):
        found = {name: value for name, value in report["differences"].items() if value is not None}
        assert {name: value for name, value in found.items() if not value < TOLERANCE} == {}
        taken = Counter(name.split()[1] for name in found)
        assert taken["Direct"] >= 36 and taken["Checkpoint"] >= 35 and taken["Backsolve"] >= 20, taken
        assert taken["Reversible"] >= 7, taken
