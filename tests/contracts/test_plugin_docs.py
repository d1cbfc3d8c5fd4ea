"""The plugin guide tells the truth: its code is the plugin's own and loads, and each hook and switch is explained."""

from __future__ import annotations

import re
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

from deqlight.plugin import manager, spec

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "plugin" / "write.md").read_text()
PLUGIN = ROOT / "plugins" / "deqlight-sspms"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


def test_the_guides_first_code_is_the_plugin():
    assert next(code for language, code in BLOCKS if language == "python") == (PLUGIN / "deqlight_sspms.py").read_text()


def test_the_guides_code_loads_as_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "distributions", partial(metadata.distributions, path=[str(tmp_path)]))
    file = tmp_path / "my_solver.py"
    file.write_text(next(code for language, code in BLOCKS if language == "python"))
    try:
        found = manager.load([file])
        assert found.find("deqlight_solvers", "SSPMS32").__module__ == "deqlight_inline_my_solver"
    finally:
        sys.modules.pop("deqlight_inline_my_solver", None)


def test_the_guides_entry_point_is_the_plugins():
    lines = next(code for language, code in BLOCKS if language == "toml")
    assert lines in (PLUGIN / "pyproject.toml").read_text()


@pytest.mark.parametrize("hook", [*spec.BASES, spec.CONFIGS])
def test_each_hook_is_in_the_guides_table(hook):
    assert f"| `{hook}` |" in GUIDE


def test_each_switch_is_in_the_guide_and_the_guide_knows_no_other():
    switches = set(re.findall(r"DEQLIGHT_[A-Z]+_PLUGINS", Path(manager.__file__).read_text()))
    assert switches == set(re.findall(r"DEQLIGHT_[A-Z]+_PLUGINS", GUIDE))
    assert len(switches) == 3
