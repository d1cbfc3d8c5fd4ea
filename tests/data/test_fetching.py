"""Downloads from a server in this process, which does what servers do."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny_sets
import torch

from deqlight.data import CIFAR10, MNIST
from deqlight.data.fetching import Remote, alone, fetch
from deqlight.errors import DataError

BODY = bytes(range(256)) * 4000  # 1 MB
MD5 = tiny_sets.md5(BODY)


class Server:
    """Serves bytes by path. `cut` ends a connection after so many bytes, once; `ranges`: are parts sent?"""

    def __init__(self, files):
        self.files, self.cut, self.ranges, self.asked = dict(files), {}, True, []
        self.reached, self.pause = threading.Event(), threading.Event()
        self.pause.set()

    def answer(self, handler):
        body, wanted = self.files.get(handler.path), handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        if body is None:
            return handler.send_error(404)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if begin >= len(body):
            return handler.send_error(416)
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(body) - begin))
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        self.reached.set()
        self.pause.wait(10)
        return handler.wfile.write(body[begin : begin + self.cut.pop(handler.path, len(body))])


@contextmanager
def serving(files):
    server = Server(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def server():
    with serving({"/good": BODY, "/bad": BODY[::-1]}) as one:
        yield one


def remote(server, *paths, md5=MD5):
    return Remote("folder/file.bin", tuple(server.url + path for path in paths), md5, ("folder/file.bin",))


def there(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_file_comes_whole_and_under_its_name(server, tmp_path):
    fetch(remote(server, "/good"), tmp_path)
    assert (tmp_path / "folder/file.bin").read_bytes() == BODY
    assert there(tmp_path) == ["folder/file.bin"]


def test_a_mirror_serves_where_the_first_address_fails(server, tmp_path):
    fetch(remote(server, "/nothing", "/bad", "/good"), tmp_path)
    assert (tmp_path / "folder/file.bin").read_bytes() == BODY


def test_each_failure_is_told_with_its_address_and_the_place(server, tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(remote(server, "/nothing", "/bad"), tmp_path)
    told = str(caught.value)
    assert f"{server.url}/nothing: HTTP Error 404" in told
    assert f"{server.url}/bad: the md5 of what came is {tiny_sets.md5(BODY[::-1])}, it should be {MD5}" in told
    assert str(tmp_path / "folder/file.bin") in told
    assert there(tmp_path) == []  # what is wrong does not stay


def test_without_a_network_the_error_is_one_of_ours(server, tmp_path):
    with pytest.raises(DataError, match="could not be fetched"):
        fetch(Remote("file", ("http://127.0.0.1:9/file",), MD5, ("file",)), tmp_path)
    assert there(tmp_path) == []


def test_a_connection_that_ends_early_leaves_a_part_and_the_next_run_fetches_the_rest(server, tmp_path):
    server.cut["/good"] = 300_000
    with pytest.raises(DataError, match=r"300000 of 1024000 bytes|IncompleteRead|ended"):
        fetch(remote(server, "/good"), tmp_path)
    assert there(tmp_path) == ["folder/file.bin.part"]
    kept = (tmp_path / "folder/file.bin.part").stat().st_size
    fetch(remote(server, "/good"), tmp_path)
    assert (tmp_path / "folder/file.bin").read_bytes() == BODY
    assert server.asked == [("/good", None), ("/good", f"bytes={kept}-" if kept else None)]
    assert there(tmp_path) == ["folder/file.bin"]


@pytest.mark.parametrize(
    "left", [BODY[:5], b"another file's beginning", BODY, BODY + b"and more"], ids=["some", "other", "all", "more"]
)
@pytest.mark.parametrize("ranges", [True, False])
def test_whatever_an_interrupted_run_left_the_file_becomes_right(left, ranges, server, tmp_path):
    server.ranges = ranges
    tiny_sets.lay(tmp_path, {"folder/file.bin.part": left})
    fetch(remote(server, "/good"), tmp_path)
    assert (tmp_path / "folder/file.bin").read_bytes() == BODY
    assert there(tmp_path) == ["folder/file.bin"]


# whole data sets


def serve_set(monkeypatch, server, cls):
    """The set's archives, from the server alone."""
    tiny_sets.shrink(monkeypatch)
    files = tiny_sets.packed(cls)
    tiny_sets.vouch(monkeypatch, cls, files)
    server.files = {f"/{path}": data for path, data in files.items()}
    local = tuple(Remote(r.path, (f"{server.url}/{r.path}",), r.md5, r.holds) for r in cls().remotes)
    monkeypatch.setattr(cls, "remotes", property(lambda self: local))
    return files


@pytest.mark.parametrize("cls", [MNIST, CIFAR10])
def test_a_set_is_fetched_only_if_that_is_asked_for_and_then_once(cls, server, tmp_path, monkeypatch):
    files = serve_set(monkeypatch, server, cls)
    with pytest.raises(DataError, match="download=true"):
        cls(str(tmp_path)).prepare_data()
    assert server.asked == []
    for _ in range(2):
        data = cls(str(tmp_path), download=True)
        data.prepare_data()
        data.setup("fit")
        assert len(data._dataset) == sum(cls.samples.values())
    assert server.asked == [(f"/{path}", None) for path in files]


def test_setup_fetches_nothing(server, tmp_path, monkeypatch):
    serve_set(monkeypatch, server, CIFAR10)
    with pytest.raises(DataError, match="the trainer fetches it"):
        CIFAR10(str(tmp_path), download=True).setup("fit")
    assert server.asked == []


def test_two_at_once_fetch_and_decode_once(server, tmp_path, monkeypatch):
    files = serve_set(monkeypatch, server, CIFAR10)
    decode, decoded, found = CIFAR10.decode, [], []
    monkeypatch.setattr(CIFAR10, "decode", lambda self, *rest: decoded.append(rest[1]) or decode(self, *rest))
    server.pause.clear()

    def run():
        data = CIFAR10(str(tmp_path), download=True)
        data.prepare_data()
        data.setup("fit")
        found.append(data._dataset[torch.arange(120)].inputs)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.reached.wait(10)
    server.pause.set()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3 and all(torch.equal(one, found[0]) for one in found)
    assert server.asked == [(f"/{path}", None) for path in files]
    assert decoded == ["train", "test"]


def test_a_lock_is_let_go_of_when_its_holder_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "x" / "lock"):
        raise ZeroDivisionError
    with alone(tmp_path / "x" / "lock"):
        pass


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"), alone(tmp_path / "root" / "lock"):
        pass
