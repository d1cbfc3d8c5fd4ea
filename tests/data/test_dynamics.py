"""Maps and motions in closed form."""

import pytest
import torch

from deqlight.data import Oscillator, Reflection, Start, oscillation
from deqlight.errors import InputError

EXACT = 1e-12  # float64, a few operations
STORED = 1e-5  # float32 courses of size 1, at float32 times


def ready(data):
    data.setup("fit")
    return data


def whole(loader):
    """All batches of a loader in one: starts, times, courses."""
    batches = list(loader)
    starts, values = torch.cat([b.inputs.x for b in batches]), torch.cat([b.targets for b in batches])
    return starts, batches[0].inputs.ts, values


@pytest.mark.parametrize(("omega", "zeta"), [(1.0, 0.1), (2.5, 0.0), (0.7, 0.9)])
def test_the_closed_form_is_the_flow_of_the_equation(double, omega, zeta):
    """Against the matrix exponential of the first-order system."""
    matrix = torch.tensor([[0.0, 1.0], [-(omega**2), -2 * zeta * omega]])
    start = torch.randn(5, 2)
    for t in (0.0, 0.3, 2.0, 9.0):
        q, v = oscillation(torch.tensor(t), start[:, 0], start[:, 1], omega, zeta)
        assert torch.allclose(torch.stack([q, v], 1), start @ torch.linalg.matrix_exp(t * matrix).T, atol=EXACT)


def test_a_batch_of_courses():
    data = ready(Oscillator(batch_size=7, points=9, horizon=4.0, train=21, val=5, test=6))
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch.inputs, Start)
    assert batch.inputs.x.shape == (7, 1) and batch.targets.shape == (7, 9, 1)
    assert torch.equal(batch.inputs.ts, torch.linspace(0, 4, 9))
    assert torch.equal(batch.targets[:, 0], batch.inputs.x)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    sizes = [len(torch.cat([b.ids for b in loader])) for loader in loaders]
    assert sizes == [21, 5, 6]
    assert sorted(torch.cat([b.ids for loader in loaders for b in loader]).tolist()) == list(range(32))


def test_the_hidden_velocity_is_a_multiple_of_the_position():
    data = ready(Oscillator(frequency=2.0, damping=0.3, kick=0.5, horizon=3.0))
    q0, ts, values = whole(data.val_dataloader())
    expected, _ = oscillation(ts.double(), q0.double(), 0.5 * q0.double(), 2.0, 0.3)
    assert torch.allclose(values[..., 0].double(), expected, atol=STORED)


def test_observed_velocities_are_drawn():
    start, ts, values = whole(ready(Oscillator(velocity=True)).val_dataloader())
    assert start.shape == (32, 2) and values.shape == (32, 25, 2)
    assert torch.corrcoef(start.T)[0, 1].abs() < 0.5  # 32 independent pairs: one standard deviation is 0.18
    q, v = start.double().split(1, 1)
    expected = torch.stack(oscillation(ts.double(), q, v, 1.0, 0.1), 2)
    assert torch.allclose(values.double(), expected, atol=STORED)


def test_irregular_times_are_those_of_each_course():
    data = ready(Oscillator(irregular=True, points=9, horizon=4.0, batch_size=32))
    q0, ts, values = whole(data.val_dataloader())
    assert ts.shape == (9, 32)
    assert torch.equal(ts[0], torch.zeros(32)) and not torch.equal(ts[:, 0], ts[:, 1])
    grid = torch.linspace(0, 4, 9)[:, None]
    assert bool((ts[1:] > grid[:-1]).all()) and bool((ts <= grid).all())  # one in each interval: they increase
    expected, _ = oscillation(ts.T.double(), q0.double(), torch.zeros(32, 1).double(), 1.0, 0.1)
    assert torch.allclose(values[..., 0].double(), expected, atol=STORED)


def test_courses_depend_on_their_seed_alone():
    def starts(seed):
        return ready(Oscillator(data_seed=seed))._dataset.starts

    one = starts(0)
    torch.manual_seed(5)
    assert torch.equal(starts(0), one)
    assert not torch.equal(starts(1), one)


def test_a_longer_horizon_has_the_same_starts():
    near, far = (ready(Oscillator(horizon=h, points=p)) for h, p in ((6.0, 25), (12.0, 49)))
    assert torch.equal(near._dataset.starts, far._dataset.starts)
    assert torch.allclose(near._dataset.values, far._dataset.values[:, :25], atol=STORED)


def test_a_reflection():
    data = ready(Reflection(channels=3, batch_size=50, train=300, val=40, test=60))
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (50, 3) and torch.equal(batch.targets, -batch.inputs)
    points = data._dataset.inputs
    assert len(points) == 400 and bool((points.abs() <= 1).all())
    assert (points.var(0) - 1 / 3).abs().max() < 0.06  # 400 draws: one standard deviation of the variance is 0.015
    assert torch.equal(points, ready(Reflection(channels=3, train=300, val=40, test=60))._dataset.inputs)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Reflection(batch_size=0), "Reflection: batch_size is 0"),
        (lambda: Reflection(channels=0), "channels is 0"),
        (lambda: Reflection(train=0), "train is 0"),
        (lambda: Oscillator(points=1), "points is 1; at least 2"),
        (lambda: Oscillator(damping=1.0), "damping 1"),
        (lambda: Oscillator(frequency=0.0), "frequency is 0"),
        (lambda: Oscillator(horizon=float("inf")), "horizon inf"),
        (lambda: Oscillator(val=0), "val is 0"),
    ],
)
def test_what_cannot_be(make, told):
    with pytest.raises(InputError, match=told):
        make()
