"""Classification with doubt: ensembles, draws, and one network alone."""

import math
from functools import partial

import lightning as L
import pytest
import torch
import training
from torch import nn

from deqlight.controllers import Constant
from deqlight.data import Batch, TwoMoons
from deqlight.errors import InputError, ShapeError
from deqlight.fields import MLP, AdditiveDiffusion
from deqlight.metrics import Predictive
from deqlight.nets import DepthNet, Draws, Ensemble, StochasticStage
from deqlight.solvers import Euler
from deqlight.tasks import ClassifyUncertain

adam = partial(torch.optim.Adam, lr=0.02)
DOUBTS = ("confidence", "entropy", "variance", "information")


def small():
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


def noisy():
    stage = StochasticStage(partial(MLP, hidden=16), partial(AdditiveDiffusion, sigma=0.3), 8, "additive", "ito")
    net = DepthNet(nn.Linear(2, 8), [stage], nn.Linear(8, 2), solver=Euler(), controller=Constant(steps=3))
    return Draws(net, draws=6)


NETS = {"one": small, "ensemble": lambda: Ensemble([small() for _ in range(3)]), "draws": noisy}


def task(name="ensemble", **options):
    L.seed_everything(0, verbose=False)
    return ClassifyUncertain(NETS[name](), 2, adam, **{"outside": True, **options})


def moons(**options):
    return TwoMoons(**{"batch_size": 60, "train": 300, "val": 64, "test": 100, "far": 50, **options})


@pytest.mark.parametrize("name", NETS)
def test_it_learns_and_logs_what_it_promises(tmp_path, name):
    run, module, data = training.trainer(tmp_path, enable_checkpointing=False, max_epochs=12), task(name), moons()
    run.fit(module, datamodule=data)
    assert set(run.callback_metrics) >= {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "val/ece",
        "val/nll",
    }
    assert run.callback_metrics["val/accuracy"] > 0.8
    (tested,) = run.test(module, datamodule=data, verbose=False)
    kinds = {f"test/{kind}_{doubt}" for kind in ("auroc", "aupr", "fpr95") for doubt in DOUBTS}
    assert set(tested) == kinds | {"test/loss", "test/accuracy", "test/ece", "test/nll", "nfe/forward"}
    if name == "one":
        assert tested["test/auroc_variance"] == tested["test/auroc_information"] == 0.5  # ties, all of them


def test_scores_are_those_of_the_inside_samples_of_the_whole_part(tmp_path):
    run, module, data = training.trainer(tmp_path, enable_checkpointing=False, max_epochs=1), task(), moons()
    run.fit(module, datamodule=data)
    (tested,) = run.test(module, datamodule=data, verbose=False)
    points, parts = data.load()
    x, targets = points.inputs[parts["test"][:100]], points.targets[parts["test"][:100]]
    with torch.no_grad():
        p = torch.stack([member.eval()(x).double().softmax(1) for member in module.net.members]).mean(0)
    nll = -p.gather(1, targets[:, None]).log().mean()
    assert tested["test/nll"] == pytest.approx(nll.item(), rel=1e-5)
    assert tested["test/loss"] == pytest.approx(nll.item(), rel=1e-5)
    assert tested["test/accuracy"] == pytest.approx((p.argmax(1) == targets).double().mean().item())


def test_a_batch_without_inside_samples_has_no_loss():
    module = task().eval()
    outputs = module(torch.randn(4, 2))
    assert module.loss(outputs, torch.full((4,), -1)) == 0.0
    assert module.loss(outputs, torch.tensor([0, -1, 1, -1])).isfinite()


def test_members_learn_as_they_would_alone():
    """By the gradient of its own loss, up to the factor of the mean."""
    module = task()
    batch = Batch(torch.randn(9, 2), torch.randint(2, (9,)), torch.arange(9))
    module.loss(module(batch.inputs), batch.targets).backward()
    together = [p.grad.clone() for p in module.net.members[1].parameters()]
    module.zero_grad()
    nn.functional.cross_entropy(module.net.members[1](batch.inputs), batch.targets).backward()
    for mean, alone in zip(together, module.net.members[1].parameters(), strict=True):
        assert torch.allclose(3 * mean, alone.grad, rtol=1e-5)


def test_members_start_and_end_apart(tmp_path):
    module = task()
    training.trainer(tmp_path, enable_checkpointing=False, max_epochs=2).fit(module, datamodule=moons())
    with torch.no_grad():
        passes = module.net.passes(torch.randn(20, 2))
    assert (passes[0] - passes[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", NETS)
def test_predictions_carry_what_the_draws_said(tmp_path, name):
    module, run = task(name), training.trainer(tmp_path, enable_checkpointing=False)
    parts = run.predict(module, datamodule=moons())
    assert sorted(torch.cat([part.ids for part in parts]).tolist()) == list(range(364, 514))
    for part in parts:
        assert torch.allclose(part.probabilities.sum(1), torch.ones(len(part.ids)).double())
        assert torch.equal(part.classes, part.probabilities.argmax(1))
        assert part.entropy.max() <= math.log(2) + 1e-12
        assert (part.variance.sum() > 0) == (name != "one")


def test_evaluation_sees_the_same_noise_each_time(tmp_path):
    module, run = task("draws"), training.trainer(tmp_path, enable_checkpointing=False)
    one, two = (torch.cat([p.probabilities for p in run.predict(module, datamodule=moons())]) for _ in range(2))
    assert torch.equal(one, two)


def test_without_outside_samples_only_classes_are_scored(tmp_path):
    module, run = task(outside=False), training.trainer(tmp_path, enable_checkpointing=False)
    (tested,) = run.test(module, datamodule=moons(far=0), verbose=False)
    assert set(tested) == {"test/loss", "test/accuracy", "test/ece", "test/nll", "nfe/forward"}


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"\(5, 10\); it needs \(batch, 2\)"):
        ClassifyUncertain(nn.Linear(2, 10), 2, adam)(torch.randn(5, 2))
    with pytest.raises(InputError, match="classes is 1"):
        ClassifyUncertain(small(), 1, adam)


def test_a_classifier_s_scores_are_one_draw():
    module = task("one")
    x = torch.randn(5, 2)
    assert torch.allclose(Predictive(module(x)).probabilities, module.net(x).double().softmax(1))
