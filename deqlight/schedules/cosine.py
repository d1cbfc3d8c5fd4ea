"""Station: how much noise at which time. The cosine schedule, in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from .numbers import Number, at_most, atan, exp, expm1, inside, log1p, sin, sqrt
from .preserving import Preserving, check_t_min

__all__ = ["Cosine", "check_cosine"]


@dataclass(frozen=True)
class Cosine(Preserving):
    """α = cos θ(t)/cos θ(0) with θ(t) = ½π (t + s)/(1 + s), σ² = 1 − α².

    That ends without data, so the rate is clipped. Published is β ≤ 0.999 for the share of ᾱ that one of the steps
    takes, 1 − e^(−β(t)/steps) in continuous time; so the rate here is at most −steps · log(1 − clip). With the defaults
    it is from t = 0.9997 on, where log α then goes on in a straight line.

    Args:
        s: how far from zero the angle begins: there is no time of almost no noise.
        clip: the largest share of ᾱ that a step may take.
        steps: how many steps that is meant for.
        t_min: the time of least noise that is trained and sampled; the formulas hold from 0 to 1.

    Raises:
        InputError: for an `s` that is not positive, a `clip` outside of (0, 1), less than one step, a `t_min` outside
            of (0, 1), and where all times would be clipped.

    Reference: Nichol & Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021, arXiv 2102.09672,
    section 3.2. `CosineTable` is the published one.
    """

    s: float = 0.008
    clip: float = 0.999
    steps: int = 1000
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        check_cosine("Cosine", self.s, self.clip, self.steps)
        check_t_min("Cosine", self.t_min)
        if not self.t_min < self._clipped_from:
            raise InputError(
                f"Cosine got clip={self.clip} for steps={self.steps}; its rate is clipped from t = "
                f"{self._clipped_from:g} on, before t_min={self.t_min}: take more steps or a larger clip"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """From `t_min` to 1."""
        return self.t_min, 1.0

    def beta(self, t: Number) -> Number:
        """π/(1 + s) · tan θ, clipped."""
        t = at_most(self._time(t), (1 + self._clipped_from) / 2)  # tan is infinite at 1
        tangent = sin(self._speed * (t + self.s)) / sin(self._speed * (1 - t))
        return at_most(2 * self._speed * tangent, self._fastest)

    def total(self, t: Number) -> Number:
        """log(1 + ρ²) with ρ² = sin(θ − θ₀) sin(θ + θ₀)/cos² θ, which is no difference; then a straight line."""
        t = self._time(t)
        early, late = at_most(t, self._clipped_from), -at_most(self._clipped_from - t, 0.0)
        turn, cosine = self._speed * early, sin(self._speed * (1 - early))
        rho2 = sin(turn) * sin(turn + 2 * self._first) / (cosine * cosine)
        return log1p(rho2) + self._fastest * late

    def when(self, total: Number) -> Number:
        """From the tangent of θ − θ₀, so that early times are as accurate as late ones."""
        early = at_most(total, self._clipped_total)
        sin0, cos0 = math.sin(self._first), math.cos(self._first)
        grown = -(cos0**2) * expm1(-early)  # sin² θ − sin² θ₀
        cosine, sine = cos0 * exp(-early / 2), sqrt(sin0**2 + grown)
        turn = atan(grown / (sine * cos0 + cosine * sin0) / (cosine * cos0 + sine * sin0))
        return turn / self._speed + (total - early) / self._fastest

    def _time(self, t: Number) -> Number:
        return inside("Cosine got t", t, 0.0, 1.0)

    @property
    def _speed(self) -> float:
        """dθ/dt."""
        return math.pi / 2 / (1 + self.s)

    @property
    def _first(self) -> float:
        """θ(0)."""
        return self._speed * self.s

    @property
    def _fastest(self) -> float:
        """The largest rate."""
        return -self.steps * math.log1p(-self.clip)

    @property
    def _clipped_from(self) -> float:
        """The time from which on it is the rate: where 2 dθ/dt tan θ reaches it."""
        return 1 - math.atan(2 * self._speed / self._fastest) / self._speed

    @property
    def _clipped_total(self) -> float:
        """B at that time."""
        return self.total(self._clipped_from)


def check_cosine(name: str, s: float, clip: float, steps: int) -> None:
    """Raise `InputError` for an offset that is not positive and finite, a clip outside of (0, 1), or no steps."""
    if not (0 < s < math.inf and 0 < clip < 1 and steps >= 1):
        raise InputError(
            f"{name} got s={s}, clip={clip}, steps={steps}; s must be positive, clip between 0 and 1, and steps at "
            "least 1: those published are 0.008, 0.999 and 1000 or 4000"
        )
