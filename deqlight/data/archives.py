"""Station: the data. Files by their names, whether they lie in a folder or in an archive."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from ..errors import DataError
from .fetching import Remote, check_sum

__all__ = ["Files", "missing", "opened", "stamps"]


class Source(ABC):
    """Where files come from."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes] | None:
        """A file to read from, None where it is not among them."""


class Folder(Source):
    """Files that lie unpacked below a root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted."""
        place = self.root / folder
        return sorted(entry.name for entry in place.iterdir() if entry.is_file()) if place.is_dir() else []

    def open(self, name: str) -> IO[bytes] | None:
        """A file to read from."""
        path = self.root / name
        return path.open("rb") if path.is_file() else None


class Gzipped(Source):
    """One file, compressed."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def names(self, folder: str) -> list[str]:
        """None, or the file's."""
        place, _, name = self.name.rpartition("/")
        return [name] if place == folder else []

    def open(self, name: str) -> IO[bytes] | None:
        """The file's bytes, which are decompressed as they are read."""
        return cast("IO[bytes]", gzip.open(self.path, "rb")) if name == self.name else None


class Zipped(Source):
    """The members of a zip archive, read where they are: nothing is unpacked, and no name leads anywhere."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.members: dict[str, list[str]] = {}
        for name in archive.namelist():
            folder, _, file = name.rpartition("/")
            if file:
                self.members.setdefault(folder, []).append(file)

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted."""
        return sorted(self.members.get(folder, []))

    def open(self, name: str) -> IO[bytes] | None:
        """A member to read from."""
        folder, _, file = name.rpartition("/")
        return self.archive.open(name) if file in self.members.get(folder, []) else None


class Files:
    """The files of a data set, wherever they lie."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted."""
        return [name for source in self.sources for name in source.names(folder)]

    def open(self, name: str) -> IO[bytes]:
        """A file to read from.

        Raises:
            DataError: if it is nowhere.
        """
        for source in self.sources:
            stream = source.open(name)
            if stream is not None:
                return stream
        raise DataError(f"{name} is missing among the files of the data set; fetch them anew with download=true")

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        with self.open(name) as stream:
            return stream.read()


def missing(remotes: Sequence[Remote], root: Path) -> Remote | None:
    """The first file that is neither there nor unpacked, None where all are."""
    return next((remote for remote in remotes if not _present(remote, root)), None)


def stamps(remotes: Sequence[Remote], root: Path) -> list[tuple[str, int, int]]:
    """The files that will be read: their names, sizes and times of change."""
    names = [name for remote in remotes for name in _present(remote, root)]
    return [(name, status.st_size, status.st_mtime_ns) for name in names for status in [(root / name).stat()]]


@contextmanager
def opened(remotes: Sequence[Remote], root: Path, scratch: Path) -> Iterator[Files]:
    """The files below the root; those that must be unpacked to be read lie in the folder `scratch` for a while.

    Raises:
        DataError: for archives that are damaged, and members that are no files.
    """
    with ExitStack() as stack:
        sources: list[Source] = []
        for remote in remotes:
            path = root / remote.path
            if not path.is_file():
                sources.append(Folder(root))
                continue
            check_sum(path, remote.md5)
            if path.suffixes[-2:] == [".tar", ".gz"]:
                _unpack(path, remote.holds, scratch)
                sources.append(Folder(scratch))
            elif path.suffix == ".zip":
                sources.append(Zipped(stack.enter_context(zipfile.ZipFile(path))))
            else:
                sources.append(Gzipped(path, remote.holds[0]))
        yield Files(sources)


def _present(remote: Remote, root: Path) -> tuple[str, ...]:
    """The archive, or what it holds; an archive goes before, for it can be verified."""
    if (root / remote.path).is_file():
        return (remote.path,)
    return remote.holds if all((root / name).exists() for name in remote.holds) else ()


def _unpack(path: Path, wanted: Sequence[str], folder: Path) -> None:
    """The wanted members and no others, each a file under its own name: no member leads out of the folder."""
    with tarfile.open(path, mode="r|gz") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name not in wanted:
                continue
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                raise DataError(f"{path}: the member {name} is no file but a link or a folder; it is not read")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file)
