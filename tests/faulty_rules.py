"""Gradient rules with planted faults, in a module that another process can import."""

import time
from dataclasses import replace
from typing import ClassVar

import torch

from deqlight.errors import InputError
from deqlight.gradients import Gradient, refuse_undeclared
from deqlight.integrate import integrate
from deqlight.problem import Path
from deqlight.states import leaves, unique
from deqlight.terms import ODETerm


def parameters_of(problem):
    return [t for t in unique((*problem.term.tensors(*problem.ends), *problem.solver.tensors())) if t.requires_grad]


class Again(Gradient):
    """Solves without a graph, and once more with one on the way back: right, and the same as `Direct`.

    Faults are what others do with `forth`, `back` and `handed`.
    """

    def integrate(self, problem):
        if not torch.is_grad_enabled():
            return integrate(problem)
        stats, inputs = [], self.handed(problem)
        ys = _Again.apply(self, problem, stats, len(leaves(problem.y0)), *leaves(problem.y0), *inputs)
        return Path(ys if isinstance(problem.y0, tuple) else ys[0], None, stats[0])

    def handed(self, problem):
        """What is given to autograd besides the state."""
        return parameters_of(problem)

    def forth(self, problem):
        """The solve."""
        return integrate(problem)

    def back(self, problem, outputs, grads, inputs):
        """Gradients of the inputs, from those of the outputs, of the solve that was done again."""
        return torch.autograd.grad(
            outputs, inputs, grads, allow_unused=True, create_graph=torch.is_grad_enabled(), retain_graph=True
        )

    def look_at(self, problem, outputs, y0):
        """Refuse tensors that would get no gradient."""
        refuse_undeclared(outputs, [*y0, *parameters_of(problem)])

    def again(self, problem, y0):
        """The solve on the way back, with a counter around its field."""
        calls = []
        term = problem.term.wrap(lambda field, t, y: (calls.append(1), field(t, y))[1])
        return integrate(replace(problem, term=term, y0=y0)).ys, len(calls)


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rule, problem, stats, count, *inputs):
        path = rule.forth(problem)
        stats.append(path.stats)
        ctx.rule, ctx.problem, ctx.stats, ctx.count = rule, problem, path.stats, count
        ctx.save_for_backward(*inputs)  # which sees whether one was written to
        return tuple(leaf.detach() for leaf in leaves(path.ys))

    @staticmethod
    def backward(ctx, *grads):
        start, inputs, linked = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :], torch.is_grad_enabled()
        with torch.enable_grad():
            y0 = [leaf.view_as(leaf) if linked else leaf.detach().requires_grad_() for leaf in start]
            ys, calls = ctx.rule.again(ctx.problem, tuple(y0) if isinstance(ctx.problem.y0, tuple) else y0[0])
        ctx.rule.look_at(ctx.problem, leaves(ys), y0)
        found = ctx.rule.back(ctx.problem, leaves(ys), grads, [*y0, *inputs])
        ctx.stats.nfe_backward += calls
        return (None, None, None, None, *found)


class _Hasty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, problem, stats, count, *inputs):
        ctx.inputs = inputs
        return _Again.forward(ctx, Once(), problem, stats, count, *inputs[:count])

    @staticmethod
    def backward(ctx, *grads):
        with torch.enable_grad():
            y0 = [leaf.detach().requires_grad_() for leaf in ctx.saved_tensors]
            ys, calls = ctx.rule.again(ctx.problem, tuple(y0) if isinstance(ctx.problem.y0, tuple) else y0[0])
        ctx.rule.look_at(ctx.problem, leaves(ys), y0)
        ctx.stats.nfe_backward += calls
        return (None, None, None, *ctx.rule.back(ctx.problem, leaves(ys), grads, [*y0, *ctx.inputs[ctx.count :]]))


class Once(Again):
    """The same, once differentiable, and says so."""

    def back(self, problem, outputs, grads, inputs):
        if torch.is_grad_enabled():
            raise InputError("Once gives first derivatives alone; use the gradient Direct")
        return super().back(problem, outputs, grads, inputs)


class Nested(Once):
    """Calls backward() inside of backward: gradients of parameters go straight to `.grad`."""

    def back(self, problem, outputs, grads, inputs):
        count = len(leaves(problem.y0))
        states = [leaf.detach() for leaf in inputs[:count]]
        for leaf in inputs[:count]:
            leaf.retain_grad()
        torch.autograd.backward(outputs, grads)
        states = [leaf.grad for leaf in inputs[:count]]
        return (*states, *[None] * (len(inputs) - count))


class Forgetful(Once):
    """Forgets a parameter."""

    def handed(self, problem):
        return super().handed(problem)[1:]


