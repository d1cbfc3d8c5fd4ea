"""How exactly events are found, and that they are of no concern to the other samples."""

import math

import pytest
import torch
from balls import EXACT, GROUND, TIGHT, WAYS, Level, bouncing, dropped, height
from rows import Rows

from deqlight import Event, ODETerm, SaveAt, solve
from deqlight.compiling import Compile
from deqlight.controllers import PID, Constant
from deqlight.policies import Fallback, Freeze
from deqlight.solvers import AB2, BDF2, RK4, Bosh3, Dopri5, Heun, Kvaerno3, Kvaerno5, Leapfrog

NEAR = 1e-8
"""How far from the truth a solve at `TIGHT`, its events and their derivatives may be."""

ALIKE = {"rtol": 1e-12, "atol": 1e-14, "equal_nan": True}
"""What float64 leaves between a row of a batch and the same row alone: sums in another order."""


def turning(t, y):
    """The harmonic oscillator of unit frequency."""
    return torch.stack([y[:, 1], -y[:, 0]], 1)


def waves(*phases):
    return torch.stack([torch.cos(torch.tensor(phases)), -torch.sin(torch.tensor(phases))], 1)


def test_zero_crossings_of_an_oscillator(double):
    """x = A cos(ωt + φ) is zero at (π/2 − φ)/ω and half a period later, and so on."""
    omega, phase = torch.tensor(1.3, requires_grad=True), torch.tensor([0.3, 0.9], requires_grad=True)
    amplitude = torch.tensor([1.0, 2.0], requires_grad=True)

    def swing(t, y):
        return torch.stack([y[:, 1], -(omega**2) * y[:, 0]], 1)

    y0 = torch.stack([amplitude * phase.cos(), -amplitude * omega * phase.sin()], 1)
    solution = solve(ODETerm(swing), y0, [0.0, 6.0], solver=Dopri5(), controller=TIGHT, events=[Event(height)])
    (zeros,), inputs = solution.events, (omega, phase, amplitude)
    assert zeros.count.tolist() == [3, 3]
    for k in range(3):
        found, truth = zeros.ts[zeros.offsets[:-1] + k], (math.pi / 2 - phase + k * math.pi) / omega
        assert torch.allclose(found, truth, rtol=0, atol=NEAR)
        grads = torch.autograd.grad(found.sum(), inputs, retain_graph=True)
        wanted = torch.autograd.grad(truth.sum(), inputs, allow_unused=True)
        for a, b in zip(grads, wanted, strict=True):
            assert torch.allclose(a, torch.zeros_like(a) if b is None else b, rtol=0, atol=NEAR)
    fresh = y0.detach().requires_grad_()
    (zeros,) = solve(
        ODETerm(swing), fresh, [0.0, 6.0], solver=Dopri5(), controller=TIGHT, events=[Event(height)]
    ).events
    (slope,) = torch.autograd.grad(zeros.t.sum(), fresh)  # t = atan2(ω x₀, −v₀)/ω
    size = (omega * fresh[:, 0]) ** 2 + fresh[:, 1] ** 2
    assert torch.allclose(slope, torch.stack([-fresh[:, 1], fresh[:, 0]], 1) / size[:, None], rtol=0, atol=NEAR)


@pytest.mark.parametrize(("solver", "order"), [(Heun(), 2), (Bosh3(), 3), (RK4(), 4), (Dopri5(), 4), (AB2(), 2)])
def test_times_converge_at_the_order_of_the_polynomials(double, solver, order):
    errors = []
    for steps in (16, 32, 64):
        controller = Constant(steps=steps)
        (zero,) = solve(
            ODETerm(turning), waves(0.3), [0.0, 2.0], solver=solver, controller=controller, events=[Event(height)]
        ).events
        errors.append(abs(float(zero.t) - (math.pi / 2 - 0.3)))
    assert errors[-1] < 1e-3
    assert math.log2(errors[0] / errors[-1]) / 2 > order - 0.5  # where the zero lies in its step makes it uneven


