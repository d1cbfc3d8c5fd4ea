"""Solvers of stochastic equations, each with one fault that the kit must find."""

from dataclasses import replace

import torch

from deqlight.solvers import SRK, Euler, Heun, Milstein, ReversibleHeun, Solver, Step, StratonovichMilstein, milstein
from deqlight.solvers import srk as srk_module
from deqlight.states import each
from deqlight.terms import Drive


class BackwardMilstein(Milstein):
    """The correction with the wrong sign."""

    @classmethod
    def examples(cls):
        return (cls(),)

    def step(self, term, t0, t1, y0, carry):
        return corrected(term, t0, t1, y0, lambda w, dt: dt - w.square())


class WholeMilstein(Milstein):
    """The correction without its half."""

    @classmethod
    def examples(cls):
        return (cls(),)

    def step(self, term, t0, t1, y0, carry):
        return corrected(term, t0, t1, y0, lambda w, dt: 2 * (w.square() - dt))


class ItoCorrected(StratonovichMilstein):
    """Itô's correction, in Stratonovich's sense."""

    def step(self, term, t0, t1, y0, carry):
        return corrected(term, t0, t1, y0, lambda w, dt: w.square() - dt)


def corrected(term, t0, t1, y0, square):
    return Step(milstein._moved(term, t0, t1, y0, milstein._along_itself, square))


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


class Driven(Solver):
    """Euler's method, with another increment of the noise."""

    info = replace(Euler.info, strong_order={"diagonal": 0.5})

    def step(self, term, t0, t1, y0, carry):
        control = term.control(t0, t1)
        if isinstance(control, Drive):
            control = control._replace(w=each(lambda w: self.driven(w, t0, t1), control.w))
        return Step(term.advance(y0, [1.0], [self.slope(term.vf(t0, y0))], control))

    def driven(self, w, t0, t1):
        return w

    def slope(self, vf):
        return vf


class TwiceRooted(Driven):
    """Multiplies the increment, which is as large as the root of the step, by that root once more."""

    def driven(self, w, t0, t1):
        return w * abs(t1 - t0) ** 0.5


class OwnNoise(Driven):
    """Draws noise of its own, not that of the path."""

    info = replace(Euler.info, strong_order={"additive": 1.0})

    def driven(self, w, t0, t1):
        return torch.randn_like(w) * abs(t1 - t0) ** 0.5


class OneForAll(Driven):
    """Takes the noise of the first number for that of all."""

    def driven(self, w, t0, t1):
        return w[:, :1].expand_as(w) if w.dim() > 1 else w


class MixesNoise(Driven):
    """A billionth of a sample's noise is that of its batch."""

    def driven(self, w, t0, t1):
        return w + 1e-9 * w.mean(0)


class FloatNoise(Driven):
    """Treats times as numbers otherwise than times as tensors, where there is noise."""

    def driven(self, w, t0, t1):
        return w * (1 + 1e-9 * isinstance(t0, float))


class DetachedNoise(Driven):
    """Its gradients know nothing of the diffusion."""

    def slope(self, vf):
        return vf._replace(g=each(torch.detach, vf.g)) if hasattr(vf, "g") else vf


class NotUndoneNoise(ReversibleHeun):
    """Is undone, but for a part of the noise."""

    def unstep(self, term, t0, t1, y1, carry):
        back = super().unstep(term, t0, t1, y1, carry)
        control = term.control(t0, t1)
        if not isinstance(control, Drive):
            return back
        return back._replace(y=each(lambda y: y + 1e-9 * control.w.square().sum(), back.y))


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


class WrongStage(WrongWeight):
    """A stage of the diffusion is off by a tenth."""

    def step(self, term, t0, t1, y0, carry):
        right = srk_module.SECOND_ORDER
        srk_module.SECOND_ORDER = replace(right, d=((), (0.5,), (-1.0, 0.0), (-5.0, 3.0, 0.6)))
        try:
            return SRK.step(self, term, t0, t1, y0, carry)
        finally:
            srk_module.SECOND_ORDER = right


class WeaklyBold(Euler):
    """Says that its moments are better than they are."""

    info = replace(Euler.info, weak_order=2.0)


class WeaklyShy(Heun):
    """Says that its moments are worse than they are."""

    info = replace(Heun.info, weak_order=0.5)


FAULTS = [
    (BackwardMilstein, "strong order, diagonal"),
    (WholeMilstein, "strong order, scalar"),
    (ItoCorrected, "calculus"),
    (ItoByName, "calculus"),
    (StratonovichByName, "weak order"),
    (TooBold, "strong order, general"),
    (TooShy, "strong order, diagonal"),
    (WeaklyBold, "weak order"),
    (WeaklyShy, "weak order"),
    (TwiceRooted, "weak order"),
    (OwnNoise, "strong order, additive"),
    (OwnNoise, "replay, noise"),
    (OneForAll, "strong order, diagonal"),
    (MixesNoise, "samples, noise"),
    (FloatNoise, "clocks, noise"),
    (DetachedNoise, "gradient, noise"),
    (NotUndoneNoise, "undone, noise"),
    (WrongWeight, "strong order, diagonal"),
    (WrongStage, "strong order, diagonal"),
]
"""Each with a claim that must fail."""
