"""Mixed images have probabilities for targets: the tasks of classes train on them."""

import lightning as L
import pytest
import torch
import training
from torch import nn

from deqlight.data import InMemory, Mixup, Tensors
from deqlight.nets import Ensemble
from deqlight.tasks import Classify, ClassifyUncertain
from deqlight.tasks.evaluation import accuracy

CLASSES = 4


def scores():
    return torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(2))


def soft():
    return torch.rand(6, CLASSES, generator=torch.Generator().manual_seed(3)).softmax(1)


def classify(cls=Classify, net=None, **options):
    return cls(net or nn.Linear(5, CLASSES), CLASSES, torch.optim.SGD, **options)


def test_the_training_loss_is_the_mean_of_the_cross_entropies_weighted_by_the_mixture():
    task, logs = classify(), scores().log_softmax(1)
    expected = -sum(soft()[k] @ logs[k] for k in range(6)) / 6
    assert torch.allclose(task.loss(scores(), soft()), expected)


def test_a_mixture_with_itself_has_the_loss_of_its_class():
    task, classes = classify(), torch.tensor([0, 1, 2, 3, 0, 1])
    whole = nn.functional.one_hot(classes, CLASSES).float()
    assert torch.allclose(task.loss(scores(), whole), task.loss(scores(), classes))
    assert torch.equal(task.watch(scores(), whole)["train/accuracy"], task.watch(scores(), classes)["train/accuracy"])


def test_smoothing_is_a_mixture_with_all_classes():
    task = classify(label_smoothing=0.2)
    assert torch.allclose(task.loss(scores(), soft()), classify().loss(scores(), 0.8 * soft() + 0.2 / CLASSES))


def test_the_accuracy_of_a_mixture_is_the_weight_of_the_class_that_was_found():
    found = torch.eye(CLASSES)[[0, 1, 2]] * 9
    mixed = torch.tensor([[0.75, 0.25, 0, 0], [0.75, 0.25, 0, 0], [0, 0, 0, 1.0]])
    assert accuracy(found, mixed) == pytest.approx((0.75 + 0.25 + 0) / 3)


def test_accuracy_is_right_where_a_batch_has_as_many_samples_as_there_are_classes():
    """Comparing class numbers with probabilities would broadcast here, and tell nothing."""
    mixed = torch.eye(CLASSES)
    assert accuracy(torch.eye(CLASSES), mixed) == 1 and accuracy(torch.eye(CLASSES).flip(1), mixed) == 0


def test_each_member_of_an_ensemble_learns_the_mixture():
    task = classify(ClassifyUncertain, Ensemble([nn.Linear(5, CLASSES) for _ in range(3)]))
    drawn = torch.randn(3, 6, CLASSES)
    expected = torch.stack([nn.functional.cross_entropy(draw, soft()) for draw in drawn]).mean()
    assert torch.allclose(task.loss(drawn, soft()), expected)
    assert task.watch(drawn, soft())["train/accuracy"] <= 1


class Mixed(InMemory):
    """Digits' task in small: bright left halves against bright right ones, mixed in training."""

    def __init__(self):
        super().__init__(16, mixup=Mixup(1.0, 2))

    def load(self):
        images, targets = torch.rand(128, 1, 8, 8) * 0.2, torch.arange(128) % 2
        images[targets == 0, :, :, :4] += 0.8
        images[targets == 1, :, :, 4:] += 0.8
        part = torch.arange(128)
        return Tensors(images, targets), {"train": part[:96], "val": part[96:112], "test": part[112:]}


def test_a_network_trained_on_mixtures_knows_the_classes(tmp_path):
    L.seed_everything(0, verbose=False)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    task = Classify(net, 2, lambda parameters: torch.optim.Adam(parameters, 0.02))
    trainer = training.trainer(tmp_path, max_epochs=8, enable_checkpointing=False)
    trainer.fit(task, datamodule=(data := Mixed()))
    learnt = trainer.callback_metrics["train/accuracy"]
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    assert tested["test/accuracy"] == 1.0
    assert 0.7 < learnt < 0.95  # every other partner is of the other class, and has a quarter of the weight on average
