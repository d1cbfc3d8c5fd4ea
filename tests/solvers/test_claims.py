"""Every built-in solver does what its `info` claims, measured by the kit that plugins use."""

import pytest

from deqlight import solvers
from deqlight.plugin.builtin import deqlight_solvers
from deqlight.solvers import Solver

PUBLIC = [getattr(solvers, name) for name in solvers.__all__]
PUBLIC = [cls for cls in PUBLIC if isinstance(cls, type) and issubclass(cls, Solver)]
BUILT_IN = [cls for cls in PUBLIC if not any(other is not cls and issubclass(other, cls) for other in PUBLIC)]

DEMANDED = """
    Euler Midpoint Heun Ralston RK4 RK38 SSPRK3 Bosh3 Dopri5 Tsit5 Dopri8
    AB1 AB2 AB3 AB4 ABM2 ABM3 ABM4 LinearTwoStep Leapfrog Stormer BDF2
    ImplicitEuler ImplicitMidpoint Trapezoid Kvaerno3 Kvaerno5 GaussLegendre4 GaussLegendre6 RadauIIA5 Rodas4
    IMEXEuler KenCarp4 SymplecticEuler Verlet Ruth3 Yoshida4 ReversibleHeun AsynchronousLeapfrog ReversiblePair
    ETD1 ETD2 ETDRK4 RKC Neumann StepDoubling
"""


@pytest.mark.conformance(solvers=BUILT_IN)
def test_claim(claim):
    claim.verify()


def test_all_are_there():
    names = {cls.__name__ for cls in BUILT_IN}
    assert names >= set(DEMANDED.split()), set(DEMANDED.split()) - names


def test_all_are_registered():
    assert {cls.__name__ for cls in deqlight_solvers()} >= {cls.__name__ for cls in BUILT_IN}


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_docstring_in_the_order_of_the_house(cls):
    text = cls.__doc__
    places = [text.lower().find(word) for word in ("order", "evaluation", "reference:")]
    assert places[0] > -1 and -1 < places[1] < places[2]
    assert places[1] < text.find("Not to be confused") < places[2] or cls in (solvers.RK4, solvers.Stormer)
    assert cls.examples()[0].info.reference
