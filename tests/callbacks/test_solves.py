"""What solves cost, how much they may, and whether gradients are what they should be."""

from dataclasses import dataclass, replace
from functools import partial

import lightning as L
import pytest
import torch
import training
from torch import nn

from deqlight.callbacks import GradientAudit, NFEBudget, SolverStatistics
from deqlight.controllers import PID
from deqlight.data import Reflection
from deqlight.errors import InputError
from deqlight.fields import MLP
from deqlight.gradients import Backsolve, Checkpoint, Direct
from deqlight.gradients.base import Gradient
from deqlight.nets import Augment, ContinuousStage, DepthNet
from deqlight.solvers import Dopri5
from deqlight.tasks import Regress

SMALL = partial(MLP, hidden=8, depth=1)


def fitted(tmp_path, *callbacks, gradient=Direct(), epochs=2, atol=1e-3):  # noqa: B008  a frozen value
    L.seed_everything(0, verbose=False)
    stages = [ContinuousStage(SMALL, 1, lift=Augment(1))]
    net = DepthNet(nn.Identity(), stages, nn.Identity(), solver=Dopri5(), controller=PID(atol, atol), gradient=gradient)
    task = Regress(net, partial(torch.optim.Adam, lr=0.01))
    trainer = training.trainer(tmp_path, *callbacks, enable_checkpointing=False, max_epochs=epochs)
    trainer.fit(task, datamodule=Reflection(batch_size=32, train=64, val=16))
    return trainer, task


def test_statistics_are_those_of_the_solves(tmp_path):
    trainer, _ = fitted(tmp_path, SolverStatistics())
    logged = trainer.callback_metrics
    assert logged["solver/steps"] >= 1 and logged["solver/rejected"] >= 0
    assert logged["solver/nfe_max"] >= logged["nfe/forward"] > 0
    assert float(logged["nfe/forward"]) == pytest.approx(
        2 + 6 * float(logged["solver/steps"] + logged["solver/rejected"]), abs=1.0
    )  # Dopri5: six evaluations a step, and those of the start


def test_what_an_audit_solves_is_not_among_them(tmp_path):
    """Nor in the task's own account, on whichever side of the audit one listens."""
    plain, _ = fitted(tmp_path, SolverStatistics())
    audited, _ = fitted(tmp_path, SolverStatistics(), GradientAudit(), SolverStatistics())
    names = [name for name in plain.callback_metrics if name.startswith(("solver/", "nfe/"))]
    assert len(names) >= 4
    for name in names:
        assert plain.callback_metrics[name] == audited.callback_metrics[name], name


def test_a_budget_stops_or_warns_and_a_large_one_is_silent(tmp_path, recwarn):
    trainer, _ = fitted(tmp_path, NFEBudget(1.0, "stop"), epochs=4)
    assert trainer.current_epoch == 1
    assert any("NFEBudget; the training ends" in str(warning.message) for warning in recwarn.list)
    recwarn.clear()
    trainer, _ = fitted(tmp_path, NFEBudget(1e6, "stop"), epochs=2)
    assert trainer.current_epoch == 2 and not any("NFEBudget" in str(w.message) for w in recwarn.list)


def test_an_audit_finds_exact_rules_exact_and_changes_nothing(tmp_path):
    plain, task = fitted(tmp_path)
    audited, same = fitted(tmp_path, GradientAudit(samples=5))
    assert audited.callback_metrics["audit/gradient"] < 1e-5
    for a, b in zip(task.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert isinstance(same.net.gradient, Direct)
    assert plain.callback_metrics["val/loss"] == audited.callback_metrics["val/loss"]


@dataclass(frozen=True)
class Doubled(Gradient):
    """A rule whose gradients are twice too large."""

    def integrate(self, problem):
        path = Checkpoint().integrate(problem)
        ys = path.ys
        return replace(path, ys=2 * ys - ys.detach())


def test_an_audit_finds_a_wrong_rule(tmp_path, recwarn):
    trainer, task = fitted(tmp_path, GradientAudit(action="stop"), gradient=Doubled(), epochs=3)
    assert trainer.callback_metrics["audit/gradient"] > 0.1
    assert any("GradientAudit's tolerance" in str(warning.message) for warning in recwarn.list)
    assert trainer.current_epoch == 1 and isinstance(task.net.gradient, Doubled)


def test_an_audit_measures_a_loose_adjoint(tmp_path):
    loose, _ = fitted(tmp_path, GradientAudit(), gradient=Backsolve(), atol=1e-2)
    tight, _ = fitted(tmp_path, GradientAudit(), gradient=Backsolve(), atol=1e-5)
    assert tight.callback_metrics["audit/gradient"] < loose.callback_metrics["audit/gradient"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NFEBudget(0.0), "most=0.0"),
        (lambda: NFEBudget(10, "halt"), "'halt'"),
        (lambda: GradientAudit(samples=0), "samples=0"),
        (lambda: GradientAudit(tolerance=0.0), "tolerance=0.0"),
    ],
    ids=["most", "action", "samples", "tolerance"],
)
def test_what_makes_no_sense(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_network_without_a_rule_is_told(tmp_path):
    task = training.task()
    with pytest.raises(InputError, match="no part of the network with a gradient rule"):
        training.trainer(tmp_path, GradientAudit(), max_epochs=1, enable_checkpointing=False).fit(
            task, datamodule=training.Digits(64, 0.1, 0.2, 0)
        )
