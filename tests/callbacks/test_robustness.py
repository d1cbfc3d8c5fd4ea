"""The callback logs accuracies on worse images, the same in any batch, and leaves what `test` logs alone."""

import csv

import lightning as L
import pytest
import torch

from deqlight.callbacks import Robustness
from deqlight.data import Digits
from deqlight.errors import InputError
from deqlight.fields import GroupNorm2d, PreActivation
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead
from deqlight.regularizers import Dropout
from deqlight.robustness import FGSM, PGD, Blur, Contrast, PixelNoise
from deqlight.solvers import Euler
from deqlight.tasks import Classify


def task(regularizers=()):
    torch.manual_seed(1)
    stage = LayeredStage(lambda channels: PreActivation(channels, GroupNorm2d), 8, 2)
    net = DepthNet(ConvStem(1, 8), [stage], PoolHead(8, 10, GroupNorm2d), solver=Euler(), regularizers=regularizers)
    return Classify(net, 10, lambda parameters: torch.optim.AdamW(parameters, lr=0.01))


def trainer(folder, *callbacks, **options):
    return L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=options.pop("logger", False),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    made = task()
    trainer(tmp_path_factory.mktemp("fit"), max_epochs=3, limit_val_batches=0).fit(made, Digits(batch_size=64))
    return made


def scored(made, folder, *callbacks, batch=64, **options):
    (found,) = trainer(folder, *callbacks, **options).test(made, Digits(batch_size=batch), verbose=False)
    return found


def test_what_is_logged(trained, tmp_path):
    plain = scored(trained, tmp_path)
    robust = scored(trained, tmp_path, Robustness([PixelNoise(), Blur(), Contrast()], (1, 5), [FGSM(), PGD(steps=5)]))
    assert {name: robust[name] for name in plain} == plain
    assert robust.keys() - plain.keys() == {
        *(f"test/accuracy_{name}_{s}" for name in ("pixelnoise", "blur", "contrast") for s in (1, 5)),
        *(f"test/{what}_{attack}" for what in ("accuracy", "loss") for attack in ("fgsm_0.1", "pgd5_0.1")),
    }
    assert robust["test/accuracy_pgd5_0.1"] <= robust["test/accuracy_fgsm_0.1"] < plain["test/accuracy"] - 0.1
    assert robust["test/loss_pgd5_0.1"] >= robust["test/loss_fgsm_0.1"] > plain["test/loss"]
    assert robust["test/accuracy_blur_5"] < robust["test/accuracy_blur_1"]


def test_neither_batch_nor_run_matters(trained, tmp_path):
    callback = Robustness([PixelNoise()], (3,), [PGD(steps=2)])
    first, second = (scored(trained, tmp_path, callback, batch=batch) for batch in (64, 50))
    for name in ("test/accuracy_pixelnoise_3", "test/accuracy_pgd2_0.1"):
        assert first[name] == pytest.approx(second[name], abs=1e-6)


def test_a_table_is_written(trained, tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    found = scored(trained, tmp_path, Robustness([Blur()], (2,)), logger=logger)
    with (tmp_path / "lightning_logs" / "version_0" / "robustness.csv").open() as file:
        rows = dict(list(csv.reader(file))[1:])
    assert float(rows["accuracy_blur_2"]) == pytest.approx(found["test/accuracy_blur_2"])


def test_networks_with_noise_at_test_are_attacked_over_several_draws(tmp_path):
    noisy = task([Dropout(p=0.5, at_test=True)])
    found = scored(noisy, tmp_path, Robustness(attacks=[PGD(eps=0.3, steps=3)], draws=3), limit_test_batches=2)
    assert found["test/loss_pgd3_0.3"] > found["test/loss"]


class Masked(DepthNet):
    """Scores whose gradient points to where the loss is lower."""

    def forward(self, images):
        scores = super().forward(images)
        return 2 * scores.detach() - scores


def test_attacks_that_find_nothing_are_told(trained, tmp_path):
    """Gradients of the wrong sign, and a step that is longer than the bound."""
    net = trained.net
    masked = Masked(net.stem, list(net.stages), net.head, solver=Euler())
    made = Classify(masked, 10, lambda parameters: torch.optim.AdamW(parameters, lr=0.01))
    with pytest.warns(UserWarning, match=r"fgsm_0.1: the loss is .*as they are .*gradients are masked"):
        scored(made, tmp_path, Robustness(attacks=[FGSM()]))
    poor = Robustness(attacks=[FGSM(eps=0.3), PGD(eps=0.3, steps=2, step=0.001)])
    with pytest.warns(UserWarning, match=r"pgd2_0.3: the loss is .*of the weaker fgsm_0.3 .*gradients are masked"):
        scored(trained, tmp_path, poor)


class Bare(L.LightningModule):
    """A task that says no probabilities."""

    def test_step(self, batch, batch_idx):
        return None


class Scaled(Digits):
    """Images whose numbers are not in [0, 1]."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch._replace(inputs=16 * batch.inputs)


def test_what_is_no_classifier_of_images_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="got the task Bare"):
        trainer(tmp_path, Robustness([Blur()])).test(Bare(), Digits(batch_size=64), verbose=False)
    with pytest.raises(InputError, match=r"Blur got images from 0 to 16; they must lie in \[0, 1\]"):
        trainer(tmp_path, Robustness([Blur()])).test(trained, Scaled(batch_size=64), verbose=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corruptions": [Blur()], "severities": (0, 3)}, "1 to 5"),
        ({}, "nothing to do"),
        ({"attacks": [FGSM()], "draws": 0}, "at least 1"),
        ({"attacks": [PGD(), FGSM(), PGD(step=0.01)]}, "more than one accuracy_pgd20_0.1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        Robustness(**options)
