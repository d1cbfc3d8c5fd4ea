"""Flows: samples by the velocity in the schedule's own time, from noise alone to data alone."""

import pytest
import torch
from torch import nn

from deqlight.controllers import PID
from deqlight.errors import InputError
from deqlight.nets import Denoiser, Sampler
from deqlight.schedules import Preconditioned, RectifiedFlow, target
from deqlight.solvers import AB3, RK4, Dopri5, Euler, Heun, StepDoubling

pytestmark = pytest.mark.usefixtures("double")


def noise():
    return torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


MEAN, DEVIATION = torch.tensor([0.5, -1.0], dtype=torch.float64), 0.6


class Straight(nn.Module):
    """What a network trained on straight lines between N(0, 1) and a Gaussian tells, in closed form."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, t, shown):
        t = torch.as_tensor(t, dtype=shown.dtype)
        t = t.reshape(-1, 1) if t.dim() else t
        x = shown * ((1 - t) ** 2 + t**2).sqrt()
        schedule = RectifiedFlow()
        gain = (x - (1 - t) * MEAN) / ((1 - t) ** 2 * DEVIATION**2 + t**2)
        data, eps = MEAN + (1 - t) * DEVIATION**2 * gain, t * gain
        return target(self.kind, data, eps, t, schedule)


def straight(kind="velocity", told=None):
    return Denoiser(Straight(kind), RectifiedFlow(), told or kind)


@pytest.mark.parametrize(("solver", "bound"), [(Euler(), 5e-2), (Heun(), 1e-3), (RK4(), 1e-6), (AB3(), 1e-3)], ids=repr)
def test_flows_end_where_they_should(solver, bound):
    """From t = 1, where there is noise alone: the exact flow takes z to m + s z."""
    found = Sampler(solver, 50, variable="t")(straight(), noise())
    assert torch.allclose(found.x, MEAN + DEVIATION * noise(), atol=bound)


@pytest.mark.parametrize("solver", [Dopri5(), StepDoubling(RK4())], ids=repr)
@pytest.mark.parametrize("kind", ["velocity", "v"])
def test_flows_with_measured_steps(solver, kind):
    found = Sampler(solver, controller=PID(1e-9, 1e-9), variable="t")(straight(kind), noise())
    assert torch.allclose(found.x, MEAN + DEVIATION * noise(), atol=1e-7)


@pytest.mark.parametrize(("told", "t"), [("eps", 1), ("score", 1), ("x0", 0), (Preconditioned(0.6), 1)], ids=str)
def test_noise_alone_tells_no_data_to_begin_with_and_data_alone_no_noise(told, t):
    with pytest.raises(InputError, match=f"no velocity follows at t = {t}"):
        Sampler(Heun(), variable="t")(straight(told=told), noise())
