"""Station 1, the configuration: in what it differs from the one that a checkpoint was trained with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["differences"]

CLASS, ARGS = "class_path", "init_args"


def differences(now: Any, then: Any, key: str) -> Iterator[str]:
    """Each setting that is another one, as "key: value now, value then"; of another class, the class alone."""
    if isinstance(now, Mapping) and isinstance(then, Mapping) and now.get(CLASS) == then.get(CLASS):
        for name in {**then, **now}:
            below = key if name == ARGS else f"{key}.{name}"
            yield from differences(now.get(name), then.get(name), below)
    elif isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        for number, pair in enumerate(zip(now, then, strict=True)):
            yield from differences(*pair, f"{key}[{number}]")
    elif now != then:
        yield f"{key}: {_brief(now)} now, {_brief(then)} then"


def _brief(value: Any) -> str:
    if isinstance(value, Mapping) and CLASS in value:
        return str(value[CLASS]).rpartition(".")[2]
    text = str(value)
    return text if len(text) < 40 else f"{text[:37]}…"
