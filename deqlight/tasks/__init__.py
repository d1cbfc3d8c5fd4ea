"""Station: the task. What a network is trained for; each task wraps any network."""

from .base import Task
from .classify import Classify, Prediction
from .evaluation import Evaluation
from .forecast import Course, Forecast
from .generate import Generate, Generated
from .regress import Estimate, Regress, Regression
from .sde_net import ClassifySDENet, Scattered
from .uncertain import ClassifyUncertain, Uncertain

__all__ = [
    "Classify",
    "ClassifySDENet",
    "ClassifyUncertain",
    "Course",
    "Estimate",
    "Evaluation",
    "Forecast",
    "Generate",
    "Generated",
    "Prediction",
    "Regress",
    "Regression",
    "Scattered",
    "Task",
    "Uncertain",
]
