"""Every built-in solver does what its `info` claims, measured by the kit that plugins use."""

import pytest

from deqlight import solvers
from deqlight.solvers import ReversibleSolver, Solver

BUILT_IN = [getattr(solvers, name) for name in solvers.__all__]
BUILT_IN = [cls for cls in BUILT_IN if isinstance(cls, type) and issubclass(cls, Solver)]
BUILT_IN = [cls for cls in BUILT_IN if cls not in (Solver, ReversibleSolver, solvers.ExplicitRungeKutta)]


@pytest.mark.conformance(solvers=BUILT_IN)
def test_claim(claim):
    claim.verify()


def test_there_are_eleven():
    assert len(BUILT_IN) == 11


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_docstring_in_the_order_of_the_house(cls):
    text = cls.__doc__
    assert "Order" in text or "order" in text
    assert "evaluation" in text
    assert "Not to be confused" in text or cls in (solvers.RK4, solvers.Stormer)
    assert "Reference:" in text and cls.examples()[0].info.reference
