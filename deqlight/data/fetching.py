"""Station: the data. Files from the network: whole and verified, or not there at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info

from ..errors import DataError

__all__ = ["Remote", "alone", "check_sum", "fetch"]

TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as gone."""

CHUNK = 1 << 20

UNSATISFIABLE = 416
"""The status of a server that has nothing behind the bytes which are here already."""

PARTIAL = 206
"""The status of a server that sends the rest alone."""


@dataclass(frozen=True)
class Remote:
    """A file that a data set is made from."""

    path: str
    """Where it belongs below the root, with `/` between folders."""
    urls: tuple[str, ...]
    """Its addresses; each after the first is tried if those before it fail."""
    md5: str
    """Its checksum as published."""
    holds: tuple[str, ...]
    """What is read from it: paths below the root, where they lie once it is unpacked."""


def fetch(remote: Remote, root: Path) -> None:
    """Bring a file below the root.

    It grows under another name, `.part` behind its own, and gets its name once its checksum is right. A fetch that was
    interrupted goes on where it was.

    Raises:
        DataError: if no address gives the file.
    """
    target = root / remote.path
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    again = remote.urls[:1] if part.exists() else ()  # what is left of an earlier run may be wrong
    failures = []
    for url in (*again, *remote.urls):
        rank_zero_info(f"fetching {url} to {target}")
        try:
            _get(url, part)
            found = _md5(part)
        except (OSError, HTTPException) as error:
            failures.append(f"{url}: {error or type(error).__name__}")
            continue
        if found == remote.md5:
            part.replace(target)
            return
        part.unlink()
        failures.append(f"{url}: the md5 of what came is {found}, it should be {remote.md5}")
    raise DataError(
        f"{target} could not be fetched ({'; '.join(dict.fromkeys(failures))}). Run again to go on, or bring it there "
        "yourself"
    )


def check_sum(path: Path, md5: str) -> None:
    """Refuse a file that is not the published one.

    Raises:
        DataError: if its checksum is another.
    """
    found = _md5(path)
    if found != md5:
        raise DataError(
            f"{path} is damaged, or another file: its md5 is {found}, it should be {md5}. Delete it, and fetch it anew "
            "with download=true"
        )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock at `path`: one process works, others wait, and a process that ends lets go of it.

    Raises:
        DataError: if the folder cannot be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            rank_zero_info(f"another process prepares the data and holds {path}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise DataError(
            f"{path.parent} cannot be written ({error}); give a root that can be, where what is read from the files "
            "is kept"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _get(url: str, part: Path) -> None:
    """Append to `part` what is missing of it, all of it where the server does not send the rest alone."""
    begun = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "deqlight"} | ({"Range": f"bytes={begun}-"} if begun else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == UNSATISFIABLE:  # it is whole, or wrong, which its checksum tells
            return
        raise
    with response:
        rest = response.status == PARTIAL and (response.headers["Content-Range"] or "").startswith(f"bytes {begun}-")
        if response.status == PARTIAL and not rest:
            raise OSError(f"it sent {response.headers['Content-Range']} for the bytes from {begun}")
        with part.open("ab" if rest else "wb") as file:
            shutil.copyfileobj(response, file, CHUNK)
        length = response.headers["Content-Length"]
    whole = int(length) + begun * rest if length else None
    came = part.stat().st_size
    if whole is not None and came < whole:
        raise OSError(f"the connection ended after {came} of {whole} bytes")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # what the publishers give: it tells damage, not malice
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
