"""The code on the pages: Python is run, commands are parsed and where they are quick run, C is compiled.

`<!-- not run: REASON -->` in the line above a block leaves it out.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import sdie_fast as sdie
from sdie_fast import cli, files
from sdie_fast.data import synthetic
from sdie_fast.segment import Auto

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMPILED_ONLY = {"gpu.md": "needs a GPU"}
COMMANDS = typer.main.get_command(cli.app).commands
QUICK = {"enhance", "export-line"}  # run where their input is there
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"(?<![\w./-])sdie-fast +(?!\w*-?\w*\s*is\b)([a-z-]+[^|;&<>\n)]*)")


def blocks(page, *languages):
    """Code of a page that is to be run, and its line."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found["language"] in languages and not found["reason"]:
            yield found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1


def commands(code):
    """Arguments of every `sdie-fast` in shell code."""
    code = re.sub(r"\$\(\(.*?\)\)", "1500", code.replace("\\\n", " "))
    code = re.sub(r"^\s*#.*$", "", code, flags=re.M)
    for found in COMMAND.finditer(code):
        yield [re.sub(r"\$\w+", "1", word) for word in shlex.split(found[1], comments=True)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the pages take for granted: photographs, recipes, a run, labelled images; the current folder."""
    monkeypatch.chdir(tmp_path)
    samples = [synthetic.surface("scratch", seed=k, size=(64, 64)) for k in range(2)]
    for k, sample in enumerate(samples):
        files.write(Path("photos") / f"{k}.png", files.Picture(sample.image))
        files.write(Path("frames12") / f"{k}.tif", files.Picture(sample.image.astype(np.uint16) * 16))
        files.write(Path("labelled/images") / f"{k}.png", files.Picture(sample.image))
        files.write(Path("labelled/masks") / f"{k}.png", files.Picture(sample.mask * np.uint8(255)))
    files.write(Path("coil.tif"), files.Picture(samples[0].image.astype(np.uint16) * 16))
    Path("list.txt").write_text("0.png\n")
    for name in ("recipe_dir", "my-recipe", "strip-a"):
        sdie.Recipe([{"identity": 1, "bilateral": 1}]).save(name)
    for name in ("run0", "run0/policy"):
        shutil.copytree(Path(sdie.__file__).parent / "models" / "sdie_small", name)
    return samples


@pytest.fixture
def names(folder, monkeypatch):
    """The names that the pages take for granted."""
    # Few points: what is decoded for "auto" would take a minute.
    monkeypatch.setattr(Auto.__init__, "__defaults__", (2, *Auto.__init__.__defaults__[1:]))
    image = synthetic.surface("scratch", seed=5).image
    mono12p = np.zeros((1024, 3072), np.uint8)
    return {
        "np": np,
        "sdie": sdie,
        "sdie_fast": sdie,
        "image": image,
        "batch": np.stack([image[:64, :64]] * 2),
        "names": np.array(["a", "b"]),
        "frames12": np.full((2, 64, 64), 4095, np.uint16),
        "shots": [s.image for s in folder],
        "their_masks": [s.mask for s in folder],
        "camera": [mono12p],
        "blocks_of_the_camera": [np.zeros((64, 4096), np.uint8)] * 6,
        "inspect_lines": len,
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_and_quick_commands_run(page, names):
    if page.name == "start.md":  # it makes its own, and finds them again by name
        shutil.rmtree("photos")
    for language, code, line in blocks(page, "python", "sh"):
        if language == "python":
            # Lines of the page stand in the traceback.
            compiled = compile("\n" * (line - 1) + code, str(page), "exec")
        if page.name in COMPILED_ONLY:
            continue
        if language == "python":
            try:
                exec(compiled, names)
            except ModuleNotFoundError as error:
                pytest.skip(f"{page.name}:{line}: {error.name} is not installed")
            continue
        for arguments in commands(code):
            given = [a for a in arguments[1:] if not a.startswith("-")]
            remote = any("://" in a or a.startswith("local:") for a in arguments)
            if arguments[0] in QUICK and not remote and (not given or Path(given[0]).exists()):
                result = CliRunner().invoke(cli.app, arguments)
                assert result.exit_code == 0, f"{page.name}:{line}: {shlex.join(arguments)}: {result.output}"


@pytest.mark.parametrize("page", ["README", "errors", "filters", "recipes", "segmentation", "transforms"])
def test_the_first_block_runs_alone(page, folder, monkeypatch):
    """It is what a newcomer copies."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(Auto.__init__, "__defaults__", (2, *Auto.__init__.__defaults__[1:]))
    _, code, _ = next(blocks(next(p for p in PAGES if p.stem == page and p.stem != "docs"), "python"))
    try:
        exec(code, {})
    except ModuleNotFoundError as error:
        pytest.skip(f"{page}: {error.name} is not installed")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_told(page, folder):
    for _, code, line in blocks(page, "sh", "text"):
        for name, *arguments in commands(code):
            assert name in COMMANDS, f"{page.name}:{line}: there is no sdie-fast {name}"
            try:
                COMMANDS[name].make_context(name, arguments)
            except typer.Exit:  # --help
                pass
            except Exception as error:
                raise AssertionError(f"{page.name}:{line}: {name} {shlex.join(arguments)}: {error}") from error


PREAMBLE = """
#include <sdie_fast.h>
static sdie_config config;
static int running;
static void *camera_buffer, *camera_lines, *out;
void give_up(void);
void log_it(int);
void use(void*, int64_t);
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no cc")
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "c"))], ids=lambda page: page.name)
def test_c_compiles(page, tmp_path):
    for k, (_, code, line) in enumerate(blocks(page, "c")):
        body = re.sub(r"^#include.*$", "", code, flags=re.M)
        source = tmp_path / f"{k}.c"
        source.write_text(f'{PREAMBLE}void block(void) {{\n#line {line} "{page.name}"\n{body}\n}}\n')
        command = [
            "cc",
            "-std=c99",
            "-Wall",
            "-Werror",
            "-Wno-unused",
            "-fsyntax-only",
            f"-I{ROOT / 'include'}",
            source,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "toml"))], ids=lambda page: page.name)
def test_settings_are_accepted(page, tmp_path):
    settings = pytest.importorskip("sdie_fast.learn.settings", exc_type=ImportError)
    for _, code, _ in blocks(page, "toml"):
        file = tmp_path / "mine.toml"
        file.write_text(code)
        settings.settings(settings.read_toml(file))
