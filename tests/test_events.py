"""Events: found per sample, differentiable; and what is no event."""

import math

import pytest
import torch
from balls import EXACT, GROUND, WAYS, Ball, Level, bouncing, dropped, height

from deqlight import Event, ODETerm, Partitioned, solve
from deqlight.controllers import Constant
from deqlight.errors import InputError, ShapeError
from deqlight.gradients import Reversible
from deqlight.policies import Fallback
from deqlight.solvers import (
    RK4,
    Heun,
    Kvaerno3,
    Leapfrog,
    Stormer,
    Verlet,
)


@pytest.mark.parametrize("way", WAYS)
def test_a_falling_ball(ball, h, way):
    solution = solve(ODETerm(ball), dropped(h), [0.0, 0.3, 1.5, 5.0], events=[GROUND], **WAYS[way])
    (ground,) = solution.events
    fall = torch.sqrt(2 * h / ball.g)
    assert torch.allclose(ground.t, fall, rtol=0, atol=EXACT) and ground.t.dtype == torch.float64
    assert torch.allclose(ground.y, torch.stack([0 * h, -torch.sqrt(2 * h * ball.g)], 1), atol=EXACT)
    assert ground.count.tolist() == [1, 1, 1] and ground.samples.tolist() == [0, 1, 2] and ground.name == "height"
    for value, truth in ((ground.t, fall), (ground.y[:, 1], -torch.sqrt(2 * h * ball.g))):
        found = torch.autograd.grad(value.sum(), (h, ball.g), retain_graph=True)
        wanted = torch.autograd.grad(truth.sum(), (h, ball.g))
        assert all(torch.allclose(a, b, rtol=0, atol=EXACT) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_states_end_with_the_sample_and_gradients_stay_finite(ball, h, way):
    solution = solve(ODETerm(ball), dropped(h), [0.0, 0.3, 1.5, 5.0], events=[GROUND], **WAYS[way])
    ended = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    assert torch.equal(solution.ys.isnan().all(-1), ended) and torch.equal(solution.ys.isnan().any(-1), ended)
    height_ = (h - ball.g / 2 * solution.ts[:, None] ** 2)[~ended]
    assert torch.allclose(solution.ys[..., 0][~ended], height_, atol=EXACT)
    found = torch.autograd.grad(solution.ys.nansum(), (h, ball.g))
    assert all(bool(grad.isfinite().all()) for grad in found)
    assert torch.equal(found[0], torch.tensor([2.0, 2.0, 3.0]))  # one for each time before the end


@pytest.mark.parametrize("way", ["own clocks", "joint clock", "fixed"])
def test_steps_and_evaluations_end_with_the_sample(ball, h, way):
    options, ts = WAYS[way], [0.0, 0.3, 1.5, 50.0]
    long = solve(ODETerm(ball), dropped(h), ts, events=[GROUND], **options).stats
    free = solve(ODETerm(ball), dropped(h), ts, **options).stats
    assert bool((long.accepted < free.accepted).all())
    if way == "own clocks":
        assert bool((long.nfe < free.nfe).all())


def test_second_derivatives(ball, h):
    (ground,) = solve(ODETerm(ball), dropped(h), [0.0, 5.0], events=[GROUND], **WAYS["fixed"]).events
    (slope,) = torch.autograd.grad(ground.t.sum(), h, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), h, retain_graph=True)
    assert torch.allclose(bend, -torch.sqrt(2 / ball.g) / 4 * h**-1.5, rtol=0, atol=EXACT)
    (mixed,) = torch.autograd.grad(slope.sum(), ball.g)
    assert torch.allclose(mixed, -(ball.g**-1.5 / torch.sqrt(8 * h)).sum(), rtol=0, atol=EXACT)


def test_a_condition_that_learns(ball, h):
    level = Level(0.5)
    (event,) = solve(ODETerm(ball), dropped(h), [0.0, 5.0], events=[Event(level)], **WAYS["own clocks"]).events
    (slope,) = torch.autograd.grad(event.t.sum(), level.level)
    assert torch.allclose(slope, (1 / event.y[:, 1]).sum(), atol=EXACT)
    with torch.no_grad():  # the trajectory has no graph, the condition has
        still = dropped(h)
    (event,) = solve(ODETerm(lambda t, y: -y), still, [0.0, 5.0], events=[Event(level)], **WAYS["fixed"]).events
    (slope,) = torch.autograd.grad(event.t.sum(), level.level)
    assert slope == pytest.approx(-6.0, rel=1e-2)  # t = log(h/level), three times −1/level


