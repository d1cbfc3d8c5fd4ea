"""Tests are collected by importlib, which puts nothing on the path; the shared training lies one folder up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
