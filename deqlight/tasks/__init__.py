"""Station: the task. What a network is trained for; each task wraps any network."""

from .classify import Classify, Prediction

__all__ = ["Classify", "Prediction"]