class Enclosed(Once):
    """Hands no parameter to autograd."""

    def handed(self, problem):
        return [torch.zeros((), requires_grad=True)]


class Nudged(Once):
    """Off by a millionth."""

    def back(self, problem, outputs, grads, inputs):
        found = super().back(problem, outputs, grads, inputs)
        return [None if g is None else g * (1 + 1e-6) for g in found]


class Stranger(Once):
    """Another solution than the solver's, by a little."""

    def forth(self, problem):
        path = integrate(problem)
        return replace(path, ys=tuple(y + 1e-9 for y in path.ys) if isinstance(path.ys, tuple) else path.ys + 1e-9)


class Unguarded(Once):
    """Draws another mask on the way back."""

    def again(self, problem, y0):
        bare = isinstance(problem.term, ODETerm)
        term = ODETerm(problem.term.field, problem.term.context) if bare else problem.term
        return super().again(replace(problem, term=term), y0)


class Silent(Once):
    """Does not tell what the way back costs."""

    def again(self, problem, y0):
        return super().again(problem, y0)[0], 0


class Detached(Again):
    """Gives a second derivative, and a wrong one."""

    def back(self, problem, outputs, grads, inputs):
        with torch.enable_grad():
            found = super().back(problem, outputs, grads, inputs)
        return [None if g is None else g.detach() for g in found]


class LastAlone(Once):
    """Differentiates the last output alone."""

    def back(self, problem, outputs, grads, inputs):
        with torch.enable_grad():
            last = [y[-1] for y in outputs]
        return super().back(problem, last, [g[-1] for g in grads], inputs)


class Greedy(Once):
    """Lets the gradient of the last backward pass stand in this one."""

    def back(self, problem, outputs, grads, inputs):
        found = super().back(problem, outputs, grads, inputs)
        seen = problem.__dict__.setdefault("_seen", 0)
        object.__setattr__(problem, "_seen", seen + 1)
        return [None if g is None else g * (1 + seen) for g in found]


class Careless(Once):
    """Does not look for tensors that would get no gradient."""

    def look_at(self, problem, outputs, y0):
        pass


class Hasty(Once):
    """Solves again with whatever the parameters are by then."""

    def integrate(self, problem):
        if not torch.is_grad_enabled():
            return integrate(problem)
        stats, inputs = [], parameters_of(problem)
        ys = _Hasty.apply(problem, stats, len(leaves(problem.y0)), *leaves(problem.y0), *inputs)
        return Path(ys if isinstance(problem.y0, tuple) else ys[0], None, stats[0])


class Stuck(Again):
    """Never comes back, in one of several processes."""

    def back(self, problem, outputs, grads, inputs):
        if torch.distributed.is_initialized():
            time.sleep(600)
        return super().back(problem, outputs, grads, inputs)


class Collective(Again):
    """Lets the processes talk at each evaluation of the field, as if all took as many."""

    def forth(self, problem):
        if not torch.distributed.is_initialized():
            return super().forth(problem)

        def talk(field, t, y):
            torch.distributed.all_reduce(torch.zeros(1))
            return field(t, y)

        return super().forth(replace(problem, term=problem.term.wrap(talk)))


class BatchWide(Once):
    """Multiplies gradients by the size of the batch: each process sees another."""

    exact: ClassVar[bool] = True

    def back(self, problem, outputs, grads, inputs):
        return [None if g is None else g * problem.batch for g in super().back(problem, outputs, grads, inputs)]


class Widening(Once):
    """Gives states in float64, whatever they were."""

    def forth(self, problem):
        path = integrate(problem)
        return replace(path, ys=tuple(y.double() for y in path.ys) if isinstance(path.ys, tuple) else path.ys.double())

    def back(self, problem, outputs, grads, inputs):
        grads = [g.to(out.dtype) for out, g in zip(outputs, grads, strict=True)]
        return super().back(problem, outputs, grads, inputs)


class Uncopied(Once):
    """Forgets, when it is copied, that it is right."""

    def __init__(self):
        self.factor = 1.0

    def __getstate__(self):
        return {"factor": 2.0}

    def back(self, problem, outputs, grads, inputs):
        return [None if g is None else self.factor * g for g in super().back(problem, outputs, grads, inputs)]


class Graphic(Once):
    """Makes a graph where none is wanted."""

    def integrate(self, problem):
        path = super().integrate(problem)
        if torch.is_grad_enabled():
            return path
        ys = tuple(y.requires_grad_() for y in path.ys) if isinstance(path.ys, tuple) else path.ys.requires_grad_()
        return replace(path, ys=ys)
