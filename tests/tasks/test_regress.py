"""Numbers as targets: regression and forecasts."""

from functools import partial

import lightning as L
import pytest
import torch
import training
from torch import nn

from deqlight.callbacks import Predictions
from deqlight.controllers import PID
from deqlight.data import Batch, Oscillator, Reflection, Start
from deqlight.errors import InputError, ShapeError
from deqlight.fields import MLP
from deqlight.nets import Augment, ContinuousStage, DepthNet, Trajectory
from deqlight.solvers import RK4, Dopri5
from deqlight.tasks import Forecast, Regress

LOGGED = {"train/loss", "nfe/forward", "nfe/backward", "val/loss", "val/rmse", "val/mae"}
FLOAT32 = 1e-5  # relative, of means in another order
SMALL = partial(MLP, hidden=8, depth=1)


def regression(**options):
    L.seed_everything(0, verbose=False)
    stages = [ContinuousStage(SMALL, 1, lift=Augment(1))]
    net = DepthNet(nn.Identity(), stages, nn.Identity(), solver=Dopri5(), controller=PID(1e-2, 1e-2))
    return Regress(net, partial(torch.optim.Adam, lr=0.05), **options), Reflection(batch_size=32, train=128, val=45)


def forecast(**options):
    L.seed_everything(0, verbose=False)
    net = Trajectory(SMALL, 1, solver=RK4(), lift=Augment(1))
    data = Oscillator(points=9, train=48, val=21, test=37, **options)
    return Forecast(net, partial(torch.optim.Adam, lr=0.05)), data


BOTH = pytest.mark.parametrize(
    "make", [regression, forecast, partial(forecast, irregular=True)], ids=["map", "course", "irregular"]
)


def fitted(tmp_path, task, data, **options):
    trainer = training.trainer(tmp_path, enable_checkpointing=False, **options)
    trainer.fit(task, datamodule=data)
    return trainer


@BOTH
def test_it_learns_and_logs_what_it_promises(tmp_path, make):
    task, data = make()
    trainer = fitted(tmp_path, task, data, max_epochs=1)
    first = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert set(first) >= LOGGED
    assert first["val/loss"] == pytest.approx(first["val/rmse"] ** 2, rel=FLOAT32)
    task, data = make()
    last = fitted(tmp_path, task, data, max_epochs=4).callback_metrics
    assert last["val/loss"] < first["val/loss"] and last["nfe/forward"] > 0


@BOTH
def test_scores_are_those_of_the_whole_part(tmp_path, make):
    task, data = make()
    trainer = fitted(tmp_path, task, data, max_epochs=1)
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    with torch.no_grad():
        batches = [(task(batch.inputs), batch.targets) for batch in data.test_dataloader()]
    outputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    errors = outputs - targets
    assert outputs.shape == targets.shape == data.test_dataloader()._dataset[data._parts["test"]].targets.shape
    assert tested["test/loss"] == pytest.approx(errors.square().mean().item(), rel=FLOAT32)
    assert tested["test/rmse"] == pytest.approx(errors.square().mean().sqrt().item(), rel=FLOAT32)
    assert tested["test/mae"] == pytest.approx(errors.abs().mean().item(), rel=FLOAT32)


@BOTH
def test_predictions_are_a_row_for_each_sample(tmp_path, make):
    task, data = make()
    writer = Predictions(tmp_path)
    predictions = training.trainer(tmp_path, writer, enable_checkpointing=False).predict(task, datamodule=data)
    ids = torch.cat([batch.ids for batch in predictions])
    assert torch.equal(ids, data._parts["test"])
    header, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(rows) == len(ids)
    assert (header.count("ts_"), header.count("values_")) == ((0, 1) if make is regression else (9, 9))


def test_times_of_a_prediction_are_those_of_its_sample():
    task, data = forecast(irregular=True)
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    course = task.predict_step(batch, 0)
    assert torch.equal(course.ts, data._dataset.ts[batch.ids]) and course.values.shape == (32, 9, 1)
    common = task.predict_step(batch._replace(inputs=Start(batch.inputs.x, torch.linspace(0, 6, 9))), 0)
    assert torch.equal(common.ts, torch.linspace(0, 6, 9).repeat(32, 1))


def test_another_criterion():
    task, _ = regression(criterion=nn.L1Loss())
    outputs, targets = torch.randn(5, 1), torch.randn(5, 1)
    assert torch.equal(task.loss(outputs, targets), (outputs - targets).abs().mean())
    assert torch.equal(regression()[0].loss(outputs, targets), (outputs - targets).square().mean())


def test_two_shapes_are_not_broadcast():
    task, _ = regression()
    task.log = lambda *args, **kwargs: None
    x = torch.rand(8, 1)
    with pytest.raises(ShapeError, match=r"gave \(8, 1\) and the targets are \(8,\); a regression needs one shape"):
        task.training_step(Batch(x, x[:, 0], torch.arange(8)), 0)


def test_the_data_of_the_other_task_are_told_apart():
    (regress, points), (forecaster, courses) = regression(), forecast()
    for task, data, told in ((regress, courses, "the task Forecast"), (forecaster, points, "it needs a Start")):
        data.setup("fit")
        with pytest.raises(InputError, match=told):
            task(next(iter(data.val_dataloader())).inputs)
