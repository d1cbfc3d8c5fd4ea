"""A plugin of one file that a guest might bring, shared by the tests of the command line."""


def guest(name):
    """Its source, with a solver of this name: in one process, two files need two."""
    return f'''
from deqlight.plugin import impl
from deqlight.solvers import Solver, SolverInfo, Step


class {name}(Solver):
    """Euler's method, written by a guest."""

    info = SolverInfo(order=1, nfe_step=1)

    def step(self, term, t0, t1, y0, carry):
        return Step(term.advance(y0, (1.0,), (term.vf(t0, y0),), term.control(t0, t1)))


@impl
def deqlight_solvers():
    return [{name}]
'''