def test_directions_and_several_events(double):
    names = {"rising": 1, "falling": -1, "both": 0}
    events = [Event(height, direction=way, name=name) for name, way in names.items()]
    events.append(Event(lambda t, y: y[:, 1], name="extreme"))
    for options in (WAYS["own clocks"], WAYS["joint clock"], {"solver": RK4(), "controller": Constant(steps=50)}):
        solution = solve(ODETerm(turning), waves(0.0, 1.0), [0.0, 9.5], events=events, **options)
        rising, falling, both, extreme = solution.events
        assert [event.name for event in solution.events] == [*names, "extreme"]
        assert falling.count.tolist() == [2, 2] and rising.count.tolist() == [1, 1] and both.count.tolist() == [3, 3]
        assert bool((rising.y[:, 1] > 0).all() and (falling.y[:, 1] < 0).all())
        assert torch.equal(both.ts.sort()[0], torch.cat([rising.ts, falling.ts]).sort()[0])
        assert bool((both.ts[1:3] > both.ts[:2]).all())  # in order of time
        assert extreme.count.tolist() == [3, 3]  # that of sample 0 at the start is none
        assert not solution.ys.isnan().any()


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_the_first_terminal_event_wins(ball, h, options):
    """All in one step, where that is long."""
    levels = [0.2, 0.8, 0.5]
    events = [Event(Level(level), terminal=True, name=str(level)) for level in levels]
    passed = [Event(Level(0.9), name="before"), Event(Level(0.7), name="after")]
    solution = solve(ODETerm(ball), dropped(h), [0.0, 5.0], events=[*events, *passed], **options)
    assert [event.count.sum().item() for event in solution.events] == [0, 3, 0, 3, 0]
    assert torch.allclose(solution.events[1].t, torch.sqrt(2 * (h - 0.8) / ball.g), atol=EXACT)


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_reversed_time(ball, h, options):
    """A direction is along the way of the solve: backwards, the ball rises as it rose before."""
    rising, falling = (Event(Level(3.0), direction=way, terminal=True) for way in (1, -1))
    y0, way = torch.stack([h.detach(), torch.full((3,), -20.0)], 1), torch.sqrt(400 + 2 * ball.g * (h - 3.0))
    up, down = (-20.0 + way) / ball.g, (-20.0 - way) / ball.g
    for event, truth in ((rising, torch.where(up < 0, up, math.nan)), (falling, down)):
        found = solve(ODETerm(ball), y0, [0.0, -6.0], events=[event], **options)
        assert torch.allclose(found.events[0].t, truth, atol=EXACT, equal_nan=True)
        assert found.y1[:, 0].isnan().tolist() == (~truth.isnan()).tolist()


def test_times_of_each_sample(ball, h):
    own = torch.tensor([[0.0, 1.0, 2.0], [0.2, 2.5, 9.0]])
    for options in (WAYS["own clocks"], WAYS["fixed"]):
        table = solve(ODETerm(ball), dropped(h), own, events=[GROUND], **options)
        fall = torch.sqrt(2 * h / ball.g)
        fell = torch.where(torch.tensor([0, 1, 1]) > 0, own[0] + fall, math.nan)
        assert torch.allclose(table.events[0].t, fell, atol=EXACT, equal_nan=True)
        assert table.ys[1, :, 0].isnan().tolist() == [False, True, True]
        ragged = solve(ODETerm(ball), dropped(h), [[0, 0.1, 0.2], [1, 9], [2, 3, 9]], events=[GROUND], **options)
        assert torch.allclose(ragged.events[0].t, fell, atol=EXACT, equal_nan=True)
        assert ragged.ys[:, 0].isnan().tolist() == [False] * 4 + [True] + [False] * 2 + [True]


def falling(g, t, y):
    return torch.stack([y[:, 1], -g[:, 0] - 0.1 * y[:, 1] * y[:, 1].abs()], 1)


