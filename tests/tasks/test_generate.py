"""Generation as a task: what is learnt, logged, drawn and kept, and what is refused."""

import copy
from functools import partial

import lightning as L
import pytest
import torch
import training
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from deqlight.callbacks import Best, Last, Predictions, Stopped
from deqlight.data import Batch, EightGaussians, Points
from deqlight.errors import InputError
from deqlight.fields import DenoisingMLP
from deqlight.metrics import FrechetDistance, SlicedWasserstein
from deqlight.nets import ClassifierFree, Denoiser, DenoisingLoss, Sampler
from deqlight.schedules import VP, Preconditioned
from deqlight.solvers import DDIM, DDPM, AnalyticDPM
from deqlight.tasks import Generate

FLOAT32 = 1e-4  # relative, of sums in another order, through a few evaluations of a network
LOGGED = {"train/loss", "train/loss_step", "val/loss"}  # and no evaluations of solves that there are none of
TESTED = {"test/loss", "test/sliced_wasserstein", "test/mmd", "test/precision", "test/recall", "nfe/forward"}


def generate(seed=0, classes=None, prediction="eps", **options):
    L.seed_everything(seed, verbose=False)
    drop = {} if classes is None else {"classes": classes, "label_drop": 0.5}
    denoiser = Denoiser(DenoisingMLP(2, 32, 1, **drop), VP(t_min=0.001), prediction)
    made = {"sampler": Sampler(DDIM(), 6), "optimizer": partial(torch.optim.Adam, lr=0.01), **options}
    return Generate(denoiser, classes=classes, **made)


def points(batch_size=64):
    return Points(EightGaussians(), batch_size=batch_size, train=256, val=100, test=150)


def fitted(folder, task, *callbacks, data=None, ckpt_path=None, **options):
    trainer = training.trainer(folder, *callbacks, **{"enable_checkpointing": bool(callbacks), **options})
    trainer.fit(task, datamodule=data or points(), ckpt_path=ckpt_path)
    return trainer


def quiet(folder):
    return training.trainer(folder, enable_checkpointing=False)


def predicted(folder, task, data):
    parts = quiet(folder).predict(task, datamodule=data)
    return torch.cat([part.ids for part in parts]), torch.cat([part.samples for part in parts])


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "velocity", Preconditioned(3.0)], ids=str)
def test_it_learns_and_logs_what_it_promises(tmp_path, prediction):
    first = fitted(tmp_path, generate(prediction=prediction), max_epochs=1).callback_metrics
    assert set(first) == LOGGED
    last = fitted(tmp_path, generate(prediction=prediction), max_epochs=12).callback_metrics
    assert last["val/loss"] < first["val/loss"] and last["train/loss"] < first["train/loss"]


def test_the_test_measures_by_name(tmp_path):
    task = generate()
    (tested,) = quiet(tmp_path).test(task, datamodule=points(), verbose=False)
    assert set(tested) == TESTED and tested["nfe/forward"] == 6
    own = generate(measures=[FrechetDistance(2)], sampler=Sampler(DDIM(), 3))
    (tested,) = quiet(tmp_path).test(own, datamodule=points(), verbose=False)
    assert set(tested) == {"test/loss", "test/frechet_distance", "nfe/forward"} and tested["nfe/forward"] == 3
    data = points()
    data.setup("test")
    _, samples = predicted(tmp_path, own, data)
    by_hand = FrechetDistance(2)
    for batch in data.test_dataloader():
        by_hand.update(batch.inputs, real=True)
    by_hand.update(samples, real=False)
    assert tested["test/frechet_distance"] == pytest.approx(float(by_hand.compute()), rel=FLOAT32)


def test_a_second_test_measures_anew(tmp_path):
    task, data = generate(measures=[SlicedWasserstein()]), points()
    one, other = (quiet(tmp_path).test(task, datamodule=data, verbose=False) for _ in range(2))
    assert one == other


def test_validation_sees_the_same_noise_each_time(tmp_path):
    task, data = generate(), points()
    first, second = (quiet(tmp_path).validate(task, datamodule=data, verbose=False) for _ in range(2))
    (small,) = quiet(tmp_path).validate(task, datamodule=points(7), verbose=False)
    assert first == second and small["val/loss"] == pytest.approx(first[0]["val/loss"], rel=FLOAT32)
    (other,) = quiet(tmp_path).validate(generate(seed=1), datamodule=data, verbose=False)
    assert other["val/loss"] != first[0]["val/loss"]


