"""Events that change the state: each sample goes on from there, and gradients go through it all."""

import math

import pytest
import torch
from balls import EXACT, TIGHT, WAYS, bouncing, dropped, height

from deqlight import Event, ODETerm, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import MaxSteps, StepUnderflow
from deqlight.policies import Freeze
from deqlight.solvers import (
    RK4,
    RKC,
    Bosh3,
    Dopri5,
    GaussLegendre4,
    Heun,
    Kvaerno3,
    Midpoint,
    ReversibleHeun,
    ReversiblePair,
    Rodas4,
    StepDoubling,
)

APART = ["own clocks", "fixed", "the grid alone"]


def closed_form(h, g, restitution, bounces):
    """When a dropped ball touches the ground, the first `bounces` times."""
    first = torch.sqrt(2 * h / g)
    return torch.stack([first * (1 + 2 * sum(restitution**j for j in range(1, k + 1))) for k in range(bounces)])


@pytest.mark.parametrize("way", APART)
def test_a_bouncing_ball(ball, h, way):
    restitution, ts = torch.tensor(0.8, requires_grad=True), [0.0, 0.3, 1.5, 3.0]
    solution = solve(ODETerm(ball), dropped(h), ts, events=[bouncing(restitution)], **WAYS[way])
    (ground,), inputs = solution.events, (h, ball.g, restitution)
    assert ground.count.tolist() == [6, 2, 1]
    for i, count in enumerate(ground.count.tolist()):
        hits = closed_form(h[i], ball.g, restitution, count)
        found = ground.ts[ground.offsets[i] : ground.offsets[i + 1]]
        assert torch.allclose(found, hits, rtol=0, atol=EXACT)
        since = 3.0 - hits[-1]
        speed = torch.sqrt(2 * h[i] * ball.g) * restitution**count
        last = speed * since - ball.g / 2 * since**2
        assert torch.allclose(solution.y1[i, 0], last, rtol=0, atol=EXACT)
        for value, truth in ((found[-1], hits[-1]), (solution.y1[i, 0], last)):
            grads = (torch.autograd.grad(v, inputs, retain_graph=True, allow_unused=True) for v in (value, truth))
            for a, b in zip(*grads, strict=True):
                assert a is b is None or torch.allclose(a, torch.zeros_like(a) if b is None else b, atol=EXACT)
    assert bool(solution.ys.isfinite().all())


def test_bounces_have_second_derivatives(ball, h):
    """Through times, jumps and restarts; Heun solves this exactly, so differences of the closed form are none."""
    solution = solve(ODETerm(ball), dropped(h), [0.0, 3.0], events=[bouncing(0.8)], solver=Heun())
    since = 3.0 - closed_form(h[1], ball.g, 0.8, 2)[-1]
    truth = torch.sqrt(2 * h[1] * ball.g) * 0.64 * since - ball.g / 2 * since**2
    values = []
    for value in (solution.y1[1, 0], truth):
        (slope,) = torch.autograd.grad(value, h, create_graph=True)
        values.append(torch.autograd.grad(slope[1], h)[0][1])
    assert values[0] == pytest.approx(float(values[1]), abs=EXACT)


def test_a_bounce_is_a_loop_of_solves(ball, h):
    options = {"solver": Dopri5(), "controller": PID(1e-8, 1e-8)}
    (ground,) = solve(ODETerm(ball), dropped(h)[:1], [0.0, 2.0], events=[bouncing(0.8)], **options).events
    y, t = dropped(h)[:1], 0.0
    for found in ground.ts.tolist():
        (hit,) = solve(
            ODETerm(ball), y, [t, 2.0], events=[Event(height, terminal=True, direction=-1)], **options
        ).events
        t, y = float(hit.t), hit.y * torch.tensor([1.0, -0.8])
        assert t == pytest.approx(found, abs=EXACT)


def test_gradients_through_an_effect_in_a_nonlinear_field(double):
    """With drag: differences of the whole solve, at tolerances where steps hardly matter, say the same."""

    def fall(t, y):
        return torch.stack([y[:, 1], -9.81 - 0.3 * y[:, 1] * y[:, 1].abs() - 0.2 * torch.sin(3 * t)[:, 0]], 1)

    def last(start):
        y0 = torch.stack([start, torch.zeros_like(start)], 1)
        solution = solve(ODETerm(fall), y0, [0.0, 1.2], solver=Dopri5(), controller=TIGHT, events=[bouncing(0.7)])
        assert solution.events[0].count.tolist() == [2, 1]
        return solution.y1.sum()

    start = torch.tensor([1.0, 2.0], requires_grad=True)
    (found,) = torch.autograd.grad(last(start), start)
    with torch.no_grad():
        steps = torch.eye(2) * 1e-5
        slopes = torch.stack([(last(start + step) - last(start - step)) / 2e-5 for step in steps])
    assert torch.allclose(found, slopes, rtol=1e-5)


