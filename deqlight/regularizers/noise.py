"""Station: noise in training. What all noise regularisers share: the mask as published, or its diffusion limit."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..brownian import Brownian, Increments
from ..brownian.key import Per
from ..errors import InputError, check_word
from ..terms import Converted, Diffused, Layered, ODETerm, Partitioned, Perturbed, Term
from ..terms.noisy import Limit, Source
from ..types import Tensor
from .base import Regularizer

__all__ = ["Law", "Limit", "NoiseRegularizer", "Reached"]

Law: TypeAlias = Literal["discrete", "gaussian"]
"""Whether the noise is drawn as published, or is the diffusion term that it tends to."""


Reached: TypeAlias = Literal["ode", "sde", "random ode"]
"""What many short layers tend to: an ordinary equation, a stochastic one, or ordinary ones drawn at random."""


@dataclass(frozen=True, kw_only=True)
class NoiseRegularizer(Source, Regularizer):
    """Noise on the field of a network: in each step the field's value is replaced by a random one.

    A subclass says what the random value is, and the two moments of it that matter in the limit: its mean, the drift,
    and its standard deviation, the diffusion. In evaluation the field's value is its mean.

    Args:
        noise: `discrete` draws the published mask, once for each step, the same for all stages of the solver;
            `gaussian` returns the Itô equation with its drift and diffusion.
        scaling: `ode` keeps the noise of a step as it is, so that its variance per step goes with the square of the
            step, and the limit of many short steps is the ordinary equation of the mean; `sde` makes it larger by
            1/√Δt, so that the limit is the stochastic equation. Both agree for steps of length 1.
        key: `sample` draws for each sample by its id, `rank` for all of a process, which is cheaper.
        at_test: go on with the noise in evaluation, for ensembles.
        convert: with `gaussian`, give the equation in Stratonovich's calculus, for its solvers.

    Raises:
        InputError: for other words; from `wrap`, for terms that it does not go with.
    """

    noise: Law = "discrete"
    scaling: Limit = "ode"
    key: Per = "sample"
    at_test: bool = False
    convert: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        words = (("noise", self.noise, ("discrete", "gaussian")), ("scaling", self.scaling, ("ode", "sde")))
        for what, got, known in (*words, ("key", self.key, ("sample", "rank"))):
            check_word(name, what, got, known)
        if self.convert and self.noise != "gaussian":
            raise InputError(
                f"{name} got convert=True with discrete noise, which has no calculus; use noise='gaussian'"
            )
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise `InputError` for options that make no sense."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether it changes nothing."""

    @property
    def limit(self) -> Reached:
        """What a network of ever more and shorter layers tends to: the ordinary equation, or the stochastic one."""
        return self.scaling

    @property
    def brownian(self) -> Brownian:
        """How the Brownian motion of the diffusion limit is drawn."""
        return Increments(key=self.key)

    def wrap(self, term: Term) -> Term:
        """The term with noise: discrete, or as a stochastic term."""
        if self.idle:
            return term
        name = type(self).__name__
        if isinstance(term, Partitioned):
            if self.noise == "gaussian":
                raise InputError(f"{name} got gaussian noise and a Partitioned term; its halves go with discrete noise")
            return Partitioned(self.wrap(term.velocity), self.wrap(term.force))
        if not isinstance(innermost_term(term), Layered | ODETerm):
            raise InputError(
                f"{name} got the term {type(term).__name__}; it goes with Layered, ODETerm and Partitioned terms, and "
                "those with discrete noise: gaussian noise comes last"
            )
        if self.noise == "discrete":
            return Perturbed(term, self)
        diffused = Diffused(term, self)
        return Converted(diffused) if self.convert else diffused


def one_number(y: Tensor, whole: bool) -> Tensor:
    """A tensor of the shape of noise with one number for each sample, or for the whole batch."""
    return y.new_empty(1 if whole else len(y), *[1] * (y.dim() - 1))


def innermost_term(term: Term) -> Term:
    """The term itself, without the noise around it."""
    while isinstance(term, Perturbed):
        term = term.inner
    return term
