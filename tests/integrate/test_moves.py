"""A solve that is taken again, move by move, is the same to the last bit, whatever its clocks did."""

import pytest
import torch

from deqlight import ODETerm, SaveAt
from deqlight.controllers import PID, Constant
from deqlight.integrate import Move, Opening, Replay, Took, Watch, integrate
from deqlight.problem import Problem
from deqlight.solvers import AB3, BDF2, Dopri5, Heun, Kvaerno3, ReversibleHeun
from deqlight.states import each
from deqlight.times import read_times


class Script(Watch):
    def __init__(self):
        self.opening: Opening | None = None
        self.moves: list[Move] = []

    def began(self, opening, y, carry):
        self.opening = opening

    def moved(self, took: Took):
        self.moves.append(took.move)


def field(t, y):
    return torch.sin(3 * y) * torch.cos(t if isinstance(t, torch.Tensor) else torch.tensor(t)) - y


def jumping(t, y):
    return -y + (torch.as_tensor(t) > 0.7)


CASES = {
    "fixed": (Heun(), Constant(steps=5), ODETerm(field), [0.0, 0.5, 2.0]),
    "fixed, carry": (AB3(), Constant(steps=5), ODETerm(field), [0.0, 1.0, 2.0]),
    "fixed, jump": (ReversibleHeun(), Constant(dt=0.1), ODETerm(jumping, jumps=[0.7]), [0.0, 0.7, 2.0]),
    "joint": (Dopri5(), PID(1e-4, 1e-6, norm="joint"), ODETerm(field), [0.0, 0.5, 2.0]),
    "own clocks": (Dopri5(), PID(1e-6, 1e-8), ODETerm(field), [0.0, 0.5, 2.0]),
    "own clocks, jump": (Dopri5(), PID(1e-4, 1e-6), ODETerm(jumping, jumps=[0.7]), [0.0, 0.5, 2.0]),
    "own times": (Dopri5(), PID(1e-4, 1e-6), ODETerm(field), [[0.0, 1.0], [0.0, 0.5, 3.0], [1.0, 0.0], [0.0, 2.0]]),
    "implicit": (Kvaerno3(), PID(1e-4, 1e-6), ODETerm(field), [0.0, 0.5, 2.0]),
    "two steps": (BDF2(), Constant(steps=5), ODETerm(field), [0.0, 2.0]),
}


@pytest.mark.parametrize("final", [False, True], ids=["all", "final"])
@pytest.mark.parametrize("case", CASES)
def test_taken_again_it_is_the_same(case, final, double):
    solver, controller, term, ts = CASES[case]
    y0 = torch.linspace(0.1, 4.0, 8).reshape(4, 2)
    problem = Problem(term, solver, y0, read_times(ts, 4), controller, SaveAt(final=final), 4096).paced()
    script = Script()
    path = integrate(problem, script)
    flat = path.ys if problem.ragged else path.ys.flatten(0, 1)
    replay, found = Replay(problem, script.opening, script.moves), torch.full_like(flat, torch.nan)
    y, carry = replay.start(y0)
    for i, move in enumerate(script.moves):
        y, carry = replay.take(i, *replay.enter(i, (y, carry)))
        if move.slots is not None:
            kept = move.slots >= 0
            found[torch.as_tensor(move.slots[kept])] = each(lambda leaf: leaf[torch.as_tensor(kept)], y)  # noqa: B023
    known = ~found.isnan()
    assert torch.equal(found[known], flat[known])
    assert final or known.sum() == flat.numel() - y0.numel()  # all but the start
    assert not final or known.all()
