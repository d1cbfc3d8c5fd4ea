"""Station: the task. What a network is trained for; each task wraps any network."""

from .base import Task
from .classify import Classify, Prediction
from .forecast import Course, Forecast
from .regress import Estimate, Regress, Regression

__all__ = ["Classify", "Course", "Estimate", "Forecast", "Prediction", "Regress", "Regression", "Task"]
