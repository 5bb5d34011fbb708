"""A folder of synthetic surfaces, and the page's server on it."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import files
from sdie_fast.data import synthetic
from sdie_fast.tune.server import Server
from sdie_fast.tune.work import Work


def write_folder(root: Path, side: int) -> Path:
    """Labelled surfaces, one of 12 bits, one in colour, one of float32, and two that nothing can be done with."""
    for k, kind in enumerate(("patch", "inclusion", "oil_spot")):
        made = synthetic.surface(kind, seed=k, size=(side, side))
        files.write(root / "images" / f"{kind}.png", files.Picture(made.image))
        files.write(root / "masks" / f"{kind}.png", files.Picture(made.mask.astype(np.uint8) * 255))
    deep = synthetic.surface("scratch", seed=7, size=(side - 10, side), dtype=np.uint16).image
    files.write(root / "deep.tif", files.Picture(deep >> 4))
    files.write(root / "real.tif", files.Picture((deep / 65535).astype(np.float32)))
    grey = synthetic.surface("water_spot", seed=8, size=(side, side - 7)).image
    files.write(root / "colour.png", files.Picture(np.stack([grey, grey // 2, 255 - grey], 2)))
    files.write(root / "tiny.png", files.Picture(np.full((3, 3), 90, np.uint8)))
    (root / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return root


@pytest.fixture
def side():
    """Of the pictures, in pixels."""
    return 96


@pytest.fixture
def folder(tmp_path, side):
    return write_folder(tmp_path / "steel", side)


@pytest.fixture
def work(folder):
    return Work(folder, threads=1)


@pytest.fixture
def recipe():
    """What the page holds of a recipe."""
    weights = [[1.0, 0.5, 0.25, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.5, 0.5, 0.0]]
    return {"filters": list(sdie.FILTERS), "weights": weights, "params": {"wls_solver": "fast", "sharpen_amount": 1.2}}


class Asked:
    """An answer: its status, headers and body."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def pixels(self):
        facts = json.loads(self.headers["X-Facts"])
        shape = facts["height"], facts["width"], facts["channels"]
        return np.frombuffer(self.body, "<u2" if facts["bytes"] == 2 else np.uint8).reshape(shape).squeeze()

    @property
    def facts(self):
        return json.loads(self.headers["X-Facts"])


@pytest.fixture
def ask(work):
    """Ask the server: `ask("/api/state")`, `ask("/api/enhance", {...})`."""
    with Server(work) as server:

        def send(path, body=None, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is None:
                connection.request("GET", path, headers=given)
            else:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                connection.request("POST", path, data, {"Content-Type": "application/json", **given})
            return Asked(connection.getresponse())

        send.server = server
        yield send