def test_training_sees_other_noise_in_each_step(monkeypatch):
    task, batch = generate(), next(iter(_ready(points()).val_dataloader()))
    task.log = lambda *args, **kwargs: None
    losses = []
    for step in range(2):
        monkeypatch.setattr(Generate, "global_step", step)
        losses.append([float(task.train().training_step(batch, 0).detach()) for _ in range(2)])
    assert losses[0][0] == losses[0][1] != losses[1][0] == losses[1][1]


def _ready(data):
    data.setup("fit")
    return data


@pytest.mark.parametrize("solver", [DDIM(), DDPM()], ids=repr)
@pytest.mark.parametrize("classes", [None, 8])
def test_a_prediction_is_a_sample_for_each_id_whatever_its_batch(tmp_path, classes, solver):
    task = generate(classes=classes, sampler=Sampler(solver, 5))
    fitted(tmp_path, task, max_epochs=1)
    ids, samples = predicted(tmp_path, task, points())
    assert torch.equal(ids, points_of("test")) and samples.shape == (150, 2)
    again, others = predicted(tmp_path, task, points(13))
    assert torch.equal(ids, again) and torch.allclose(samples, others, rtol=FLOAT32, atol=FLOAT32)
    assert len(torch.unique(samples, dim=0)) == 150


def points_of(part):
    data = points()
    data.setup("test")
    return data._parts[part]


def test_predictions_are_written(tmp_path):
    training.trainer(tmp_path, Predictions(tmp_path), enable_checkpointing=False).predict(generate(), points())
    header, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "ids,samples_0,samples_1" and len(rows) == 150


def test_the_network_is_told_the_classes_and_loses_some(tmp_path):
    task = generate(classes=8)
    fitted(tmp_path, task, max_epochs=3)
    noise = torch.randn(8, 2)
    told = torch.arange(8)
    with torch.no_grad():
        samples = task.eval()(noise, told)
        none, plain = task(noise, torch.full((8,), -1)), task(noise)
    assert not torch.allclose(samples, none) and torch.allclose(none, plain, atol=1e-6)
    table = task.net.net.condition
    assert all(parameter.grad is None or parameter.isfinite().all() for parameter in table.parameters())


def test_guidance_goes_from_no_class_to_one_and_beyond():
    task, noise, told = generate(classes=8).eval(), torch.randn(8, 2), torch.arange(8)
    for parameter in task.parameters():  # an untrained network tells nothing
        nn.init.normal_(parameter, std=0.2)

    def samples(guidance):
        with torch.no_grad():
            return Sampler(DDIM(), 1, guidance=guidance)(task.denoiser, noise, told).x

    free, plain, strong = (samples(ClassifierFree(scale)) for scale in (0.0, 1.0, 3.0))
    assert torch.allclose(plain, samples(None), atol=1e-5)
    assert torch.allclose(strong - free, 3 * (plain - free), rtol=1e-3, atol=1e-4)  # one step is affine in it


def test_shift_and_scale_are_taken_and_given_back():
    plain, moved = generate(), generate(shift=3.0, scale=2.0)
    x, ids = torch.randn(9, 2), torch.arange(9)
    batches = Batch(x, ids, ids), Batch(2 * x + 3, ids, ids)
    for task in (plain, moved):
        task.eval()
    with torch.no_grad():
        a, b = (task.predict_step(batch, 0).samples for task, batch in zip((plain, moved), batches, strict=True))
    assert torch.allclose(b, 2 * a + 3, rtol=1e-5, atol=1e-5)
    assert torch.allclose(moved.normal(batches[1].inputs), x, atol=1e-6)
    assert torch.allclose(moved.restored(moved.normal(x)), x, atol=1e-6)


