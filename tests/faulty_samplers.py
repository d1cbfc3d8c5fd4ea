"""Samplers with noise, each with one fault that the kit must find."""

import math
from dataclasses import replace

import torch

from deqlight.solvers import DDPM, EDMHeun, EulerMaruyama, PredictorCorrector, ReverseDiffusion, SDEDPMpp2M, Step
from deqlight.solvers.denoising import data, mix
from deqlight.states import each


class OneInstance:
    @classmethod
    def examples(cls):
        return (cls(),)


class TooMuchNoise(OneInstance, DDPM):
    """A hundredth too much, in every step."""

    def fall(self, term, rho0, rho1, y0, carry):
        share = (rho1 / rho0) ** 2
        std = rho1 * math.sqrt(1 - share) * 1.01
        return Step(mix([share, 1 - share, std], [y0, data(rho0, y0, term.eps(rho0, y0)), term.normal(rho0, rho1)]))


class NoAlpha(OneInstance, EulerMaruyama):
    """Forgets that y is not x: the schedule's drift is left out, and α at both ends taken to be one."""

    def fall(self, term, rho0, rho1, y0, carry):
        start = term.time(rho0)
        h, g = start - term.time(rho1), term.schedule.diffusion(start) if term.schedule else math.sqrt(2) * rho0
        weights = [1.0, -h * g**2 / rho0, g * math.sqrt(h)]
        return Step(mix(weights, [y0, term.eps(rho0, y0), term.normal(rho0, rho1)]))


class EqualRatios(SDEDPMpp2M):
    """Takes all steps to be of one length."""

    def fall(self, term, rho0, rho1, y0, carry):
        even = carry if carry is None else carry._replace(lam=-math.log(rho0) - math.log(rho0 / rho1))
        return super().fall(term, rho0, rho1, y0, even)


class TwiceTheLean(SDEDPMpp2M):
    """Forgets the half of the difference."""

    def fall(self, term, rho0, rho1, y0, carry):
        if carry is not None:
            now = data(rho0, y0, term.eps(rho0, y0))
            carry = carry._replace(estimate=each(lambda a, b: 2 * a - b, carry.estimate, now))
        return super().fall(term, rho0, rho1, y0, carry)


class DrawsForItself(OneInstance, DDPM):
    """Noise of its own, not that of the path."""

    def fall(self, term, rho0, rho1, y0, carry):
        step = super().fall(term, rho0, rho1, y0, carry)
        return step._replace(y=each(lambda leaf: leaf + 1e-9 * torch.randn_like(leaf), step.y))


class AsksForNoArea(PredictorCorrector):
    """Says that it needs nothing of the path but W."""

    def __init__(self, predictor):
        super().__init__(predictor)
        self.info = replace(self.info, area=0)

    @classmethod
    def examples(cls):
        return (cls(ReverseDiffusion()),)


class OneNormForAll(AsksForNoArea):
    """Averages norms over the batch, as published."""

    def fall(self, term, rho0, rho1, y0, carry):
        y = super().fall(term, rho0, rho1, y0, carry).y
        return Step(each(lambda leaf: leaf * (1 + 1e-9 * leaf.norm()), y))


class SmoothBetween(OneInstance, EDMHeun):
    """Takes the higher level for the one that the state is at: no noise is added."""

    def __init__(self):
        super().__init__(churn=2.0)

    def _churned(self, term, rho0, rho1, y0):
        return super()._churned(term, rho0, rho1, y0)[0], y0


FAULTS = [
    (TooMuchNoise, "weak order"),
    (NoAlpha, "order"),
    (EqualRatios, "order, uneven steps"),
    (TwiceTheLean, "weak order"),
    (DrawsForItself, "replay, noise"),
    (AsksForNoArea, "replay, noise"),
    (OneNormForAll, "samples"),
    (SmoothBetween, "weak order"),
]
"""Each with a claim that must fail."""
