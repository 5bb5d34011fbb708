"""HTTP to and from the page: who may ask, what is asked, what is answered. Pixels go raw, all else as JSON."""

from __future__ import annotations

import functools
import ipaddress
import json
import socket
import sys
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InvalidArgumentError, SdieError
from .recipes import Options
from .search import Effort
from .work import Work

__all__ = ["Server"]

_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FILES = {"/" if f.name == "index.html" else f"/{f.name}": f for f in _PAGE.iterdir() if f.suffix in _KINDS}
_MOST = 2**20  # bytes of a question
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Reply(NamedTuple):
    """What is answered: a body, its type, and with pixels what they are."""

    body: bytes
    kind: str = "application/json"
    facts: Mapping[str, Any] | None = None
    status: int = 200


Ask = Mapping[str, Any]


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status=status)


def _raw(pixels: npt.NDArray[Any], facts: Mapping[str, Any]) -> Reply:
    """Pixels as uint8 or little-endian uint16; float32 in [0, 1] becomes the latter."""
    if pixels.dtype == np.float32:
        pixels, facts = np.round(pixels * np.float32(65535)).astype("<u2"), {**facts, "real": True}
    if pixels.dtype.itemsize == 2:
        pixels = pixels.astype("<u2", copy=False)
    shape = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "channels": pixels.shape[2] if pixels.ndim == 3 else 1,
    }
    return Reply(pixels.tobytes(), "application/octet-stream", {**facts, **shape, "bytes": pixels.dtype.itemsize})


def _options(ask: Ask) -> Options:
    given = ask.get("options") or {}
    if not isinstance(given, dict) or not set(given) <= set(Options._fields):
        raise InvalidArgumentError(f"options: received {str(given)[:80]}; accepted: {', '.join(Options._fields)}")
    white, each = given.get("white_level"), given.get("per_channel", False)
    if white is not None and (
        isinstance(white, bool) or not isinstance(white, (int, float)) or not 1 <= white <= 65535
    ):
        raise InvalidArgumentError(f"white_level: received {white!r}; accepted: 1 to 65535")
    if not isinstance(each, bool):
        raise InvalidArgumentError(f"per_channel: received {each!r}; accepted: true or false")
    return Options(white, each)


def _picture(work: Work, ask: Ask) -> Reply:
    shown = work.folder.open(ask.get("name"))
    whole = {"whole": shown.whole, "white_level": shown.white_level, "max": float(shown.pixels.max())}
    return _raw(shown.pixels, whole)


def _begin(work: Work, ask: Ask) -> Reply:
    work.begin_search(ask.get("recipe"), _options(ask), Effort.of(ask))
    return _json(work.search.told())


def _save(work: Work, ask: Ask) -> Reply:
    notes, replace = ask.get("notes", ""), ask.get("replace", False)
    return _json(work.save(ask.get("name"), ask.get("recipe"), notes, ask.get("seen"), _options(ask), replace))


def _cancel(work: Work, _ask: Ask) -> Reply:
    work.search.cancel()
    return _json(work.search.told())


_ROUTES: dict[tuple[str, str], Callable[[Work, Ask], Reply]] = {
    ("GET", "/api/state"): lambda work, ask: _json(work.state()),
    ("GET", "/api/pictures"): lambda work, ask: _json(work.folder.listing()),
    ("GET", "/api/thumb"): lambda work, ask: Reply(work.folder.thumb(ask.get("name")), "image/jpeg"),
    ("GET", "/api/picture"): _picture,
    ("GET", "/api/recipes"): lambda work, ask: _json(work.known()),
    ("GET", "/api/search"): lambda work, ask: _json(work.search.told()),
    ("POST", "/api/enhance"): lambda work, ask: _raw(
        *work.enhanced(ask.get("name"), ask.get("recipe"), _options(ask), ask.get("factor", 1))
    ),
    ("POST", "/api/measure"): lambda work, ask: _json(
        work.measured(ask.get("name"), ask.get("recipe"), _options(ask))
    ),
    ("POST", "/api/mask"): lambda work, ask: _raw(
        *work.masked(ask.get("name"), ask.get("recipe"), _options(ask), ask.get("mask"))
    ),
    ("POST", "/api/load"): lambda work, ask: _json(work.load(ask.get("name"), ask.get("picture"))),
    ("POST", "/api/save"): _save,
    ("POST", "/api/code"): lambda work, ask: _json(work.code(ask.get("recipe"), _options(ask), ask.get("saved"))),
    ("POST", "/api/search"): _begin,
    ("POST", "/api/cancel"): _cancel,
}


