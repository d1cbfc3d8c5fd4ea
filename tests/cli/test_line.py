import pytest

from deqlight.cli.line import read
from deqlight.errors import ConfigError


def test_files_and_flags_are_taken_out_wherever_they_stand():
    line = read(
        ["--plugin", "a.py", "fit", "--model.x", "1", "-c", "one", "--debug", "--config=two", "--y=2", "--plugin=b.py"]
    )
    assert line.command == "fit"
    assert line.configs == ("one", "two")
    assert line.plugins == ("a.py", "b.py")
    assert line.rest == ("--model.x", "1", "--y=2")
    assert line.flags == {"debug"}


def test_options_with_and_without_values():
    line = read(["fit", "--a", "1", "--b=2", "--c", "--d", "-3", "--a", "4"])
    assert list(line.options()) == [("--a", "1"), ("--b", "2"), ("--c", None), ("--d", "-3"), ("--a", "4")]
    assert line.value("--a") == "4"
    assert line.value("--e") is None
    assert line.put("--a", "5").value("--a") == "5"


def test_nothing_and_a_name():
    assert read([]).command is None
    assert read(["check", "Heun"]).rest == ("Heun",)


@pytest.mark.parametrize("words", [["fit", "-c"], ["fit", "-c", "--debug"], ["--plugin"]])
def test_a_file_must_be_named(words):
    with pytest.raises(ConfigError, match="needs a value"):
        read(words)
