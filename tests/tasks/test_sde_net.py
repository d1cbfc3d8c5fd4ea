"""The task of SDE-Net: who learns from which loss, and that doubt is where no data are."""

import math
from functools import partial

import lightning as L
import pytest
import torch
import training
from torch import nn

from deqlight.brownian import keyed, next_stream
from deqlight.callbacks import Best, Last, Stopped
from deqlight.data import Batch, TwoMoons
from deqlight.errors import InputError, NonFinite
from deqlight.fields import MLP
from deqlight.nets import NormHead, Perceptron, SDENet
from deqlight.solvers import Euler
from deqlight.tasks import ClassifySDENet

adam = partial(torch.optim.Adam, lr=0.01)

STEPS = 200  # batches
DETECTED = 0.95  # AUROC on far points; 0.99 to 1.00 in runs of this length with other seeds


def sde_net():
    stem, drift = Perceptron(2, 32, 32, activation=nn.Tanh), partial(MLP, hidden=32, depth=1)
    sizes = {"time": 1.0, "steps": 6, "sigma": 5.0, "sigma_test": 20.0, "draws": 10}
    return SDENet(stem, drift, Perceptron(32, 1), NormHead(32, 2), 32, solver=Euler(), **sizes)


def task(seed=0, **options):
    L.seed_everything(seed, verbose=False)
    options = {"optimizer": adam, "diffusion_optimizer": adam, "spread": 4.0, "outside": True, **options}
    return ClassifySDENet(sde_net(), 2, **options)


def trainer(folder, *callbacks, **options):
    return training.trainer(folder, *callbacks, **{"enable_checkpointing": False, **options})


def fit(folder, module, *callbacks, **options):
    trainer(folder, *callbacks, **options).fit(
        module, datamodule=TwoMoons(batch_size=100, train=250, val=64, test=64, far=64)
    )
    return module


def test_doubt_is_flat_on_the_moons_and_high_far_away(tmp_path):
    """The diffusion after 200 batches, and the doubts made of it."""
    module, data = task(), TwoMoons()
    run = trainer(tmp_path, max_epochs=None, max_steps=2 * STEPS)
    run.fit(module, datamodule=data)
    (tested,) = run.test(module, datamodule=data, verbose=False)
    for doubt in ("diffusion", "confidence", "entropy", "variance", "information"):
        assert tested[f"test/auroc_{doubt}"] > DETECTED, doubt
    assert tested["test/accuracy"] > 0.97
    points, parts = data.load()
    module.eval()
    with torch.no_grad():
        g = module.net.logit(module.net.features(points.inputs[parts["test"]])).sigmoid()
    outside = points.targets[parts["test"]] < 0
    assert g[~outside].mean() < 0.15 and g[outside].mean() > 0.9


def batch(size=9):
    return Batch(torch.randn(size, 2), torch.randint(2, (size,)), torch.arange(size) + 100)


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in module.net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_the_classes_teach_all_but_the_diffusion():
    module, data = task(), batch()
    found = gradients(module, module.loss(module(data.inputs), data.targets))
    assert {name.partition(".")[0] for name in found} == {"stem", "drift", "head"}


def test_the_noise_teaches_the_diffusion_alone():
    module, data = task(), batch()
    logit = module(data.inputs).logit
    found = gradients(module, nn.functional.softplus(logit).mean() - module._outside(data.inputs).mean())
    assert {name.partition(".")[0] for name in found} == {"diffusion"}


def test_one_batch_is_the_algorithm_by_hand():
    """Cross entropy of the draw, and labels as many as the batch: the last one of an epoch is short."""
    module, data = task(), batch(9)
    told = {}
    module.log = lambda *args, **kwargs: None
    module._count = lambda values, weight: told.update(values)
    module._step = lambda loss: told.update(total=loss)
    module.training_step(data, 0)
    with keyed(module.key(data)):
        logit = module(data.inputs).logit
        noisy = data.inputs + 4.0 * next_stream().normal(1, data.inputs)[:, 0]
    outside = module.net.logit(module.net.features(noisy))
    expected = -(torch.log(1 - logit.sigmoid()).mean() + torch.log(outside.sigmoid()).mean())
    assert told["train/diffusion"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert told["total"].item() == pytest.approx((told["train/loss"] + told["train/diffusion"]).item(), rel=1e-6)
    assert told["nfe/forward"] == 6


def test_each_part_has_its_own_optimiser_in_a_fixed_order():
    module = task()
    (main, diffusion), schedulers = module.configure_optimizers()
    assert schedulers == []
    assert diffusion.param_groups[0]["params"] == list(module.net.diffusion.parameters())
    names = {id(p): name for name, p in module.net.named_parameters()}
    got = [names[id(p)] for p in main.param_groups[0]["params"]]
    assert got == [name for name in names.values() if not name.startswith("diffusion")]


def test_what_is_logged(tmp_path):
    run = trainer(tmp_path)
    run.fit(task(), datamodule=TwoMoons(batch_size=100, train=250, val=64, test=64, far=64))
    assert set(run.callback_metrics) >= {
        *("train/loss", "train/diffusion", "train/accuracy", "nfe/forward", "nfe/backward"),
        *("val/loss", "val/accuracy", "val/ece", "val/nll"),
    }
    assert run.callback_metrics["val/loss"].item() == pytest.approx(run.callback_metrics["val/nll"].item(), rel=1e-5)
    assert run.global_step == 2 * 3 * 3  # two optimisers, three epochs of three batches, the last one short


@pytest.mark.parametrize(("interval", "count"), [("epoch", 3), ("step", 9)])
def test_both_schedules_count_what_they_are_told_to(tmp_path, interval, count):
    halve, third = (partial(torch.optim.lr_scheduler.ExponentialLR, gamma=gamma) for gamma in (1 / 2, 1 / 3))
    module = task(scheduler=halve, diffusion_scheduler=third, scheduler_interval=interval)
    run = trainer(tmp_path)
    run.fit(module, datamodule=TwoMoons(batch_size=100, train=250, val=64, test=64, far=64))
    rates = [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers]
    assert rates == [pytest.approx(0.01 / 2**count), pytest.approx(0.01 / 3**count)]


@pytest.mark.parametrize("scheduled", [(True, False), (False, True)])
def test_one_schedule_leaves_the_other_rate_alone(tmp_path, scheduled):
    halve = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    names = ("scheduler", "diffusion_scheduler")
    module = task(**{name: halve if on else None for name, on in zip(names, scheduled, strict=True)})
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module, datamodule=TwoMoons(batch_size=100, train=250, val=64, test=64, far=64))
    rates = [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers]
    assert rates == [pytest.approx(0.0025 if on else 0.01) for on in scheduled]