def test_bfloat16_trains_and_samples_on_a_cpu(tmp_path):
    task = generate(classes=8)
    trainer = fitted(tmp_path, task, max_epochs=2, precision="bf16-mixed")
    assert trainer.callback_metrics["train/loss"].isfinite() and trainer.callback_metrics["val/loss"].isfinite()
    (tested,) = training.trainer(tmp_path, enable_checkpointing=False, precision="bf16-mixed").test(
        task, datamodule=points(), verbose=False
    )
    assert all(torch.tensor(value).isfinite() for value in tested.values())


def averaging():
    return EMAWeightAveraging(decay=0.9)


@pytest.mark.parametrize("extra", [(), (averaging,)], ids=["plain", "averaged"])
def test_stopped_and_resumed_is_as_never_stopped(tmp_path, extra):
    whole = generate()
    fitted(tmp_path / "whole", whole, *(make() for make in extra), Best("val/loss", "min"), Last())
    act = training.At(6, training.interrupt)  # in the second epoch of four batches
    first, second = ([*(make() for make in extra), Best("val/loss", "min"), Last()] for _ in range(2))
    with pytest.raises(Stopped) as stop:
        fitted(tmp_path / "a", generate(), act, *first)
    resumed = generate(seed=5)
    fitted(tmp_path / "b", resumed, *second, ckpt_path=stop.value.path)
    assert resumed.key(Batch(*[torch.zeros(1)] * 3)).seed == whole.key(Batch(*[torch.zeros(1)] * 3)).seed
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_checkpoints_hold_the_averaged_weights_that_validation_saw(tmp_path):
    task, seen = generate(), []

    class Watch(L.Callback):
        def on_validation_batch_start(self, trainer, module, *rest):
            seen.append(copy.deepcopy(module.net.state_dict()))

    best = Best("val/loss", "min")
    trainer = fitted(tmp_path, task, averaging(), Watch(), best, Last(), max_epochs=3, num_sanity_val_steps=0)
    last, kept = (torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    weights = {name.removeprefix("net."): value for name, value in last["state_dict"].items()}
    raw = {name.removeprefix("net."): value for name, value in last["current_model_state"].items()}
    assert all(torch.equal(weights[name], value) for name, value in seen[-1].items())
    assert any(not torch.equal(raw[name], value) for name, value in seen[-1].items())
    assert all(torch.equal(value, last["state_dict"][name]) for name, value in task.state_dict().items())
    loaded = generate(seed=3)
    loaded.load_state_dict(kept["state_dict"])
    loaded.on_load_checkpoint(kept)
    (validated,) = quiet(tmp_path).validate(loaded, datamodule=points(), verbose=False)
    assert validated["val/loss"] == pytest.approx(float(best.best_model_score), rel=1e-6)
    assert trainer.global_step == 12


def test_a_checkpoint_knows_the_shape_of_a_sample(tmp_path):
    fitted(tmp_path, generate(), Last(), max_epochs=1)
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    task = generate()
    task.on_load_checkpoint(content)
    assert task.sample_shape == (2,)
    task.on_load_checkpoint({})
    assert task.sample_shape is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(generate, scale=0.0), "scale=0.0"),
        (partial(generate, shift=float("nan")), "shift=nan"),
        (partial(generate, scale=float("inf")), "scale=inf"),
        (partial(generate, classes=0), "classes=0"),
        (partial(generate, sampler=Sampler(DDIM(), guidance=ClassifierFree(2.0))), "which would heed nothing"),
        (partial(Generate, nn.Linear(2, 2), Sampler(DDIM()), torch.optim.Adam), "it needs a Denoiser"),
        (partial(DenoisingLoss, weight="snr"), "weight='snr'"),
    ],
    ids=["scale", "shift", "infinite", "classes", "guidance", "denoiser", "weight"],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("targets", "words"),
    [(torch.tensor([0, 3, 5]), "got targets up to 5"), (torch.rand(3, 5), r"got targets \(3, 5\) of torch.float32")],
    ids=["another class", "mixed"],
)
def test_targets_that_are_no_classes_are_refused(targets, words):
    task, batch = generate(classes=5), Batch(torch.randn(3, 2), targets, torch.arange(3))
    with pytest.raises(InputError, match=words):
        task.outputs(batch)


def test_a_power_that_was_not_measured_is_asked_for():
    task = generate(sampler=Sampler(AnalyticDPM(), 4))
    with pytest.raises(InputError, match="noise_power"):
        task(torch.randn(3, 2))
