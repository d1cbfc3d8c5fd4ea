"""Brownian motion: what it is a function of, and what it did over an interval."""

from .base import LEVY, SPACE_TIME, Brownian, Grid, Increment, Path, Still
from .increments import Increments
from .interval import Interval
from .key import Key, Stream, keyed, lasting_stream, next_stream, redrawn

__all__ = [
    "LEVY",
    "SPACE_TIME",
    "Brownian",
    "Grid",
    "Increment",
    "Increments",
    "Interval",
    "Key",
    "Path",
    "Still",
    "Stream",
    "keyed",
    "lasting_stream",
    "next_stream",
    "redrawn",
]
