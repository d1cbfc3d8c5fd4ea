"""AUROC, average precision and the false positive rate, against their definitions; the likelihood beside them."""

import math

import pytest
import torch

from deqlight.metrics import AUPR, AUROC, FPR95, NLL, OUTSIDE, uncertainty_metrics


def drawn(inside=200, outside=100, rounded=False):
    doubts = torch.cat([torch.randn(inside), 0.8 + torch.randn(outside)])
    target = torch.cat([torch.zeros(inside, dtype=torch.long), torch.full((outside,), OUTSIDE)])
    order = torch.randperm(len(target))
    return (doubts.round() if rounded else doubts)[order], target[order]


def measured(kind, doubts, target, batch=64):
    metric = kind("doubt")
    for part, classes in zip(doubts.split(batch), target.split(batch), strict=True):
        metric.update({"doubt": part, "other": -part}, classes)
    return metric.compute().item()


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "with ties"])
def test_auroc_is_how_often_an_outside_sample_has_more_doubt(rounded):
    doubts, target = drawn(rounded=rounded)
    own, other = doubts[target == OUTSIDE][:, None], doubts[target != OUTSIDE]
    wins = (own > other).double().mean() + 0.5 * (own == other).double().mean()
    assert measured(AUROC, doubts, target) == pytest.approx(wins.item(), abs=1e-6)


def test_fpr95_by_counting():
    doubts, target = drawn()
    inside, outside = doubts[target != OUTSIDE], doubts[target == OUTSIDE]
    bars = [bar for bar in doubts.sort().values if (inside <= bar).double().mean() >= 0.95 - 1e-9]
    assert measured(FPR95, doubts, target) == pytest.approx((outside <= bars[0]).double().mean().item())


def test_fpr95_of_twenty_lets_nineteen_pass():
    doubts = torch.cat([torch.arange(20.0), torch.tensor([18.0, 18.5, 30.0])])
    target = torch.tensor([0] * 20 + [OUTSIDE] * 3)
    assert measured(FPR95, doubts, target) == pytest.approx(1 / 3)


def test_average_precision_by_hand():
    doubts, target = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([OUTSIDE, 0, OUTSIDE, 1])
    assert measured(AUPR, doubts, target) == pytest.approx((1 / 1 + 2 / 3) / 2)


@pytest.mark.parametrize("kind", [AUROC, AUPR, FPR95])
def test_only_the_order_counts(kind):
    """Logits of thousands, which squashed to [0, 1] would be one number."""
    doubts, target = drawn()
    assert measured(kind, 1000.0 + 100.0 * doubts, target) == measured(kind, doubts.sigmoid(), target)


@pytest.mark.parametrize("kind", [AUROC, AUPR, FPR95])
@pytest.mark.parametrize("target", [torch.zeros(5, dtype=torch.long), torch.full((5,), OUTSIDE)], ids=["in", "out"])
def test_without_both_kinds_there_is_no_number(kind, target):
    assert math.isnan(measured(kind, torch.rand(5), target))


def test_the_likelihood_is_that_of_the_inside_samples():
    metric = NLL()
    metric.update(torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([0, OUTSIDE]))
    metric.update(torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
    assert metric.compute().item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert metric.compute().isfinite()


def test_outside_samples_count_for_the_doubts_alone():
    metrics = uncertainty_metrics("test", 2, ("entropy",))
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    for row, target, doubt in zip(probabilities, (0, OUTSIDE, 1), (0.1, 0.9, 0.3), strict=True):
        metrics.update(preds=row[None], target=torch.tensor([target]), doubts={"entropy": torch.tensor([doubt])})
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found["test/accuracy"] == 0.5
    assert found["test/nll"] == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2)
    assert found["test/ece"] == pytest.approx((0.1 + 0.6) / 2)
    assert found["test/auroc_entropy"] == 1.0 and found["test/fpr95_entropy"] == 0.0