def test_data_of_each_sample(ball, h):
    floors = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    event = Event(lambda t, y, floor: y[:, 0] - floor, terminal=True, data=[floors])
    for options in WAYS.values():
        (found,) = solve(ODETerm(ball), dropped(h), [0.0, 1.0, 5.0], events=[event], **options).events
        assert torch.allclose(found.t, torch.sqrt(2 * (h - floors) / ball.g), atol=EXACT)
        (slope,) = torch.autograd.grad(found.t.sum(), floors)
        assert torch.allclose(slope, 1 / found.y[:, 1], atol=EXACT)


def test_times_that_need_a_gradient(ball, h):
    ts = torch.tensor([0.5, 1.0, 9.0], requires_grad=True)
    (ground,) = solve(ODETerm(ball), dropped(h), ts, events=[GROUND], **WAYS["fixed"]).events
    (slope,) = torch.autograd.grad(ground.t.sum(), ts)
    assert torch.allclose(slope, torch.tensor([3.0, 0.0, 0.0]), atol=EXACT)  # later by as much as the start is


def test_float32():
    ball, h = Ball(), torch.tensor([1.0, 5.0, 20.0], requires_grad=True)
    for options in WAYS.values():
        (ground,) = solve(ODETerm(ball), dropped(h), [0.0, 5.0], events=[GROUND], **options).events
        fall = torch.sqrt(2 * h / ball.g)
        assert ground.t.dtype == torch.float64 and ground.y.dtype == torch.float32
        assert torch.allclose(ground.t.float(), fall, rtol=1e-5)
        assert torch.allclose(*(torch.autograd.grad(t.sum(), h)[0] for t in (ground.t, fall)), rtol=1e-4)


def test_two_zeros_in_one_step(double):
    """Quadratics are seen through, whatever the step: up through 2 and down again, in a step of ten seconds."""
    thrown, ball = torch.tensor([[1.0, 5.0], [1.9, 1.5], [1.0, 4.0]]), Ball()
    event, peak = Event(Level(2.0)), Event(lambda t, y: y[:, 1], direction=-1)
    solution = solve(ODETerm(ball), thrown, [0.0, 10.0], solver=Heun(), events=[event, peak])
    twice, top = solution.events
    assert solution.stats.accepted.tolist() == [1, 1, 1] and twice.count.tolist() == [2, 2, 0]  # 1 + 16/2g < 2
    for i in (0, 1):
        a, b = twice.ts[2 * i : 2 * i + 2].tolist()
        assert (a + b) / 2 == pytest.approx(float(top.t[i]), abs=EXACT) and a < b


def test_starting_on_zero_is_no_event(double):
    ball = Ball()
    thrown = torch.tensor([[0.0, 5.0], [0.0, -5.0], [0.0, 0.0]])
    (ground,) = solve(ODETerm(ball), thrown, [0.0, 2.0], events=[Event(height)], **WAYS["own clocks"]).events
    assert ground.count.tolist() == [1, 0, 0] and float(ground.t[0]) == pytest.approx(10 / 9.81, abs=EXACT)


@pytest.mark.parametrize("options", [WAYS["own clocks"], WAYS["fixed"], WAYS["joint clock"]])
def test_an_event_at_an_output_time(ball, h, options):
    """It is kept, once, and the state at its time too."""
    clock = Event(lambda t, y: t[:, 0] - 0.5, terminal=True, name="clock")
    solution = solve(ODETerm(ball), dropped(h), [0.0, 0.5, 1.0], events=[clock], **options)
    assert torch.allclose(solution.events[0].t, torch.full((3,), 0.5), rtol=1e-15)
    assert solution.ys.isnan().any(-1).any(-1).tolist() == [False, False, True]
    passing = Event(lambda t, y: t[:, 0] - 0.5)
    assert solve(ODETerm(ball), dropped(h), [0.0, 0.5, 1.0], events=[passing], **options).events[0].count.sum() == 3
    last = solve(ODETerm(ball), dropped(h), [0.0, 0.5], events=[clock], **options)
    assert last.events[0].count.sum() == 3 and not last.ys.isnan().any()


def test_a_touch_has_no_derivative(double):
    """(t − 1)³ changes its sign without a slope."""
    shift = torch.tensor(1.0, requires_grad=True)
    touching, crossing = (Event(lambda t, y, p=p: (t[:, 0] - shift) ** p, name=f"power {p}") for p in (3, 1))
    flat, steep = solve(
        ODETerm(lambda t, y: -y), torch.ones(2, 1), [0.0, 2.5], events=[touching, crossing], **WAYS["fixed"]
    ).events
    assert torch.allclose(flat.t, torch.ones(2, dtype=torch.float64), atol=1e-4)  # a triple root of rounded numbers
    (slope,) = torch.autograd.grad(steep.t.sum() + 0 * flat.t.sum(), shift, retain_graph=True)
    assert slope == pytest.approx(2.0)
    with pytest.raises(InputError, match=r"event 'power 3' has no derivative at t = 1.*sample 0"):
        flat.t.sum().backward()