def test_outputs_around_an_effect(double):
    """A relaxation oscillator: y' = 1, from 1 back to 0; with every kind of times and output."""
    reset = Event(lambda t, y: y[:, 0] - 1, effect=lambda t, y: 0 * y)
    term, y0 = ODETerm(lambda t, y: torch.ones_like(y)), torch.tensor([[0.0], [0.5]])
    expected = lambda t, start: (start + t) % 1  # noqa: E731
    for options in (WAYS["own clocks"], WAYS["fixed"]):
        options = {**options, "events": [reset]}
        times = torch.tensor([0.0, 0.2, 0.7, 1.3, 2.9, 3.4])
        solution = solve(term, y0, times.tolist(), **options)
        assert torch.allclose(solution.ys[..., 0], torch.stack([expected(times, 0), expected(times, 0.5)], 1))
        assert torch.allclose(solution.events[0].ts, torch.tensor([1.0, 2, 3, 0.5, 1.5, 2.5]))
        final = solve(term, y0, times.tolist(), saveat=SaveAt(final=True), **options)
        assert torch.allclose(final.y1, solution.y1) and final.ys.shape == (1, 2, 1)
        dense = solve(term, y0, times.tolist(), saveat=SaveAt(dense=True), **options)
        assert torch.allclose(dense.ys, solution.ys)
        assert torch.allclose(dense.at(torch.tensor([0.4, 2.2]))[..., 0], torch.tensor([[0.4, 0.9], [0.2, 0.7]]))
        ragged = solve(term, y0, [[0.0, 2.2], [0.5, 0.7, 3.4]], **options)
        assert torch.allclose(ragged.ys[:, 0], torch.tensor([0.0, 0.2, 0.5, 0.7, 0.4]))
        assert solution.stats.accepted.shape == (2,) and bool((solution.stats.nfe > 0).all())


def test_an_event_ends_what_another_restarts(ball, h):
    """Terminal by speed: the bounces become too small."""
    low = Event(lambda t, y: y[:, 0] + y[:, 1] ** 2 / 2 / 9.81 - 0.1, terminal=True, name="never")
    tops = Event(lambda t, y: y[:, 1], direction=-1, terminal=True, name="top")
    solution = solve(ODETerm(ball), dropped(h), [0.0, 9.0], events=[bouncing(0.5), low, tops], **WAYS["own clocks"])
    ground, never, top = solution.events
    assert never.count.sum() == 0 and never.t.isnan().all() and never.y.isnan().all()
    assert ground.count.tolist() == top.count.tolist() == [1, 1, 1]
    assert torch.allclose(top.y[:, 0], h / 4, atol=EXACT) and solution.y1.isnan().all()


@pytest.mark.parametrize(
    ("options", "most"), [(WAYS["own clocks"], 8), ({"solver": RK4(), "controller": Constant(dt=0.05)}, 20)]
)
def test_what_never_ends_is_an_error(ball, h, options, most):
    with pytest.raises(StepUnderflow, match="event 'height' follows itself ever faster") as caught:
        solve(ODETerm(ball), dropped(h), [0.0, 5.0], events=[bouncing(0.5)], **options)
    assert caught.value.samples == (0,) and caught.value.t == pytest.approx(3 * math.sqrt(2 / 9.81), abs=1e-6)
    with pytest.raises(MaxSteps, match=f"{most} steps from event to event"):
        solve(ODETerm(ball), dropped(h)[:1], [0.0, 1.3], events=[bouncing(0.5)], **{**options, "max_steps": most})
    solution = solve(ODETerm(ball), dropped(h), [0.0, 3.0], events=[bouncing(0.5)], on_failure=Freeze(), **options)
    assert [failure.samples for failure in solution.failures] == [(0,)]
    assert solution.y1.isnan().any(1).tolist() == [True, False, False]


FAMILIES = [
    Bosh3(),
    GaussLegendre4(),
    Kvaerno3(),
    RKC(),
    ReversibleHeun(),
    ReversiblePair(Heun()),
    Rodas4(),
    StepDoubling(Midpoint()),
]


@pytest.mark.parametrize("solver", FAMILIES, ids=repr)
def test_every_family_starts_again_without_length(ball, h, solver):
    """The step that carries the gradient of the time; these methods and their polynomials are exact for a ball."""
    options = {"solver": solver, "controller": Constant(steps=5), "events": [bouncing(0.5)]}
    solution = solve(ODETerm(ball), dropped(h), [0.0, 1.2], **options)
    assert solution.events[0].count.tolist() == [3, 1, 0]
    hit = closed_form(h[1], ball.g, 0.5, 1)[-1]
    last = torch.sqrt(2 * h[1] * ball.g) / 2 * (1.2 - hit) - ball.g / 2 * (1.2 - hit) ** 2
    found, truth = (torch.autograd.grad(y, (h, ball.g))[0][1] for y in (solution.y1[1, 0], last))
    assert torch.allclose(solution.y1[1, 0], last, atol=1e-8) and torch.allclose(found, truth, atol=1e-8)
