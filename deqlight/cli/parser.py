"""Station 1, the configuration: Lightning's parser, whose refusals are caught and said in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import lightning as L
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from ..callbacks import Best, Last
from ..errors import ConfigError
from .line import Line
from .proofread import Reader, find_value, merge, near, set_option

__all__ = ["Parser", "Rejected", "explain"]

SECTIONS = {"model": L.LightningModule, "data": L.LightningDataModule}
OPTIONS = {"trainer": L.Trainer, "best": Best, "last": Last}
VALUE = re.compile(r'Parser key "([^"]+)":\s*(Expected [^\n]*?)\.? Got value: ([^\n]*)')
UNION = re.compile(r'^\s*Parser key "([^"]+)":.*?^\s*Given value: ([^\n]*)', re.DOTALL | re.MULTILINE)
EXPECTED = re.compile(r"Expected (?:an? )?(?:<class ')?([\w. ]+)")
UNKNOWN = re.compile(r"(?:unrecognized arguments: |does not accept option ')(\S+?)(?:[='\s]|$)")


class Rejected(Exception):
    """What the parser had against a command line, in its own words."""


class Parser(LightningArgumentParser):
    """Lightning's parser, which raises where it would print pages and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the parser's message.

        Raises:
            Rejected: always.
        """
        raise Rejected(message) from ex


def explain(
    error: Rejected,
    line: Line,
    configs: Sequence[Mapping[str, Any]],
    known: Sequence[str],
    reader: Reader,
    kinds: Mapping[str, type] | None = None,
) -> ConfigError:
    """One line about what is wrong.

    Args:
        error: what the parser said.
        line: the command line.
        configs: the configuration files, in order.
        known: the parser's option names, `--trainer.max_epochs` and so on.
        reader: finds the mistake in the configuration.
        kinds: options of the command's own that name a class, by its base.
    """
    message, tree = str(error), compose(line, configs)
    names = sorted({name.lstrip("-") for name in known if name.startswith("--")})
    bases: dict[str, Any] = {name.partition(".")[0]: Any for name in names} | SECTIONS | dict(kinds or {})
    absent = [section for section in SECTIONS if section not in tree]
    if absent:
        return ConfigError(f"{' and '.join(absent)} missing; name an experiment, -c NAME, or give {_flags(absent)}")
    bare = [option for option, value in line.options() if value is None and option.lstrip("-") not in names]
    fault = next(reader.faults({k: v for k, v in tree.items() if k not in OPTIONS}, bases), None)
    for section, kind in OPTIONS.items():
        fault = fault or next(reader.options(tree.get(section) or {}, kind, section), None)
    if fault is None and bare and "expected one argument" in message:
        fault = f"{bare[-1]} needs a value"
    return ConfigError(fault or _value(message, tree) or _unknown(message, names) or _first_line(message))


def _flags(sections: Sequence[str]) -> str:
    return " and ".join(f"--{section} CLASS" for section in sections)


def compose(line: Line, configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The configuration as plain values: the files over each other, the options over them."""
    tree: dict[str, Any] = {}
    for config in configs:
        tree = merge(tree, config)
    for option, value in line.options():
        if value is not None:
            set_option(tree, option, _scalar(value))
    return tree


def _value(message: str, tree: Mapping[str, Any]) -> str | None:
    """A value of the wrong type: its full key, what is expected, what was given."""
    match = VALUE.search(message)
    if match:
        key, expected, given = match[1], EXPECTED.findall(match[2]), match[3].strip()
    else:
        union = UNION.search(message)
        if union is None:
            return None
        key, given = union[1], union[2].strip()
        expected = [kind for kind in EXPECTED.findall(message) if kind != "NoneType"]
    full = find_value(tree, key.rpartition(".")[2], given) or key
    kinds = " or ".join(dict.fromkeys(kind.rpartition(".")[2] for kind in expected)) or "another type"
    return f"{full} is {given!r}; expected {kinds}"


def _unknown(message: str, names: Sequence[str]) -> str | None:
    match = UNKNOWN.search(message)
    if match is None:
        return None
    given = match[1].lstrip("-")
    section = given.partition(".")[0] + "."
    nearby = [name for name in names if name.startswith(section)] or [name for name in names if "." not in name]
    return f"there is no option {given!r}; {near(given, nearby)}"


def _first_line(message: str) -> str:
    """The parser's own words, without the types it tried and the values it was given."""
    lines = [line.strip(" -") for line in message.splitlines()]
    kept = [
        line
        for line in lines
        if line
        and not line.startswith(
            ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")
        )
    ]
    return " ".join(kept)[:400]


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