class _RefusedError(Exception):
    """A question that is not answered: a status and why."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body follows its headers at once
    timeout = 300.0  # seconds that a connection may rest
    server: Server
    server_version, sys_version = "sdie-fast", ""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        if self.server.closed:
            self.close_connection = True
            return
        try:
            reply = self._reply()
        except _RefusedError as error:
            status, why = error.args
            self.close_connection = True  # what is left of the question was not read
            reply = _json({"error": why}, status)
        except SdieError as error:
            reply = _json({"error": str(error)}, 422)
        except MemoryError:
            reply = _json({"error": "not enough memory for this picture"}, 422)
        except Exception as error:
            traceback.print_exc()
            reply = _json({"error": f"{type(error).__name__}: {error}"}, 500)
        try:
            self.send_response(reply.status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.facts is not None:
                self.send_header("X-Facts", json.dumps(reply.facts))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(reply.body)
        except OSError:
            self.close_connection = True  # the page was closed

    def _reply(self) -> Reply:
        self._admit()
        url = urllib.parse.urlsplit(self.path)
        if self.command == "GET" and url.path in _FILES:
            file = _FILES[url.path]
            return Reply(file.read_bytes(), f"{_KINDS[file.suffix]}; charset=utf-8")
        route = _ROUTES.get((self.command, url.path))
        if route is None:
            raise _RefusedError(404, f"{self.command} {url.path[:200]}: no such thing")
        ask = self._body() if self.command == "POST" else dict(urllib.parse.parse_qsl(url.query))
        return route(self.server.work, ask)

    def _admit(self) -> None:
        """Refuse questions that another site's page asks: by its origin, or by a name that it made point here."""
        host = self.headers.get("Host", "")
        if not self.server.answers_to(host):
            raise _RefusedError(403, f"Host {host[:200]!r}: not this server's name")
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        if origin not in (None, f"http://{host}") or (site not in ("none", "same-origin") and self.path != "/"):
            raise _RefusedError(403, "another site's page may not ask")

    def _body(self) -> Ask:
        # A form of another site cannot have this type.
        if self.headers.get("Content-Type", "").split(";")[0].strip() != "application/json":
            raise _RefusedError(415, "Content-Type: application/json is accepted")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > _MOST:
            raise _RefusedError(413, f"Content-Length: up to {_MOST} is accepted")
        try:
            ask = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"the question is not JSON: {error}") from error
        if not isinstance(ask, dict):
            raise InvalidArgumentError("the question is no JSON object")
        return ask


class Server(ThreadingHTTPServer):
    """The page's server.

    Parameters
    ----------
    work : Work
    host : str
        Address to listen at.
    port : int
        0 means any that is free.

    Raises
    ------
    InvalidArgumentError
        It cannot listen at the address.
    """

    daemon_threads = True

    def __init__(self, work: Work, host: str = "127.0.0.1", port: int = 0) -> None:
        self.work, self._host, self.closed = work, host, False
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InvalidArgumentError(f"--host, --port: cannot listen at {host}:{port}: {error.args[-1]}") from error

    def server_bind(self) -> None:
        """Bind, without asking a name server what the address is called."""
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            self.allow_reuse_address = False
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address))
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self._host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host and host[0] != '[' else host}:{self.server_port}/"

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names this server: by a number, or by a name that no other site can have.

        The port may be another: that of a tunnel.
        """
        name = _name_in(host)
        return _is_number(name) or name in ("localhost", self._host.lower(), _own_name(), f"{_own_name()}.local")

    def __enter__(self) -> Server:
        """Serve in a thread until the block ends."""
        threading.Thread(target=functools.partial(self.serve_forever, 0.1), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def server_close(self) -> None:
        """Close, the connections that rest included."""
        self.closed = True
        super().server_close()


@functools.cache
def _own_name() -> str:
    return socket.gethostname().lower()


def _name_in(host: str) -> str:
    try:
        parts = urllib.parse.urlsplit(f"//{host}")
        return parts.hostname or "" if parts.netloc == host and "@" not in host else ""
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
