"""Terms: what a solver sees of an equation."""

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, Term, solve
from deqlight.errors import InputError
from deqlight.solvers import Euler
from deqlight.terms import combine


def noting(notes, name):
    def hook(field, t, y):
        notes.append(name)
        return field(t, y)

    return hook


TERMS = {
    "ode": (lambda: ODETerm(lambda t, y: -y), 1),
    "layers": (lambda: Layered([lambda t, y: -y]), 1),
    "halves": (lambda: Partitioned(lambda t, p: p, Layered([lambda t, q: -q])), 2),
}


@pytest.mark.parametrize("kind", TERMS)
def test_hooks_nest_around_every_field_and_leave_the_term_alone(kind):
    make, fields = TERMS[kind]
    term, notes, y0 = make(), [], torch.ones(2, 1)
    state = (y0, y0) if fields == 2 else y0
    hooked = term.wrap(noting(notes, "inner")).wrap(noting(notes, "outer"))
    solve(hooked, state, [0, 1], solver=Euler())
    assert notes == ["outer", "inner"] * fields
    solve(term, state, [0, 1], solver=Euler())
    assert len(notes) == 2 * fields


def test_advance_and_prod_agree_with_the_formula():
    term, y, f, g = ODETerm(lambda t, y: y), *torch.randn(3, 4, 2)
    assert torch.allclose(term.advance(y, [2.0, 0.0, -1.0], [f, f, g], 0.5), y + 0.5 * (2 * f - g))
    assert torch.allclose(term.increment([0.5, -0.5], [f, g], 0.1), 0.05 * (f - g))
    clock = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).reshape(4, 1)
    assert torch.allclose(term.advance(y, [1.0], [f], clock), y + clock.float() * f)


def test_combine_rounds_as_the_formula_is_written():
    x, y = torch.randn(2, 1000)
    assert torch.equal(combine([0.7, 0.3], [x, y]), 0.7 * x + 0.3 * y)


def test_layers_own_their_intervals():
    blocks = [nn.Linear(2, 2) for _ in range(3)]
    term = Layered([lambda t, y, b=b: b(y) for b in blocks])
    assert term.over(1.0, 2.0) is term.layers[1] and term.over(2.0, 1.5) is term.layers[1]
    assert term.over(2.25, 2.5) is term.layers[2] and len(term) == 3
    assert term.jumps(0.0, 3.0) == (1.0, 2.0) and term.jumps(0.5, 0.75) == ()
    y = torch.ones(1, 2)
    assert torch.equal(term.vf(1.0, y), blocks[1](y)) and torch.equal(term.vf(3.0, y), blocks[2](y))
    with pytest.raises(InputError, match="no blocks"):
        Layered([])


def test_the_tensors_of_a_step_are_those_of_its_layer():
    term = Layered([nn.Linear(2, 2) for _ in range(3)])
    assert [id(p) for p in term.tensors(1.0, 2.0)] == [id(p) for p in term.layers[1].parameters()]
    assert len(term.tensors(0.0, 3.0)) == 6 and len(term.tensors(3.0, 0.0)) == 6


def test_a_field_must_be_callable():
    with pytest.raises(InputError, match=r"ODETerm got 3; it needs a vector field"):
        ODETerm(3)


def test_a_term_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Term()
