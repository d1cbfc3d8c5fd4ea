"""Station: what makes a network harder to train and better for it. A regulariser is a change of the equation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..terms import Term

__all__ = ["Regularizer"]


class Regularizer(ABC):
    """A change of the equation that a network solves: noise on its drift, a random end, a random part left out.

    A value that configs name; what it draws is drawn once per solve, by `Term.drawn`, and told apart by the step's
    ends in `Term.over`.
    """

    @abstractmethod
    def wrap(self, term: Term) -> Term:
        """The changed equation; `term` itself, where the regulariser does nothing.

        Raises:
            InputError: if the regulariser does not go with such a term.
        """
