"""Fields whose samples differ, shared by the tests of control: they follow the samples that are still running."""

import torch

from deqlight import ODETerm


class Rows(ODETerm):
    """`field(rates, t, y)` with a rate for each sample; `called` counts the rows of every call."""

    def __init__(self, rates, field, called=None, hook=None):
        super().__init__(lambda t, y: self._call(t, y))
        self.rates, self.inside, self.hook = rates, field, hook
        self.called = [] if called is None else called

    def _call(self, t, y):
        self.called.append(len(y))
        return self.inside(self.rates.reshape(-1, *[1] * (y.dim() - 1)), t, y)

    def rows(self, index):
        return Rows(self.rates[index], self.inside, self.called, self.hook)

    def wrap(self, hook):
        return Rows(self.rates, self.inside, self.called, hook)


def attracted(rate, t, y):
    """dy/dt = −rate · (y − cos t): as stiff as the rate is large."""
    return -rate * (y - torch.cos(torch.as_tensor(t, dtype=y.dtype)))
