"""Guidance: exact on mixtures whose components are the classes; classes stay with their samples."""

import math

import pytest
import torch
from torch import nn

from deqlight import solve
from deqlight.controllers import PID
from deqlight.errors import InputError, ShapeError
from deqlight.fields import DenoisingMLP
from deqlight.gaussians import Gaussian, GaussianMixture
from deqlight.nets import ClassifierFree, ClassifierGuidance, StaticThreshold, Told
from deqlight.schedules import VP, UniformLogSNR
from deqlight.solvers import RK4, Dopri5
from deqlight.terms import Conditional, Denoising, ReverseSDE

pytestmark = pytest.mark.usefixtures("double")

TARGET = GaussianMixture([0.3, 0.5, 0.2], [[1.0, 0.5], [-1.2, 0.3], [0.2, -1.5]], [0.09, 0.04, 0.16])
SCHEDULE = VP(t_min=0.02)
LABELS = torch.tensor([2, 0, 1, 1, 0, 2, 1])
ROUNDING = 1e-12
LEVELS = (1e-3, 0.1, 1.0, 30.0)


class Known(nn.Module):
    """The exact estimates of the components, and of all of them together; counts the samples of its calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, rho, y, labels=None):
        self.calls.append(len(y))
        free = TARGET.eps(rho, y)
        if labels is None:
            return free
        near, noised = y - TARGET.means[labels], TARGET.variances[labels][:, None] + rho**2
        return torch.where(labels[:, None] < 0, free, rho * near / noised)


class Posterior(nn.Module):
    """The exact classifier of noisy points: the logarithms of p(c) p(y | c), of (t, x) by a schedule or of (ρ, y)."""

    def __init__(self, schedule=None):
        super().__init__()
        self.schedule = schedule
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, t, x):
        rho, y = (t, x) if self.schedule is None else (self.schedule.rho(t), x / self.schedule.alpha(t))
        apart, noised = y[:, None] - TARGET.means, TARGET.variances + torch.as_tensor(rho).reshape(-1, 1) ** 2
        logs = TARGET.weights.log() - y.shape[1] / 2 * noised.log() - apart.square().sum(-1) / (2 * noised)
        return logs + self.offset


def noised(rho):
    generator = torch.Generator().manual_seed(1)
    return TARGET.means[LABELS] + (0.3 + rho) * torch.randn(len(LABELS), 2, generator=generator)


@pytest.mark.parametrize("rho", LEVELS)
@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.3, 1.0, 1.5, 7.5])
def test_both_estimates_are_weighed(rho, scale):
    """ε_∅ + s (ε_c − ε_∅), and (1 + w) ε_c − w ε_∅ with w = s − 1; one call, of twice the samples where both count."""
    field, y = Known(), noised(rho)
    found = ClassifierFree(scale).guide(field, LABELS)(rho, y)
    assert field.calls == [len(y) if scale in (0.0, 1.0) else 2 * len(y)]
    told, free, w = field(rho, y, LABELS), TARGET.eps(rho, y), scale - 1
    assert torch.allclose(found, (1 + w) * told - w * free, rtol=ROUNDING, atol=ROUNDING)
    each = torch.full((len(y), 1), rho)
    assert torch.allclose(ClassifierFree(scale).guide(field, LABELS)(each, y), found, rtol=ROUNDING, atol=ROUNDING)


def test_at_scale_one_the_component_is_sampled():
    """The flow of a component is an affine map, known exactly."""
    high, low = SCHEDULE.rho_ends
    y0 = high * torch.randn(len(LABELS), 2, generator=torch.Generator().manual_seed(0))
    term = Denoising(ClassifierFree(1.0).guide(Known(), LABELS), SCHEDULE)
    y1 = solve(term, y0, UniformLogSNR().times(SCHEDULE, 400), solver=RK4()).y1
    for n, label in enumerate(LABELS.tolist()):
        variance = float(TARGET.variances[label])
        component = Gaussian(TARGET.means[label], [[variance, 0.0], [0.0, variance]])
        assert torch.allclose(y1[n : n + 1], component.flow(high, low, y0[n : n + 1]), atol=1e-6)


@pytest.mark.parametrize("rho", LEVELS)
def test_a_classifier_at_scale_one_is_bayes_rule(rho):
    y, told = noised(rho), Known()(rho, noised(rho), LABELS)
    size = float(told.abs().max())
    by_rho = ClassifierGuidance(Posterior(), 1.0).guide(Known(), LABELS)
    assert torch.allclose(by_rho(rho, y), told, rtol=0, atol=ROUNDING * max(1.0, size))
    found = by_rho(torch.full((len(y), 1), rho), y)
    assert torch.allclose(found, told, rtol=0, atol=ROUNDING * max(1.0, size))


@pytest.mark.parametrize("rho", LEVELS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_classifiers_of_noisy_images_see_time_and_x(rho, scale):
    """ε − w σ ∇_x log p(c | x), as published, at x = α y."""
    schedule, y = SCHEDULE, noised(rho)
    guided = ClassifierGuidance(Posterior(schedule), scale, schedule).guide(Known(), LABELS)(rho, y)
    t = schedule.time(rho)
    x = (schedule.alpha(t) * y).requires_grad_()
    own = Posterior(schedule)(t, x).log_softmax(-1).gather(1, LABELS[:, None]).sum()
    (slope,) = torch.autograd.grad(own, x)
    want = TARGET.eps(rho, y) - scale * schedule.sigma(t) * slope
    assert torch.allclose(guided, want, rtol=0, atol=1e-10 * max(1.0, float(want.detach().abs().max())))
    told, free = Known()(rho, y, LABELS), TARGET.eps(rho, y)
    free_of = ClassifierFree(scale).guide(Known(), LABELS)(rho, y)
    assert torch.allclose(free_of, free + scale * (told - free), rtol=1e-9, atol=1e-9)
    assert torch.allclose(guided, free_of, rtol=1e-7, atol=1e-7)  # both scales count from the unconditional estimate


def test_a_classifier_leaves_samples_of_no_class_alone():
    y, labels = noised(0.5), torch.where(LABELS == 1, -1, LABELS)
    found = ClassifierGuidance(Posterior(), 2.0).guide(Known(), labels)(0.5, y)
    assert torch.equal(found[labels < 0], TARGET.eps(0.5, y)[labels < 0])
    assert not torch.equal(found[labels >= 0], TARGET.eps(0.5, y)[labels >= 0])


def test_classifiers_work_without_gradients_and_give_them_where_they_are_on():
    y, guided = noised(0.5), ClassifierGuidance(Posterior(), 2.0).guide(Known(), LABELS)
    whole = guided(0.5, y)
    with torch.no_grad():
        assert torch.equal(guided(0.5, y), whole) and not guided(0.5, y).requires_grad
    with torch.inference_mode():
        assert torch.equal(guided(0.5, noised(0.5)), whole)
    y.requires_grad_()
    (found,) = torch.autograd.grad(guided(0.5, y)[:, 0].sum(), y)
    step, way = 1e-6, torch.tensor([1.0, 0.5])
    with torch.no_grad():
        apart = (guided(0.5, y + step * way) - guided(0.5, y - step * way))[:, 0] / (2 * step)
    assert torch.allclose(found @ way, apart, rtol=1e-6, atol=1e-6)
    assert [name for name, _ in guided.named_parameters()] == ["classifier.offset"]


GUIDED = {
    "Told": lambda labels: Told(Known(), labels),
    "ClassifierFree": lambda labels: ClassifierFree(2.0).guide(Known(), labels),
    "ClassifierGuidance": lambda labels: ClassifierGuidance(Posterior(), 2.0).guide(Known(), labels),
    "within a threshold": lambda labels: StaticThreshold().around(ClassifierFree(2.0).guide(Known(), labels)),
    "one in another": lambda labels: ClassifierGuidance(Posterior(), 0.5).guide(Told(Known(), labels), labels),
}


@pytest.mark.parametrize("name", GUIDED)
def test_terms_give_the_field_of_the_remaining_samples(name):
    field, index, y = GUIDED[name](LABELS), torch.tensor([4, 0, 6]), noised(0.5)
    want = field(0.5, y)[index]
    assert isinstance(field, Conditional) and torch.equal(field.rows(index)(0.5, y[index]), want)
    for term in (Denoising(field, SCHEDULE), ReverseSDE(field, SCHEDULE)):
        some = term.rows(index)
        assert torch.equal(some.eps(0.5, y[index]), want)
        again = some.rows(torch.tensor([2]))
        assert torch.equal(again.eps(0.5, y[index[2:]]), want[2:])
        assert torch.equal(term.eps(0.5, y)[index], want)  # the whole is as it was
        assert set(map(id, some.parameters())) == set(map(id, term.parameters()))


@pytest.mark.parametrize("name", GUIDED)
def test_samples_that_are_done_take_their_classes_along(name):
    """Each with steps of its own, beside others and alone."""
    high, low = SCHEDULE.rho_ends
    y0 = high * torch.randn(len(LABELS), 2, generator=torch.Generator().manual_seed(0))

    def sampled(rows):
        term = Denoising(GUIDED[name](LABELS[rows]), SCHEDULE)
        return solve(term, y0[rows], [high, low], solver=Dopri5(), controller=PID(1e-5, 1e-5))

    with torch.no_grad():
        whole = sampled(torch.arange(len(LABELS)))
        assert len(set(whole.stats.nfe.tolist())) > 1  # they leave one by one
        for n in range(len(LABELS)):
            assert torch.allclose(sampled(torch.tensor([n])).y1, whole.y1[n : n + 1], rtol=1e-9, atol=1e-9)


def test_networks_are_told_their_classes():
    net = DenoisingMLP(2, 16, classes=3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    y = noised(1.0)
    found = ClassifierFree(3.0).guide(net, LABELS)(0.5, y)
    assert torch.allclose(found, net(0.5, y) + 3 * (net(0.5, y, LABELS) - net(0.5, y)))
    guided = ClassifierFree(3.0).guide(net, LABELS).to(torch.float32)
    assert guided.labels.dtype == torch.int64 and guided(0.5, y.float()).dtype == torch.float32
    assert "labels" not in guided.state_dict()  # whose samples they are is not learnt


def test_what_makes_no_sense_is_refused():
    for labels in (torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2), torch.ones(2, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="labels of shape"):
            ClassifierFree(2.0).guide(Known(), labels)
    with pytest.raises(ShapeError, match="7 labels and got 3 samples"):
        Told(Known(), LABELS)(0.5, torch.zeros(3, 2))
    for guidance in (ClassifierFree, lambda scale: ClassifierGuidance(Posterior(), scale)):
        with pytest.raises(InputError, match="finite"):
            guidance(math.inf)
