import inspect
import math

import lightning as L
import pytest
import torch
import training
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn

from deqlight.data import Batch
from deqlight.errors import InputError, NonFinite, ShapeError
from deqlight.solution import Stats, report
from deqlight.tasks import Classify

LOGGED = {"train/loss", "train/accuracy", "nfe/forward", "nfe/backward", "val/loss", "val/accuracy", "val/ece"}


class Solving(nn.Module):
    """A network that reports a solve: three evaluations per sample, four in the backward pass."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        if not self.training:
            report(Stats.uniform(len(x), 3, 3))
            return self.linear(x.flatten(1))
        stats = Stats.uniform(len(x), 3, 3)
        report(stats)
        scores = self.linear(x.flatten(1))
        scores.register_hook(lambda grad: setattr(stats, "nfe_backward", 4))
        return scores


def fitted(tmp_path, task, *callbacks, **kwargs):
    trainer = training.trainer(tmp_path, *callbacks, enable_checkpointing=False, **kwargs)
    data = training.digits()
    trainer.fit(task, datamodule=data)
    return trainer, data


def test_it_learns_and_logs_what_it_promises(tmp_path):
    trainer, data = fitted(tmp_path, task := training.task())
    assert set(trainer.callback_metrics) >= LOGGED
    assert trainer.callback_metrics["val/accuracy"] > 0.6  # chance is 0.1
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    assert set(tested) == {"test/loss", "test/accuracy", "test/ece", "test/nll", "nfe/forward"}


def test_scores_are_those_of_the_whole_part(tmp_path):
    trainer, data = fitted(tmp_path, task := training.task(), max_epochs=1)
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    task.eval()
    with torch.no_grad():
        batches = [(batch, task(batch.inputs)) for batch in data.test_dataloader()]
    scores, targets = torch.cat([s for _, s in batches]), torch.cat([b.targets for b, _ in batches])
    assert tested["test/accuracy"] == pytest.approx((scores.argmax(1) == targets).float().mean().item())
    assert tested["test/loss"] == pytest.approx(nn.functional.cross_entropy(scores, targets).item(), rel=1e-5)


def test_field_evaluations_of_any_network_are_logged(tmp_path):
    task = Classify(Solving(), 10, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    trainer, _ = fitted(tmp_path, task, max_epochs=1)
    assert trainer.callback_metrics["nfe/forward"] == 3
    assert trainer.callback_metrics["nfe/backward"] == 4


def test_predictions_carry_the_ids_of_their_samples(tmp_path):
    trainer = training.trainer(tmp_path, enable_checkpointing=False)
    data = training.digits()
    predictions = trainer.predict(training.task(), datamodule=data)
    ids = torch.cat([batch.ids for batch in predictions])
    assert sorted(ids.tolist()) == sorted(torch.cat([batch.ids for batch in data.test_dataloader()]).tolist())
    for batch in predictions:
        assert torch.allclose(batch.probabilities.sum(1), torch.ones(len(batch.ids)))
        assert torch.equal(batch.probabilities.argmax(1), batch.classes)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_the_schedule_counts_what_it_is_told_to(tmp_path, interval):
    def halve(optimizer):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    task = training.task(scheduler=halve, scheduler_interval=interval)
    trainer, _ = fitted(tmp_path, task, max_epochs=2)
    counted = 2 if interval == "epoch" else trainer.global_step
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.5**counted)


def test_a_plateau_schedule_watches_what_it_names(tmp_path):
    watched = training.task(scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, monitor="val/ece"))
    assert watched.configure_optimizers()["lr_scheduler"]["monitor"] == "val/ece"
    plain = training.task(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert plain.configure_optimizers()["lr_scheduler"]["monitor"] == "val/loss"
    fitted(tmp_path, plain, max_epochs=1)


def test_without_a_schedule_the_optimiser_stands_alone():
    assert isinstance(training.task(scheduler=None).configure_optimizers(), torch.optim.AdamW)


def test_smoothing_changes_the_training_loss_alone():
    batch = Batch(torch.rand(4, 1, 8, 8), torch.arange(4), torch.arange(4))
    losses = []
    for smoothing in (0.0, 0.2):
        task = training.task(label_smoothing=smoothing)
        task.log = lambda *args, **kwargs: None
        losses.append(task.training_step(batch, 0).item())
    assert losses[0] != losses[1]


def test_a_nan_loss_stops_before_it_reaches_a_weight(tmp_path):
    class Poison(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 3:
                batch.inputs[0, 0, 0, 0] = math.nan

    task = training.task()
    with pytest.raises(NonFinite, match="loss became nan") as caught:
        fitted(tmp_path, task, Poison())
    assert caught.value.step == 3
    assert all(parameter.isfinite().all() for parameter in task.parameters())


def test_a_gradient_that_is_not_finite_is_named(tmp_path):
    task = training.task()
    task.net[0].weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(NonFinite, match=r"the gradient of net\.0\.weight is not finite"):
        fitted(tmp_path, task, max_epochs=1)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"classes": 1}, "classes is 1"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
    ],
)
def test_what_cannot_be(bad, told):
    with pytest.raises(InputError, match=told):
        Classify(**{"net": training.net(), "classes": 10, "optimizer": torch.optim.SGD, **bad})


def test_a_network_with_another_number_of_scores_is_refused():
    task = Classify(training.net(), 7, torch.optim.SGD)
    with pytest.raises(ShapeError, match=r"\(2, 10\); Classify needs \(batch, 7\)"):
        task(torch.rand(2, 1, 8, 8))


def test_a_step_fits_on_a_screen():
    lines = inspect.getsource(Classify.training_step).splitlines()
    assert len([line for line in lines if line.strip() and '"""' not in line]) <= 12
