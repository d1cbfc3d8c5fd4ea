"""A plugin of one file: the same door, and each fault raises, since the file was asked for by name."""

from __future__ import annotations

import pickle

import pytest

from deqlight.errors import PluginError
from deqlight.plugin.manager import load


@pytest.fixture
def file(garden):
    def write(source, name="my_solver.py"):
        path = garden.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path

    return write


def test_a_file_is_a_plugin(garden, file):
    path = file(garden.source("Mine"))
    found = load([path])
    plugin = found.plugins[-1]
    assert (plugin.name, plugin.distribution, plugin.source) == ("my_solver", "(file)", str(path))
    assert (plugin.state, plugin.classes) == ("active", ("Mine",))
    assert found.find("deqlight_solvers", "Mine")().info.order == 1


def test_its_classes_are_importable_and_can_be_pickled(garden, file):
    cls = load([file(garden.source("Mine"), "my-own.py")]).find("deqlight_solvers", "Mine")
    assert cls.__module__ == "deqlight_inline_my_own"
    assert type(pickle.loads(pickle.dumps(cls()))) is cls


def test_its_version_is_its_content(garden, file):
    path = file(garden.source("Mine"))
    before = dict(load([path]).manifest())["(file):my_solver"]
    path.write_text(path.read_text() + "\n# another\n")
    assert dict(load([path]).manifest())["(file):my_solver"] != before


def test_a_file_given_twice_counts_once(garden, file):
    path = file(garden.source("Mine"))
    assert load([path, path.parent / "." / path.name]).plugins[-1].state == "active"


def test_two_files_of_one_name_are_refused(garden, file):
    paths = [file(garden.source("One"), "a/same.py"), file(garden.source("Two"), "b/same.py")]
    with pytest.raises(PluginError, match="plugins of one name"):
        load(paths)


def test_the_switch_for_installed_plugins_does_not_stop_it(garden, file, monkeypatch):
    monkeypatch.setenv("DEQLIGHT_DISABLE_PLUGINS", "1")
    assert load([file(garden.source("Mine"))]).plugins[-1].state == "active"


def test_a_clash_with_an_installed_plugin_names_both_and_the_remedy(garden, file):
    garden.plant_healthy("there", "Mine")
    path = file(garden.source("Mine"))
    with pytest.raises(
        PluginError, match=r"brought by there \(deqlight-there 1\.2\) and by my_solver .*DISABLE_PLUGINS=there"
    ):
        load([path])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n1 / 0\n", r"my_solver\.py, line 2 raised ZeroDivisionError"),
        ("raise SystemExit(2)", r"line 1 raised SystemExit: 2"),
        ("def broken(:\n", r"raised SyntaxError"),
        ("x = 1\n", r"has no hook; it should define one of deqlight_solvers, .*@impl"),
        (
            "from deqlight.plugin import impl\n@impl\ndef deqlight_solvrs(): return []",
            r"did you mean deqlight_solvers\?",
        ),
    ],
)
def test_a_faulty_file_raises_and_says_where(garden, file, source, said):
    with pytest.raises(PluginError, match=said):
        load([file(source)])


def test_a_file_with_a_solver_and_no_hook_is_told_the_two_lines(garden, file):
    with pytest.raises(
        PluginError, match=r"add two lines at its end, `@impl` and `def deqlight_solvers\(\): return \[Mine\]`"
    ):
        load([file(garden.without_hook("Mine"))])


def test_a_missing_file_and_another_kind_of_file(garden, file):
    with pytest.raises(PluginError, match=r"there is no file .*nothing\.py"):
        load([garden.folder / "nothing.py"])
    with pytest.raises(PluginError, match=r"notes\.txt is no Python file"):
        load([file("", "notes.txt")])
