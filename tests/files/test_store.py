"""Stores: what holds of every one of them, and what only those far away can do wrong."""

import functools
import http.client
import http.server
import importlib.util
import os
import pickle
import socket
import sys
import threading
import uuid

import pytest

from sdie_fast.errors import BackendUnavailableError, InvalidArgumentError
from sdie_fast.files import Entry, LocalStore, RemoteStore, open_store


@pytest.fixture(scope="module")
def bucket():
    """URL of a bucket on a server of this process, to which s3:// leads meanwhile."""
    pytest.importorskip("s3fs", reason="s3://: s3fs is missing")
    server = pytest.importorskip("moto.server", reason="s3://: moto is missing")
    import boto3

    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="photos")
        yield "s3://photos"
    running.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(tmp_path / "root")
    pytest.importorskip("fsspec", reason="URLs: fsspec is missing")
    root = "memory://root" if request.param == "memory" else request.getfixturevalue("bucket")
    return open_store(f"{root}/{uuid.uuid4().hex}", patience=3)


def test_what_was_written_is_read(store):
    store.write("a b/ü[1].png", [b"12", b"34"])
    assert store.read("a b/ü[1].png") == b"1234"
    with store.create("c.tar") as file:
        file.write(b"x" * 3_000_000)
    with store.open("c.tar") as file:
        assert file.read(5) == b"xxxxx"
        assert len(file.read()) == 2_999_995
    store.write("empty", [])
    assert store.read("empty") == b""


def test_large(store, monkeypatch):
    """Above what goes by one request."""
    monkeypatch.setattr("sdie_fast.files.remote._WHOLE", 6 << 20)
    content = bytes(range(256)) * (56 << 10)  # 14 MiB
    store.write("large", [content])
    assert store.read("large") == content
    with store.open("large") as file:
        assert b"".join(iter(functools.partial(file.read, 1 << 20), b"")) == content


def test_listed(store):
    for name in ("x.png", "a/b/c.png", "a/d.png", "left/out.png", "left/e/out.png"):
        store.write(name, [b"123"])
    found = list(store.walk(lambda folder: folder == "left"))
    assert sorted(e.name for e in found) == ["a/b/c.png", "a/d.png", "x.png"]
    assert all(e.size == 3 and e.stamp for e in found)
    assert store.entry("a/d.png") == next(e for e in found if e.name == "a/d.png")


def test_stamp_is_another_when_the_content_is(store):
    store.write("x", [b"123"])
    before = store.entry("x")
    store.write("x", [b"456"])
    assert store.entry("x") != before
    assert isinstance(before, Entry)
    assert before.size == 3


def test_not_there(store):
    store.write("x", [b"123"])
    assert store.entry("y") is None
    assert store.entry("y/z") is None
    with pytest.raises(FileNotFoundError):
        store.read("y")
    with pytest.raises(FileNotFoundError):
        store.open("y")
    nowhere = open_store(store.url + "/none")
    with pytest.raises(FileNotFoundError):
        list(nowhere.walk())


def test_whole_or_not_at_all(store, monkeypatch):
    monkeypatch.setattr("sdie_fast.files.remote._WHOLE", 1000)

    def half(name, size):
        with store.create(name) as file:
            file.write(b"x" * size)
            raise OSError("disk full")

    store.write("old", [b"123"])
    for name in ("old", "new"):
        for size in (10, 7 << 20):
            with pytest.raises(OSError, match="disk full"):
                half(name, size)
    assert [(e.name, e.size) for e in store.walk()] == [("old", 3)]


def test_upload_that_breaks_leaves_nothing(bucket, monkeypatch):
    store = open_store(f"{bucket}/breaks")

    def breaks(source, target, *_):
        target.write(source.read(7 << 20))
        raise PermissionError("no longer")

    store.write("old", [b"123"])
    monkeypatch.setattr("sdie_fast.files.remote._WHOLE", 6 << 20)
    monkeypatch.setattr("shutil.copyfileobj", breaks)
    for name in ("old", "new"):
        with pytest.raises(PermissionError, match="no longer"):
            store.write(name, [bytes(8 << 20)])
    assert [(e.name, e.size) for e in store.walk()] == [("old", 3)]


def test_goes_to_another_process(store):
    store.write("x", [b"123"])
    assert pickle.loads(pickle.dumps(store)).read("x") == b"123"


def test_pages(bucket, monkeypatch):
    """More files than a page holds."""
    store = open_store(f"{bucket}/pages")
    for n in range(7):
        store.write(f"{n}.png", [b"1"])
    ask, pages = store._fs.call_s3, []

    def small(*args, **options):
        pages.append(args)
        return ask(*args, **options, MaxKeys=3)

    monkeypatch.setattr(store._fs, "call_s3", small)
    found = store.walk()
    assert next(found).name == "0.png"
    assert len(pages) == 1, "work starts before the listing is at its end"
    assert [e.name for e in found] == [f"{n}.png" for n in range(1, 7)]