def test_a_field_that_jumps(double):
    def pulse(t, y):
        return torch.where(torch.as_tensor(t, dtype=y.dtype) < 0.3, 1.0, -2.0) * torch.ones_like(y)

    events = [Event(Level(0.2)), Event(lambda t, y: y[:, 0] + 0.4, terminal=True)]
    for options in ({"solver": RK4()}, WAYS["own clocks"]):
        solution = solve(ODETerm(pulse, jumps=[0.3]), torch.zeros(2, 1), [0.0, 0.3, 1.0], events=events, **options)
        assert torch.allclose(solution.events[0].ts, torch.tensor([0.2, 0.35, 0.2, 0.35]))
        assert torch.allclose(solution.events[1].t, torch.full((2,), 0.65))


def test_tuple_states(double):
    q = torch.tensor([[1.0, 0.3], [2.0, 0.1]], requires_grad=True)
    term = Partitioned(lambda t, p: p, lambda t, q: -q)
    event = Event(lambda t, y: y[0][:, 0], terminal=True)
    solution = solve(
        term, (q, torch.zeros_like(q)), [0.0, 2.0], solver=Verlet(), controller=Constant(steps=200), events=[event]
    )
    zero = solution.events[0]
    assert torch.allclose(zero.t, torch.full((2,), math.pi / 2), atol=1e-4)
    assert zero.y[1].shape == (2, 2) and torch.allclose(zero.y[1], -q, atol=1e-4)
    assert all(part[-1].isnan().all() for part in solution.ys)
    assert torch.autograd.grad(zero.y[1].sum(), q)[0].isfinite().all()


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (lambda t, y: y, r"\(3, 2\) torch.float64 for 3 samples"),
        (lambda t, y: y[:, 0].sum(), r"\(\) torch.float64"),
        (lambda t, y: y[:, 0] > 0, r"\(3,\) torch.bool"),
        (lambda t, y: 0.0, "float for 3 samples"),
    ],
)
def test_conditions_of_the_wrong_shape(ball, h, condition, told):
    with pytest.raises(ShapeError, match=rf"condition of event 'here' returned {told}"):
        solve(ODETerm(ball), dropped(h), [0.0, 1.0], events=[Event(condition, name="here")], **WAYS["fixed"])


def test_a_condition_that_is_no_number(ball, h):
    event = Event(lambda t, y: torch.log(y[:, 0]), name="log")
    with pytest.raises(InputError, match=r"event 'log' is NaN at t = 0.\d+ for sample 0"):
        solve(ODETerm(ball), dropped(h), [0.0, 1.0], events=[event], **WAYS["own clocks"])


def test_an_effect_of_the_wrong_kind(ball, h):
    event = Event(height, effect=lambda t, y: y[:, :1])
    with pytest.raises(ShapeError, match=r"effect of event 'height' returned .*needs the kind of y"):
        solve(ODETerm(ball), dropped(h), [0.0, 3.0], events=[event], **WAYS["own clocks"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"condition": 3}, "needs functions"),
        ({"direction": 2}, "direction=2"),
        ({"terminal": True, "effect": lambda t, y: y}, "terminal and has an effect"),
    ],
)
def test_events_that_cannot_be(options, told):
    with pytest.raises(InputError, match=told):
        Event(**{"condition": height, **options})


def test_what_does_not_go_together(ball, h):
    y0, jump = dropped(h), bouncing(0.5)
    refused = [
        ({"events": [height]}, "needs a list of Event"),
        ({"events": [Event(height, data=[torch.ones(2)])]}, r"data of shape \(2,\) for a batch of 3"),
        ({"events": [GROUND], "solver": Leapfrog(), "gradient": Reversible()}, "Reversible.*use Direct"),
        ({"events": [GROUND], "solver": Stormer()}, "no velocities"),
        ({"events": [GROUND], "solver": Kvaerno3(), "on_failure": Fallback(Stormer())}, "no velocities"),
        ({"events": [jump], **WAYS["joint clock"]}, 'norm="sample"'),
        ({"events": [jump], "solver": Leapfrog()}, "steps of one length"),
        ({"events": [jump], "ts": torch.tensor([0.0, 1.0], requires_grad=True)}, "ts.detach"),
    ]
    for options, told in refused:
        with pytest.raises(InputError, match=told):
            solve(ODETerm(ball), y0, **{"ts": [0.0, 1.0], "solver": RK4(), **options})
    with pytest.raises(InputError, match="batch axis"):
        solve(ODETerm(lambda t, y: -y), torch.tensor(1.0), [0.0, 1.0], solver=RK4(), events=[Event(lambda t, y: y)])
