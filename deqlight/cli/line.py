"""Station 1, the command line: what deqlight itself reads of it, and what goes on to the parser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import ConfigError

__all__ = ["COMMANDS", "RUNS", "Line", "read"]

RUNS = ("fit", "validate", "test", "predict")
COMMANDS = (*RUNS, "sample", "likelihood", "bench", "compare", "export", "reproduce", "doctor", "plugins", "check")
FLAGS = {
    "--debug": "debug",
    "--trust": "trust",
    "--version": "version",
    "--help": "help",
    "-h": "help",
    "--help-all": "help_all",
}
CONFIG = ("-c", "--config")


@dataclass(frozen=True)
class Line:
    """A command line, sorted: files first, then single options, so that an option always beats a file."""

    command: str | None
    """The first word that is no option."""
    configs: tuple[str, ...]
    """What `-c` gave: names of experiments or paths, in order."""
    plugins: tuple[str, ...]
    """What `--plugin` gave: paths of Python files."""
    rest: tuple[str, ...]
    """Everything else, in order."""
    flags: frozenset[str] = frozenset()
    """Which of debug, trust, version, help, help_all were given."""

    def value(self, option: str) -> str | None:
        """The last value of an option in the rest; None where it is not given."""
        return dict(self.options()).get(option)

    def options(self) -> Iterator[tuple[str, str | None]]:
        """Each option of the rest with its value, or None where no value follows."""
        words = list(self.rest)
        while words:
            word = words.pop(0)
            if not word.startswith("--"):
                continue
            option, equals, value = word.partition("=")
            if equals:
                yield option, value
            else:
                yield option, words.pop(0) if words and not words[0].startswith("--") else None

    def put(self, option: str, value: str) -> Line:
        """The same line with this option last, where it beats an earlier one."""
        return replace(self, rest=(*self.rest, f"{option}={value}"))


def read(words: list[str]) -> Line:
    """Sort a command line.

    Raises:
        ConfigError: for `-c` or `--plugin` without a value.
    """
    command: str | None = None
    found: dict[str, list[str]] = {"--config": [], "--plugin": [], "rest": []}
    flags: set[str] = set()
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        option, equals, value = word.partition("=")
        if option in (*CONFIG, "--plugin"):
            if not equals and (not waiting or waiting[0].startswith("-")):
                raise ConfigError(
                    f"{option} needs a value: {'a file' if option == '--plugin' else 'an experiment or a file'}"
                )
            found["--plugin" if option == "--plugin" else "--config"].append(value if equals else waiting.pop(0))
        elif word in FLAGS:
            flags.add(FLAGS[word])
        elif command is None and not word.startswith("-"):
            command = word
        else:
            found["rest"].append(word)
    return Line(command, tuple(found["--config"]), tuple(found["--plugin"]), tuple(found["rest"]), frozenset(flags))