class Failing:
    """A server that passes on to another, but for the first requests, which fail."""

    def __init__(self, target):
        self.target = target
        self.failures = 0
        self.seen = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen += 1
                if outer.seen <= outer.failures:
                    if outer.seen % 2:
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        self.close_connection = True
                        return
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = http.client.HTTPConnection(*outer.target)
                connection.request(self.command, self.path, body, dict(self.headers))
                reply = connection.getresponse()
                content = reply.read()
                self.send_response(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                connection.close()

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def failing(bucket, monkeypatch):
    """A server before the bucket's, whose first requests fail as one asks."""

    host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    server = Failing((host, int(port)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    # Its own retries would hide ours.
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield server
    server.server.shutdown()
    server.server.server_close()
    s3fs.S3FileSystem.clear_instance_cache()


def test_busy_for_a_while(bucket, failing):
    store = open_store(f"{bucket}/busy", patience=30)
    failing.failures = 3
    store.write("x", [b"123"])
    assert failing.seen == 4
    for call in (lambda: store.read("x"), lambda: store.entry("x").size, lambda: [e.name for e in store.walk()]):
        failing.seen = 0
        assert call() in (b"123", 3, ["x"])
        assert failing.seen > 3


def test_busy_in_the_middle_of_a_file(bucket, failing):
    store = open_store(f"{bucket}/busy", patience=30)
    content = bytes(range(256)) * (80 << 10)  # 20 MiB, more than is fetched at once
    store.write("large", [content])
    with store.open("large") as file:
        first = file.read(1000)
        before = failing.seen
        failing.failures = before + 2
        assert first + file.read() == content
    assert failing.seen > before + 2


def test_busy_for_too_long(bucket, failing):
    store = open_store(f"{bucket}/busy", patience=1)
    failing.failures = 1000
    with pytest.raises(OSError, match=r"\w"):
        store.read("x")
    assert 2 <= failing.seen < 20


def test_what_lasts_is_not_tried_again(bucket, failing):
    with pytest.raises(FileNotFoundError):
        open_store(f"{bucket}/busy").read("nowhere")
    assert failing.seen == 1


@pytest.fixture
def web(tmp_path):
    """A web server of a folder."""
    pytest.importorskip("fsspec", reason="URLs: fsspec is missing")
    pytest.importorskip("aiohttp", reason="https://: aiohttp is missing")
    for name in ("a.png", "deep/b.png"):
        LocalStore(tmp_path).write(name, [name.encode()])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_web(web):
    store = open_store(web)
    found = sorted(store.walk())
    assert [(e.name, e.size) for e in found] == [("a.png", 5), ("deep/b.png", 10)]
    assert all(e.stamp for e in found)
    assert store.read("deep/b.png") == b"deep/b.png"
    with store.open("a.png") as file:
        assert file.read(2) + file.read() == b"a.png"
    assert store.entry("none.png") is None


@pytest.mark.parametrize(
    ("status", "error", "times"), [(403, PermissionError, 1), (418, OSError, 1), (503, OSError, 2)]
)
def test_web_refuses(web, monkeypatch, status, error, times):
    asked = []

    def refuse(handler):
        asked.append(handler.path)
        handler.send_error(status)

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "do_GET", refuse)
    with pytest.raises(error, match=str(status)):
        open_store(web, patience=0.5).read("a.png")
    assert len(asked) >= times
    assert times > 1 or len(asked) == 1


def test_web_is_not_written_to(web):
    store = open_store(web)
    assert not store.writable
    with pytest.raises(InvalidArgumentError, match="read from, not written to"):
        store.write("x", [b"1"])


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/tmp/x"])
def test_names_that_lead_out_of_a_folder(tmp_path, name):
    """Keys of a bucket may be like that; what comes of them stays in OUT."""
    with pytest.raises(PermissionError, match="leads out of the folder"):
        LocalStore(tmp_path / "out").write(name, [b"1"])
    LocalStore(tmp_path / "out").write("a..b/..c", [b"1"])
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_local_urls(tmp_path):
    assert isinstance(open_store(str(tmp_path)), LocalStore)
    store = open_store(f"file://{tmp_path}/a%20b")
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path / "a b"


def test_no_such_kind():
    pytest.importorskip("fsspec", reason="URLs: fsspec is missing")
    with pytest.raises(InvalidArgumentError, match="nonsense://x"):
        open_store("nonsense://x")


@pytest.mark.parametrize(
    ("url", "module", "told"),
    [
        ("s3://b/x", "s3fs", "sdie-fast[urls]"),
        ("memory://x", "fsspec.core", "sdie-fast[urls]"),
        ("gs://b/x", "gcsfs", "pip install gcsfs"),
    ],
)
def test_missing(monkeypatch, url, module, told):
    monkeypatch.setitem(sys.modules, module, None)
    if importlib.util.find_spec("fsspec"):
        # What was found before is not looked for again.
        found = importlib.import_module("fsspec.registry")._registry
        for kind in list(found):
            monkeypatch.delitem(found, kind)
    with pytest.raises(BackendUnavailableError) as caught:
        RemoteStore(url)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
