"""The experiments with uncertainty, from the command line: SDE-Net, ensembles, the neural SDE and its noises."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from deqlight.cli.main import main

CONFIGS = Path(__file__).parents[2] / "configs" / "experiment"
SHORT = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
PART = ("--trainer.limit_test_batches=2", "--trainer.limit_predict_batches=2")
DETECTED = 0.95  # AUROC; 0.994 to 1 with seeds 0 to 2

GAUSSIAN = {"noise": "gaussian", "scaling": "sde", "at_test": True}
NOISES = {
    "multiplicative": {
        "diffusion": {"class_path": "MultiplicativeDiffusion", "init_args": {"sigma": 0.2}},
        "noise": "diagonal",
    },
    "general": {
        "diffusion": {"class_path": "MatrixDiffusion", "init_args": {"sources": 2, "block": "ConcatConv"}},
        "noise": "general",
        "sources": 2,
    },
    "dropout": {"class_path": "Dropout", "init_args": {"p": 0.1, **GAUSSIAN}},
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["deqlight"])


def run(command, *words):
    assert main([command, *words, "--trainer.accelerator=cpu"]) == 0


def rows(name, command, file):
    (path,) = Path("runs", name).glob(f"version_0/{command}/version_0/{file}.csv")
    with path.open() as text:
        return list(csv.DictReader(text))


@pytest.mark.parametrize(
    "name",
    [
        *("sde_net_moons", "neural_sde_digits"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("sde_net_digits", "ensemble_moons", "ensemble_digits")
        ),
    ],
)
def test_it_runs_and_its_predictions_say_how_sure_they_are(name):
    run("fit", "-c", name, *SHORT)
    for command in ("test", "predict"):
        run(command, "--ckpt_path", "best", "--name", name, *(word for word in PART if command in word))
    (tested,) = rows(name, "test", "metrics")
    assert {"test/accuracy", "test/nll", "test/ece"} <= set(tested)
    assert ("test/auroc_entropy" in tested) == (not name.startswith("neural"))
    predictions = rows(name, "predict", "predictions")
    assert {"ids", "classes", "probabilities_0", "variance_0", "entropy", "information"} <= set(predictions[0])
    assert ("diffusion" in predictions[0]) == name.startswith("sde_net")
    assert all(float(row["variance_0"]) >= 0 for row in predictions)
    assert sum(float(row["information"]) for row in predictions) > 0


def neural_sde(kind):
    """The experiment with another noise."""
    content = yaml.safe_load((CONFIGS / "neural_sde_digits.yaml").read_text())
    net = content["model"]["init_args"]["net"]["init_args"]["net"]["init_args"]
    if kind == "dropout":
        net["regularizers"] = [NOISES[kind]]
        for stage in net["stages"]:
            own = stage["init_args"]
            stage["class_path"] = "ContinuousStage"
            stage["init_args"] = {"field": own["drift"], **{k: own[k] for k in ("channels", "entry") if k in own}}
    else:
        for stage in net["stages"]:
            stage["init_args"].update(NOISES[kind])
    return content


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "dropout" else pytest.mark.slow) for kind in NOISES]
)
def test_the_other_noises_run_too(kind):
    Path("mine.yaml").write_text(json.dumps(neural_sde(kind)))
    run("fit", "-c", "mine.yaml", *SHORT)
    run("predict", "--ckpt_path", "best", "--name", "mine", *PART[1:])
    assert sum(float(row["information"]) for row in rows("mine", "predict", "predictions")) > 0


@pytest.mark.slow
def test_sde_net_knows_where_the_moons_end_and_the_ensemble_does_not():
    found = {}
    for name in ("sde_net_moons", "ensemble_moons"):
        run("fit", "-c", name)
        run("test", "-c", name, "--ckpt_path", "best")
        (found[name],) = rows(name, "test", "metrics")
    assert float(found["sde_net_moons"]["test/auroc_diffusion"]) > DETECTED
    assert float(found["sde_net_moons"]["test/auroc_entropy"]) > DETECTED
    assert float(found["ensemble_moons"]["test/auroc_entropy"]) < DETECTED
    assert min(float(scores["test/accuracy"]) for scores in found.values()) > 0.97