@pytest.mark.parametrize("effect", [False, True], ids=["terminal", "effect"])
def test_no_sample_knows_of_the_others(double, effect):
    g, y0 = 5 + 10 * torch.rand(12), torch.stack([torch.rand(12) * 3 + 0.1, torch.rand(12) - 0.5], 1)
    floors = torch.rand(12) / 10
    options = {"solver": Dopri5(), "controller": PID(1e-6, 1e-8)}

    def events(rows):
        low = lambda t, y, floor: y[:, 0] - floor  # noqa: E731
        turned = {"effect": lambda t, y, floor: y * torch.tensor([1.0, -0.7]), "direction": -1}
        return [
            Event(low, data=[floors[rows]], **turned if effect else {"terminal": True}),
            Event(lambda t, y: y[:, 1]),
        ]

    ts = [0.0, 0.3, 0.8]
    whole = solve(Rows(g, falling), y0, ts, events=events(slice(None)), **options)
    assert whole.events[0].count.float().std() > 0  # they differ
    for i in range(12):
        alone = solve(Rows(g[i : i + 1], falling), y0[i : i + 1], ts, events=events(slice(i, i + 1)), **options)
        assert torch.allclose(whole.ys[:, i], alone.ys[:, 0], **ALIKE)
        for all_, one in zip(whole.events, alone.events, strict=True):
            mine = all_.samples == i
            assert torch.allclose(all_.ts[mine], one.ts, **ALIKE) and torch.allclose(all_.ys[mine], one.ys, **ALIKE)
        for name in ("nfe", "accepted", "rejected"):
            assert getattr(whole.stats, name)[i] == getattr(alone.stats, name)[0]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("solver", [Dopri5(), Heun()], ids=repr)
def test_every_evaluation_is_counted(double, solver, grad):
    """Those of the polynomials too, which Heun's method makes of one more."""
    term = Rows(5 + 10 * torch.rand(6), falling)
    y0 = torch.stack([torch.rand(6) * 3 + 0.1, torch.zeros(6)], 1).requires_grad_(grad)
    events = [bouncing(0.5), Event(lambda t, y: y[:, 0].abs() + t[:, 0] - 0.5, terminal=True)]
    solution = solve(term, y0, [0.0, 1.0], solver=solver, controller=PID(1e-4, 1e-6), events=events)
    assert int(solution.events[0].count.sum()) and int(solution.events[1].count.sum())
    assert sum(term.called) == int(solution.stats.nfe.sum())


def test_dense_output_ends_too(ball, h):
    for options in WAYS.values():
        solution = solve(ODETerm(ball), dropped(h), [0.0, 5.0], events=[GROUND], saveat=SaveAt(dense=True), **options)
        assert solution.at(0.6).isnan().any(-1).tolist() == [True, False, False]
        assert torch.allclose(solution.at(0.6)[1:, 0], h[1:] - ball.g / 2 * 0.36, atol=EXACT)
        assert solution.y1.isnan().all()


def breaking(bad, t, y):
    return torch.where((bad > 0) & (torch.as_tensor(t) > 0.5), math.nan, -torch.ones_like(y))


@pytest.mark.parametrize("way", ["fixed", "own clocks", "joint clock"])
def test_samples_that_fail(double, way):
    """y = start − t; sample 1 fails before its event, sample 2 behind it."""
    bad, y0 = torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([[0.3], [0.8], [0.3], [9.0]])
    options = {**WAYS[way], "controller": Constant(steps=20)} if way == "fixed" else WAYS[way]
    options = {**options, "events": [GROUND]}
    solution = solve(Rows(bad, breaking), y0, [0.0, 0.1, 1.0], on_failure=Freeze(), **options)
    assert [i for failure in solution.failures for i in failure.samples] == [1]
    assert torch.allclose(solution.events[0].t, torch.tensor([0.3, math.nan, 0.3, math.nan]), equal_nan=True)
    rescue = Fallback(Heun(), Constant(steps=1), then=Freeze())
    event = Event(lambda t, y: y[:, 0] - 0.5, name="early")
    again = solve(Rows(bad, breaking), y0, [0.0, 0.4], on_failure=rescue, **{**options, "events": [event]})
    assert torch.allclose(again.events[0].t, torch.tensor([math.nan, 0.3, math.nan, math.nan]), equal_nan=True)


