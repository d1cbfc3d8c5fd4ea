"""Solvers of stochastic equations, each with one fault that the kit must find."""

from dataclasses import replace

import torch

from deqlight.solvers import SRK, Euler, Heun, Milstein, Solver, Step
from deqlight.solvers import srk as srk_module
from deqlight.states import each
from deqlight.terms import Drive


class Corrected(Milstein):
    """Milstein's correction of Euler's method, times something."""

    times = 1.0

    def step(self, term, t0, t1, y0, carry):
        plain = term.advance(y0, [1.0], [term.vf(t0, y0)], term.control(t0, t1))
        right = super().step(term, t0, t1, y0, carry).y
        return Step(each(lambda a, b: a + self.times * (b - a), plain, right))

    @classmethod
    def examples(cls):
        return (cls(),)


class BackwardMilstein(Corrected):
    """The correction with the wrong sign."""

    times = -1.0


class WholeMilstein(Corrected):
    """The correction without its half."""

    times = 2.0


class ItoByName(Euler):
    """Itô's method, said to be Stratonovich's."""

    info = replace(Euler.info, calculus="stratonovich")


class StratonovichByName(Heun):
    """Stratonovich's method, said to be Itô's."""

    info = replace(Heun.info, calculus="ito")


class TooBold(Heun):
    """Says that general noise costs it nothing."""

    info = replace(Heun.info, strong_order={**Heun.info.strong_order, "general": 1.0})


class TooShy(Milstein):
    """Says less than it does."""

    def __init__(self):
        super().__init__()
        self.info = replace(self.info, strong_order={"diagonal": 0.5})

    @classmethod
    def examples(cls):
        return (cls(),)


class TwiceRooted(Solver):
    """Multiplies the increment, which is as large as the root of the step, by that root once more."""

    info = replace(Euler.info, strong_order={"diagonal": 0.5})

    def step(self, term, t0, t1, y0, carry):
        control = term.control(t0, t1)
        if isinstance(control, Drive):
            control = control._replace(w=each(lambda w: w * abs(t1 - t0) ** 0.5, control.w))
        return Step(term.advance(y0, [1.0], [term.vf(t0, y0)], control))


class OwnNoise(Solver):
    """Draws noise of its own, not that of the path."""

    info = replace(Euler.info, strong_order={"additive": 1.0})

    def step(self, term, t0, t1, y0, carry):
        control = term.control(t0, t1)
        if isinstance(control, Drive):
            control = control._replace(w=each(lambda w: torch.randn_like(w) * abs(t1 - t0) ** 0.5, control.w))
        return Step(term.advance(y0, [1.0], [term.vf(t0, y0)], control))


class WrongWeight(SRK):
    """One of the weights of the diffusion's stages has another sign."""

    def step(self, term, t0, t1, y0, carry):
        right = srk_module.SECOND_ORDER
        srk_module.SECOND_ORDER = replace(right, own=(-1.0, 4 / 3, 1 / 3, 0.0))
        try:
            return super().step(term, t0, t1, y0, carry)
        finally:
            srk_module.SECOND_ORDER = right

    @classmethod
    def examples(cls):
        return (cls(),)


FAULTS = [
    (BackwardMilstein, "strong order, diagonal"),
    (WholeMilstein, "strong order, scalar"),
    (ItoByName, "calculus"),
    (StratonovichByName, "weak order"),
    (TooBold, "strong order, general"),
    (TooShy, "strong order, diagonal"),
    (TwiceRooted, "weak order"),
    (OwnNoise, "strong order, additive"),
    (WrongWeight, "strong order, diagonal"),
]
"""Each with a claim that must fail."""
