"""The host takes sound plugins, sends faulty ones away whole, names them, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

from deqlight import solvers
from deqlight.errors import ConfigError, PluginError, PluginWarning
from deqlight.plugin import spec
from deqlight.plugin.manager import host, load

ROOT = Path(__file__).parents[2]

# name → (source after a sound solver `Victim`, what the warning says). Victim shows that a plugin is disabled whole.
FAULTS = {
    "import_error": (
        "import surely_not_installed",
        ["importing planted_", "ModuleNotFoundError", "surely_not_installed"],
    ),
    "exits": ("raise SystemExit(3)", ["SystemExit: 3"]),
    "clash": (
        "class Euler(Victim): pass\n@impl\ndef deqlight_solvers(): return [Victim, Euler]",
        ["'Euler'", "builtin (deqlight "],
    ),
    "twins": ("@impl\ndef deqlight_solvers(): return [Victim, Victim]", ["two solvers of one name", "Victim"]),
    "misspelt": (
        "@impl\ndef deqlight_solvrs(): return [Victim]",
        ["deqlight_solvrs", "did you mean deqlight_solvers?"],
    ),
    "unmarked": ("def deqlight_solvers(): return [Victim]", ["not marked as a hook", "@impl"]),
    "hookless": ("", ["has no hook", "@impl", "def deqlight_solvers(): return [Victim]"]),
    "argument": ("@impl\ndef deqlight_solvers(registry): return [Victim]", ["registry", "hookspec"]),
    "too_new": (
        "DEQLIGHT_API = (2, 0)\n@impl\ndef deqlight_solvers(): return [Victim]",
        ["needs plugin API 2.0", "has 1.1"],
    ),
    "bad_api": (
        "DEQLIGHT_API = 1\n@impl\ndef deqlight_solvers(): return [Victim]",
        ["DEQLIGHT_API = 1", "(major, minor)"],
    ),
    "raises": ("@impl\ndef deqlight_solvers(): return [Victim, 1 / 0]", ["ZeroDivisionError"]),
    "no_return": (
        "@impl\ndef deqlight_solvers(): [Victim]",
        ["deqlight_solvers returned None", "it must return a list"],
    ),
    "no_list": ("@impl\ndef deqlight_solvers(): return Victim", ["it must return a list"]),
    "stranger": (
        "@impl\ndef deqlight_solvers(): return [Victim, dict]",
        ["dict is not one", "deqlight.solvers.Solver"],
    ),
    "instance": ("@impl\ndef deqlight_solvers(): return [Victim()]", ["as classes, not instances"]),
    "abstract": (
        "class A(Solver): pass\n@impl\ndef deqlight_solvers(): return [Victim, A]",
        ["A does not define step"],
    ),
    "no_info": (
        "class N(Solver):\n    step = Victim.step\n@impl\ndef deqlight_solvers(): return [Victim, N]",
        ["N has no info", "SolverInfo(order=…"],
    ),
    "no_examples": (
        "class N(Victim):\n    def __init__(self, k): pass\n@impl\ndef deqlight_solvers(): return [Victim, N]",
        ["N.examples() raised TypeError", "'k'"],
    ),
    "local": (
        "def make():\n    class L(Victim): pass\n    return L\n@impl\ndef deqlight_solvers(): return [Victim, make()]",
        ["L is defined inside a function"],
    ),
    "wrong_kind": (
        "@impl\ndef deqlight_gradients(): return [Victim]",
        ["Victim is not one", "deqlight.gradients.Gradient"],
    ),
    "no_folder": (
        "import pathlib\n@impl\ndef deqlight_solvers(): return [Victim]\n"
        "@impl\ndef deqlight_configs(): return [pathlib.Path('/no/such/folder')]",
        ["deqlight_configs returned", "folders that exist"],
    ),
}


def load_with_warnings():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load()
    return found, [str(w.message) for w in caught if w.category is PluginWarning]


def record(found, name):
    (plugin,) = [plugin for plugin in found.plugins if plugin.name == name]
    return plugin


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_plugin_is_disabled_whole_and_named_and_its_sibling_lives(garden, fault):
    rest, said = FAULTS[fault]
    garden.plant(fault, garden.without_hook("Victim") + rest, version="4.5.6")
    garden.plant_healthy("zz_sound", "Sound")  # sorted behind, so that it is loaded after the fault
    found, told = load_with_warnings()
    assert len(told) == 1
    assert f"plugin {fault} (deqlight-{fault} 4.5.6) is disabled" in told[0]
    assert all(part in told[0] for part in said), told[0]
    broken = record(found, fault)
    assert (broken.state, broken.hooks, broken.classes) == ("failed", (), ())
    assert broken.reason in told[0]
    assert "Victim" not in found.classes("deqlight_solvers")
    assert found.find("deqlight_solvers", "Sound").__name__ == "Sound"
    assert found.find("deqlight_solvers", "Euler") is solvers.Euler
    assert record(found, "zz_sound").state == "active"


def test_every_kind_of_fault_raises_when_strict(garden, monkeypatch):
    monkeypatch.setenv("DEQLIGHT_STRICT_PLUGINS", "1")
    garden.plant("misspelt", garden.without_hook("Victim") + FAULTS["misspelt"][0])
    with pytest.raises(PluginError, match=r"misspelt \(deqlight-misspelt 1\.2\) cannot be used: .* did you mean"):
        load()


def test_two_plugins_of_one_class_name_are_both_named_and_the_first_stays(garden):
    first = garden.plant_healthy("aa", "Same")
    garden.plant_healthy("bb", "Same")
    found, told = load_with_warnings()
    assert found.find("deqlight_solvers", "Same").__module__ == first
    assert len(told) == 1
    assert "brought by aa (deqlight-aa 1.2) and by bb (deqlight-bb 1.2)" in told[0]


def test_a_sound_plugin_is_recorded(garden):
    module = garden.plant("sound", garden.source("Sound"), version="3.1")
    found, told = load_with_warnings()
    assert told == []
    plugin = record(found, "sound")
    assert (plugin.distribution, plugin.version, plugin.source) == ("deqlight-sound", "3.1", module)
    assert (plugin.hooks, plugin.classes, plugin.state) == (("deqlight_solvers",), ("Sound",), "active")
    assert ("deqlight-sound:sound", "3.1") in found.manifest()
    with pytest.raises(AttributeError):
        plugin.state = "failed"
    with pytest.raises(TypeError):
        found.offers["deqlight_solvers"]["Sound"] = None


def test_a_matching_api_is_taken(garden):
    garden.plant("agrees", "DEQLIGHT_API = (1, 0)\n" + garden.source("Agrees"))
    found, told = load_with_warnings()
    assert (record(found, "agrees").state, told) == ("active", [])


@pytest.mark.parametrize("value", ["1", "bb", "zz, BB", "deqlight-bb", "deqlight_bb"])
def test_a_blocked_plugin_is_listed_and_not_even_imported(garden, monkeypatch, value):
    monkeypatch.setenv("DEQLIGHT_DISABLE_PLUGINS", value)
    garden.plant_healthy("aa", "Kept")
    module = garden.plant("bb", "raise RuntimeError('imported')")
    found, told = load_with_warnings()
    assert (record(found, "bb").state, told) == ("blocked", [])
    assert module not in sys.modules
    assert ("Kept" in found.classes("deqlight_solvers")) == (value != "1")
    assert found.find("deqlight_solvers", "Heun") is solvers.Heun
    assert "deqlight-bb:bb" not in dict(found.manifest())


@pytest.mark.parametrize("value", ["", "0"])
def test_switches_that_are_empty_or_zero_are_off(garden, monkeypatch, value):
    for switch in ("STRICT", "DISABLE", "TRACE"):
        monkeypatch.setenv(f"DEQLIGHT_{switch}_PLUGINS", value)
    garden.plant("bad", "1 / 0")
    garden.plant_healthy("good", "Good")
    found, told = load_with_warnings()
    assert (record(found, "bad").state, record(found, "good").state, len(told)) == ("failed", "active", 1)


@pytest.mark.parametrize(("rank", "warned"), [("0", 1), ("1", 0)])
def test_one_rank_of_a_machine_warns(garden, monkeypatch, rank, warned):
    monkeypatch.setenv("LOCAL_RANK", rank)
    garden.plant("bad", "1 / 0")
    found, told = load_with_warnings()
    assert (record(found, "bad").state, len(told)) == ("failed", warned)


def test_the_trace_tells_each_plugin(garden, monkeypatch, capsys):
    monkeypatch.setenv("DEQLIGHT_TRACE_PLUGINS", "1")
    monkeypatch.setenv("DEQLIGHT_DISABLE_PLUGINS", "off")
    garden.plant("off", "1 / 0")
    garden.plant_healthy("good", "Good")
    load()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "plugin builtin (deqlight 0.1.0)",
        "plugin good (deqlight-good 1.2)",
        "plugin off (deqlight-off 1.2)",
    ]
    assert "active" in lines[1]
    assert "Good" in lines[1]
    assert "blocked" in lines[2]


def test_the_order_is_that_of_the_distributions_names(garden):
    for name in ("b_two", "a_one", "c_three"):
        garden.plant_healthy(name, name.title().replace("_", ""))
    assert [plugin.name for plugin in load().plugins] == ["builtin", "a_one", "b_two", "c_three"]


def test_a_distribution_that_lies_twice_on_the_path_counts_once(garden, monkeypatch):
    garden.plant("editable", garden.source("Editable"))
    once = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: [*once(), *once()])
    found, told = load_with_warnings()
    assert (record(found, "editable").state, told) == ("active", [])


def test_one_module_under_two_names_counts_once(garden):
    module = garden.plant_healthy("aa", "Good")
    info = garden.folder / "deqlight_aa-1.2.dist-info" / "entry_points.txt"
    info.write_text(f"[deqlight]\naa = {module}\nbb = {module}\n")
    found, told = load_with_warnings()
    assert (record(found, "aa").state, record(found, "bb").state, len(told)) == ("active", "failed", 1)
    assert "already loaded as deqlight-aa:aa" in told[0]
    assert found.find("deqlight_solvers", "Good").__module__ == module


def test_unknown_names_get_the_nearest_the_list_and_the_absent(garden):
    garden.plant("bad", "1 / 0")
    found, _ = load_with_warnings()
    with pytest.raises(
        ConfigError, match=r"no solver is called 'huen'; did you mean Heun\? accepted: AB1, .*; plugin bad .* failed"
    ):
        found.find("deqlight_solvers", "huen")
    with pytest.raises(ConfigError, match=r"'solvers'.*accepted: deqlight_controllers"):
        found.classes("solvers")
    with pytest.raises(ConfigError, match="no config is called 'nothing'"):
        found.experiment("nothing")


def test_config_folders_are_found_and_their_experiments_by_name(garden):
    experiment = garden.folder / "yaml" / "experiment" / "my_planted_run.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("seed: 1\n")
    hook = f"import pathlib\n@impl\ndef deqlight_configs(): yield pathlib.Path({str(experiment.parents[1])!r})"
    source = f"{garden.source('Baker')}\n{hook}"
    garden.plant("aa", source)
    garden.plant("bb", source.replace("Baker", "Thief"))
    found, told = load_with_warnings()
    assert found.experiment("my_planted_run") == experiment
    assert experiment.parents[1] in found.configs()
    assert len(told) == 1
    assert "config 'my_planted_run' is brought by aa (deqlight-aa 1.2) and by bb" in told[0]


def test_the_builtins_are_the_public_choices_and_no_bases(garden):
    names = load().classes("deqlight_solvers")
    assert {"Euler", "Heun", "RK4", "Dopri5", "AB2", "LinearTwoStep", "Verlet"} <= set(names)
    assert not {"Solver", "ReversibleSolver", "ExplicitRungeKutta", "Step", "Tableau"} & set(names)
    assert set(load().classes("deqlight_gradients")) >= {"Direct", "Reversible"}
    assert set(load().classes("deqlight_controllers")) >= {"Constant", "PID"}


def test_the_host_of_a_process_is_loaded_once(garden):
    host.cache_clear()
    assert host() is host()
    host.cache_clear()


def test_each_hook_is_documented_and_has_a_base_or_is_the_configs():
    hooks = {name for name in vars(spec) if name.startswith("deqlight_")}
    assert hooks == {*spec.BASES, spec.CONFIGS}
    assert all(len(vars(spec)[hook].__doc__) > 40 for hook in hooks)


# What jsonargparse and a fresh interpreter see: run outside, since classes once imported cannot be taken back.
OUTSIDE = """
import sys, warnings
import deqlight.plugin, deqlight.plugin.manager
assert "torch" not in sys.modules and "lightning" not in sys.modules, "the door costs no torch"
warnings.simplefilter("ignore")
found = deqlight.plugin.manager.load()
from jsonargparse import ArgumentParser
from deqlight.solvers import Solver
parser = ArgumentParser(exit_on_error=False)
parser.add_argument("--solver", type=Solver)
for name in ("Euler", "Good"):
    print(parser.parse_args(["--solver", name]).solver.class_path)
try:
    parser.parse_args(["--solver", "Victim"])
except Exception:
    print("Victim is out of reach")
print(*(f"{p.name}={p.state}" for p in found.plugins if p.name in ("bad", "dup", "good", "typo")))
"""


def test_short_names_stay_unambiguous_and_the_door_imports_no_torch(garden):
    garden.plant("bad", "import surely_not_installed")
    garden.plant("dup", garden.without_hook("Victim") + FAULTS["clash"][0])
    garden.plant("typo", garden.without_hook("Victim") + FAULTS["misspelt"][0])
    good = garden.plant_healthy("good", "Good")
    environment = {**os.environ, "PYTHONPATH": f"{garden.folder}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", OUTSIDE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "deqlight.solvers.Euler",
        f"{good}.Good",
        "Victim is out of reach",
        "bad=failed dup=failed good=active typo=failed",
    ]