def test_a_fallback_finds_the_events_of_its_samples(double):
    rates, y0 = torch.tensor([1.0, 3000.0, 1.0]), torch.tensor([[1.0], [1.0], [0.4]])
    term = Rows(rates, lambda rate, t, y: -rate * (y - 0.5))
    event = Event(lambda t, y: y[:, 0] - 0.75)
    options = {"solver": Dopri5(), "controller": PID(1e-6, 1e-8), "max_steps": 300, "events": [event]}
    plain = solve(term, y0, [0.0, 1.0], **{**options, "max_steps": 4000})
    saved = solve(term, y0, [0.0, 1.0], on_failure=Fallback(Kvaerno5()), **options)
    assert not saved.failures and saved.stats.accepted[1] < plain.stats.accepted[1]
    assert torch.allclose(saved.events[0].t, plain.events[0].t, rtol=1e-5, equal_nan=True)


def test_an_empty_batch_and_no_gradient(ball):
    empty = solve(ODETerm(ball), torch.zeros(0, 2), [0.0, 1.0], events=[GROUND], **WAYS["own clocks"])
    assert empty.events[0].t.shape == (0,) and empty.events[0].y.shape == (0, 2)
    with torch.inference_mode():
        found = solve(ODETerm(ball), torch.ones(2, 2), [0.0, 5.0], events=[GROUND, bouncing(0.5)], **WAYS["own clocks"])
    assert found.events[0].count.tolist() == [1, 1] and not found.events[0].t.requires_grad


@pytest.mark.parametrize("solver", [Kvaerno3(), BDF2(), Leapfrog()], ids=repr)
def test_solvers_with_memory_and_iterations(double, solver):
    controller = PID(1e-6, 1e-8) if solver.info.error_order else Constant(steps=400)
    y0 = waves(0.3, 0.6).requires_grad_()
    solution = solve(ODETerm(turning), y0, [0.0, 2.0], solver=solver, controller=controller, events=[GROUND])
    assert torch.allclose(solution.events[0].t, math.pi / 2 - torch.tensor([0.3, 0.6]), atol=1e-4)
    (slope,) = torch.autograd.grad(solution.events[0].t.sum(), y0)
    # Leapfrog's even and odd steps lie a little apart, which shows in the slopes between them
    assert torch.allclose(slope, torch.stack([-y0[:, 1], y0[:, 0]], 1), atol=3e-3 if solver.info.reversible else 1e-4)


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize("way", ["own clocks", "joint clock", "fixed"])
def test_compiled_steps(ball, h, way):
    """Under a joint clock no sample ends: a compiled step measures the error of all, an eager one of those that go."""
    events = [Event(Level(0.5)), *([] if way == "joint clock" else [GROUND])]
    eager, graph = (
        solve(ODETerm(ball), dropped(h), [0.0, 0.5, 1.5], compile=compiled, events=events, **WAYS[way])
        for compiled in (None, Compile())
    )
    assert torch.allclose(graph.ys, eager.ys, rtol=1e-10, equal_nan=True)
    for a, b in zip(graph.events, eager.events, strict=True):
        assert torch.allclose(a.ts, b.ts, rtol=1e-12) and torch.equal(a.offsets, b.offsets)
    slopes = (torch.autograd.grad(sum(e.ts.sum() for e in s.events), ball.g)[0] for s in (eager, graph))
    assert torch.allclose(*slopes, rtol=1e-10)