def test_gradients_are_clipped_each_by_its_norm(tmp_path):
    sgd = partial(torch.optim.SGD, lr=0.0)
    module = task(clip=1e-3, optimizer=sgd, diffusion_optimizer=sgd)
    seen = []
    step = ClassifySDENet.clip_gradients

    def watched(optimizer, *args):
        step(module, optimizer, *args)
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        seen.append(torch.nn.utils.get_total_norm(grads).item())

    module.clip_gradients = watched
    fit(tmp_path, module, max_epochs=1)
    assert len(seen) == 6 and max(seen) < 1.01e-3


def run_weights(folder, *callbacks, ckpt_path=None):
    module = task(scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=3))
    run = training.trainer(folder, *callbacks, Best(), Last())
    try:
        run.fit(module, datamodule=TwoMoons(batch_size=50, train=250, val=64, test=64, far=64), ckpt_path=ckpt_path)
    except Stopped as stop:
        return stop
    return training.weights(module)


@pytest.mark.parametrize("stops", [[2], [4, 6], [10]])  # an epoch has five batches, a batch two steps
def test_stopped_and_resumed_is_as_never_stopped(tmp_path, stops):
    path = None
    for number, step in enumerate(stops):
        stop = run_weights(tmp_path / str(number), training.At(step, training.interrupt), ckpt_path=path)
        assert isinstance(stop, Stopped) and stop.step == step
        path = stop.path
    resumed, whole = run_weights(tmp_path / "end", ckpt_path=path), run_weights(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_nan_stops_before_it_reaches_a_weight(tmp_path):
    class Poison(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 1:
                batch.inputs[0, 0] = math.nan

    module = task()
    with pytest.raises(NonFinite):
        fit(tmp_path, module, Poison(), max_epochs=1)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_it_trains_in_other_precisions(tmp_path, precision):
    run, module, data = (
        trainer(tmp_path, max_epochs=1, precision=precision),
        task(),
        TwoMoons(train=128, test=64, far=64),
    )
    run.fit(module, datamodule=data)
    (tested,) = run.test(module, datamodule=data, verbose=False)
    assert all(math.isfinite(value) for value in tested.values())


def test_predictions_say_mean_spread_and_diffusion(tmp_path):
    module, run = task(), trainer(tmp_path)
    parts = run.predict(module, datamodule=TwoMoons(batch_size=100, test=150, far=50))
    ids = torch.cat([part.ids for part in parts])
    assert len(ids) == 200 and [len(part.ids) for part in parts] == [100, 100]
    for part in parts:
        assert torch.allclose(part.probabilities.sum(1), torch.ones(len(part.ids)).double())
        assert part.variance.shape == (len(part.ids), 2) and (part.variance >= 0).all()
        assert ((part.diffusion > 0) & (part.diffusion < 1)).all()
        assert (part.information <= part.entropy + 1e-12).all()


@pytest.mark.parametrize("size", [7, 64])
def test_predictions_do_not_depend_on_the_batch(tmp_path, size):
    module, found = task().double(), []
    for batch_size in (200, size):
        run = trainer(tmp_path, precision="64-true")
        parts = run.predict(module, datamodule=TwoMoons(batch_size=batch_size, test=150, far=50))
        order = torch.cat([part.ids for part in parts]).argsort()
        found.append([torch.cat([part[n] for part in parts])[order] for n in range(len(parts[0]))])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)  # products of matrices of other sizes round otherwise


@pytest.mark.parametrize(("bad", "told"), [({"spread": 0.0}, "spread is 0.0"), ({"spread": math.inf}, "spread")])
def test_what_cannot_be(bad, told):
    with pytest.raises(InputError, match=told):
        task(**bad)


def test_a_schedule_that_waits_for_a_score_is_refused(tmp_path):
    module = task(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(InputError, match="ReduceLROnPlateau"):
        fit(tmp_path, module)
