"""Step control: which steps a solve takes between its output times."""

from .base import AdaptiveSteps, Controller, FixedSteps
from .constant import Constant
from .numbers import Numbers, arithmetic
from .pid import PID

__all__ = ["PID", "AdaptiveSteps", "Constant", "Controller", "FixedSteps", "Numbers", "arithmetic"]
