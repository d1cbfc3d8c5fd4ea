"""Station: the network. SDE-Net: noise that grows where the data ends, so that predictions scatter there."""

from __future__ import annotations

import math

from torch import nn

from ..brownian import Brownian, Increments
from ..controllers import Constant
from ..errors import InputError, ShapeError
from ..gradients import Direct, Gradient
from ..saveat import SaveAt
from ..solvers import Solver
from ..solving import check_compatible, solve
from ..terms import ODETerm
from ..terms.held import Held
from ..types import Tensor
from .several import Several, checked_draws, several
from .stage import Block

__all__ = ["SDENet"]


class SDENet(Several):
    """dx = f(t, x) dt + σ g(x₀) dW on [0, time]: the drift classifies, the diffusion says how far to trust it.

    g lies between 0 and 1, is evaluated once, at the start, and is one number for a sample; σ is larger in evaluation
    than in training. Where g is large the draws disagree. `ClassifySDENet` trains it: g towards 0 on the data and
    towards 1 outside.

    Args:
        stem: from the input to features `(batch, channels, …)`, without BatchNorm: inputs outside the data pass it too.
        drift: makes f for a number of channels, such as `MLP` or `ConcatConv`.
        diffusion: from the features to the logit of g, `(batch, 1)`, such as `Perceptron` or `ConvHead`.
        head: from features to scores `(batch, classes)`.
        channels: channels of the features.
        solver: the integrator, such as `Euler`, which is Euler and Maruyama's here.
        time: the end of the solve; 6 in the paper, with steps of length 1.
        steps: how many steps it takes.
        sigma: σ in training; the authors' code has 20 for images.
        sigma_test: σ in evaluation; there 500.
        draws: how many draws in evaluation; in training it is one.
        brownian: how Brownian motion is drawn.
        gradient: how gradients go through the solve.

    Raises:
        InputError: for sizes that make no sense, or a solver that does not go with such noise.
        ShapeError: from a call, for features and logits of other shapes.

    Reference: Kong, Sun & Zhang, SDE-Net: Equipping Deep Neural Networks with Uncertainty Estimates, ICML 2020 (arXiv
    2008.10546).
    """

    def __init__(
        self,
        stem: nn.Module,
        drift: Block,
        diffusion: nn.Module,
        head: nn.Module,
        channels: int,
        *,
        solver: Solver,
        time: float,
        steps: int,
        sigma: float,
        sigma_test: float,
        draws: int,
        brownian: Brownian = Increments(),  # noqa: B008  a frozen value
        gradient: Gradient = Direct(),  # noqa: B008  a frozen value
    ) -> None:
        super().__init__()
        for what, value in (("time", time), ("sigma", sigma), ("sigma_test", sigma_test)):
            if not (value >= 0 and math.isfinite(value)) or (what == "time" and value == 0):
                raise InputError(f"SDENet got {what}={value}; times must be above 0, σ at least 0")
        self.stem, self.drift, self.diffusion, self.head = stem, ODETerm(drift(channels)), diffusion, head
        self.channels, self.solver, self.gradient, self.brownian = channels, solver, gradient, brownian
        self.ts, self.controller = (0.0, float(time)), Constant(steps=steps)
        self.sigma, self.sigma_test, self.draws = sigma, sigma_test, checked_draws("SDENet", draws)
        check_compatible(Held(self.drift, next(self.parameters()), brownian), solver, self.controller, gradient)

    def features(self, x: Tensor) -> Tensor:
        """x₀, the state at the start, `(batch, channels, …)`, of a batch of inputs."""
        features: Tensor = self.stem(x)
        if features.shape[1] != self.channels:
            raise ShapeError(
                f"SDENet of {self.channels} channels got features of shape {tuple(features.shape)}; set its `channels`"
            )
        return features

    def logit(self, features: Tensor) -> Tensor:
        """The logit of g, `(batch,)`, at the start `(batch, channels, …)`."""
        logit: Tensor = self.diffusion(features)
        if logit.shape != (len(features), 1):
            raise ShapeError(
                f"SDENet got logits of shape {tuple(logit.shape)} from its diffusion; it needs ({len(features)}, 1)"
            )
        return logit[:, 0]

    def solved(self, features: Tensor, g: Tensor) -> Tensor:
        """The scores of each draw, `(draws, batch, classes)`, from a start and its g `(batch,)`; one in training."""
        size = (self.sigma if self.training else self.sigma_test) * g.reshape(-1, *[1] * (features.dim() - 1))
        term = Held(self.drift, size, self.brownian)

        def once() -> Tensor:
            solution = solve(
                term,
                features,
                self.ts,
                solver=self.solver,
                controller=self.controller,
                gradient=self.gradient,
                saveat=SaveAt(final=True),
            )
            scores: Tensor = self.head(solution.y1)
            return scores

        return several(once, 1 if self.training else self.draws)

    def passes(self, x: Tensor) -> Tensor:
        """The scores of each draw, `(draws, batch, classes)`; one in training."""
        features = self.features(x)
        return self.solved(features, self.logit(features).sigmoid())
