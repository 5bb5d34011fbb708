"""The command `enhance`."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from ..errors import ImageFileError, InvalidArgumentError
from ..files import IMAGE_SUFFIXES, Limits
from ..filters import TABLE
from .common import Json, Quiet, Threads, bars, complain, failing, needing, remark

if TYPE_CHECKING:
    from ..batch.job import Job
    from ..batch.journal import Journal
    from ..batch.listing import Pair
    from ..batch.summary import Summary
    from ..files import Store
    from ..recipe import Recipe

_INTERRUPTED = 130


def enhance(
    source: Annotated[str, typer.Argument(metavar="IN", help="An image, a folder, a URL, or shard-{000..999}.tar.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="A file, a folder or a URL; subfolders are kept.")],
    recipe: Annotated[
        Path | None, typer.Option(help="A folder that train or Recipe.save wrote.", show_default="built-in")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help=f"Instead: identity=1,wls=2 and so on, of {', '.join(TABLE)}.")
    ] = None,
    params: Annotated[str | None, typer.Option(help="With --weights: wls_solver=fast,gamma_exponent=0.7...")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of --weights.", min=1, max=100, metavar="N")] = 1,
    threads: Threads = None,
    backend: Annotated[str, typer.Option(help="auto, cuda, cpu or reference.")] = "auto",
    per_channel: Annotated[bool, typer.Option("--per-channel", help="Colour: every channel, not luma alone.")] = False,
    white_level: Annotated[
        float | None, typer.Option(help="Of 16-bit files: what counts as 1.", min=1, max=65535, metavar="N")
    ] = None,
    image_format: Annotated[
        str | None, typer.Option("--format", help="png, jpg, bmp or tiff.", show_default="as the input")
    ] = None,
    png_level: Annotated[int, typer.Option(help="0 is quick, 9 small.", min=0, max=9, metavar="0-9")] = 1,
    max_pixels: Annotated[
        int, typer.Option(help="Larger pictures are refused.", min=1, metavar="N")
    ] = Limits().pixels,
    files_from: Annotated[
        str | None, typer.Option(metavar="LIST", help="Names in IN, one a line; - is stdin.")
    ] = None,
    null: Annotated[bool, typer.Option("--null", "-0", help="LIST has zero bytes between names.")] = False,
    memory: Annotated[
        str | None, typer.Option(help="For images being worked on, like 500M.", show_default="2G, or half of it")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Where what is done is recorded.", show_default="in OUT")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what this recipe has done.")] = False,
    dask: Annotated[str | None, typer.Option(metavar="WHERE", help="tcp://..., a scheduler file, local:N.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Enhance an image, or a folder of them. A file that fails is reported and the others continue.

    Example: `sdie-fast enhance photos/ out/ --weights identity=1,wls=2 --resume`
    """
    from ..batch import pipeline, shards
    from ..batch.job import Job
    from ..batch.summary import digits

    stop = threading.Event()
    with failing(), _prompt_end(), ExitStack() as stack:
        suffix = None if image_format is None else "." + image_format.lower().lstrip(".")
        if suffix not in (None, *IMAGE_SUFFIXES):
            raise InvalidArgumentError(f"--format: received {image_format!r}; accepted: png, jpg, bmp or tiff")
        if dask is not None and (threads is not None or memory is not None):
            raise InvalidArgumentError("--threads, --memory: accepted without --dask: its workers have their own")
        budget = None if memory is None else _bytes(memory)
        job = Job(
            _recipe(recipe, weights, params, rounds), backend,
            per_channel=per_channel, white_level=white_level, png_level=png_level, limits=Limits(max_pixels),
        )  # fmt: skip
        tar = shards.is_shards(source)
        todo: tuple[Any, ...]
        options: dict[str, Any]
        if tar:
            if files_from is not None or journal is not None:
                raise InvalidArgumentError("--files-from, --journal: accepted with a folder, not with shards")
            todo, options = (shards.plan(source, target), job), {"suffix": suffix, "resume": resume}
            pipeline.check(todo[0][0].target)
        else:
            listed = None if files_from is None else _names(stack.enter_context(_opened(files_from)), null)
            *found, kept = _files(stack, source, target, job, suffix, listed, journal, resume)
            todo, options = (*found, job), {"journal": kept}
        if dask is None:
            options |= {"threads": threads, "memory": budget}
            run = partial(shards.run if tar else pipeline.run, *todo, **options)
        else:
            with needing("dask"):
                from ..batch import cluster
            options["client"] = stack.enter_context(cluster.connected(dask))
            run = partial(cluster.run_shards if tar else cluster.run, *todo, **options)
        with bars(not as_json) as bar, _interrupts(stop):
            task = bar.add_task("enhancing", total=None, told="")

            def watch(so_far: Summary, listed: int, complete: bool) -> None:
                seconds = bar.tasks[0].elapsed or 1e-9
                told = f"{digits(so_far.done / seconds)} images/s, {digits(so_far.pixels / seconds / 1e6)} Mpx/s"
                if not complete:
                    told = f"{listed:,} found so far, {told}"
                bar.update(task, completed=so_far.files, total=listed if complete else None, told=told)

            summary = run(watch=watch, stop=stop, tell=lambda message: complain(f"failed: {message}"))
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))
    elif not summary.interrupted:
        remark(str(summary))
    if summary.interrupted:
        complain(f"interrupted: {summary}; --resume goes on from there")
        if summary.left:  # threads in the middle of an image: the interpreter could not end under them
            sys.stdout.flush()
            os._exit(_INTERRUPTED)
        raise typer.Exit(_INTERRUPTED)
    if summary.failures:
        raise typer.Exit(1)


def _files(
    stack: ExitStack,
    source: str,
    target: str,
    job: Job,
    suffix: str | None,
    names: Iterator[str] | None,
    journal: Path | None,
    resume: bool,
) -> tuple[Iterator[Pair], Store, Store, Journal | None]:
    """Open IN, OUT and the journal."""
    from ..batch import listing, pipeline
    from ..batch.journal import NAME, Journal, locked

    store, out, single = listing.open_places(source, target, suffix)
    if single is not None:
        pairs = iter([single])
    else:
        pairs = listing.targets(store, out, suffix=suffix, names=names)
        try:
            first = next(pairs, None)
        except OSError as error:
            raise ImageFileError(f"IN: {source} cannot be listed: {error.strerror or error}") from error
        if first is None:
            what = f"IN: no image files ({', '.join(IMAGE_SUFFIXES)}) under {source}"
            raise InvalidArgumentError(what if names is None else "--files-from: names no file")
        pairs = itertools.chain([first], pairs)
    pipeline.check(out)
    kept = None
    if single is None and (out.local or journal is not None):
        place = Path(out.url) / NAME if journal is None else journal
        for path in {place, Path(out.url) / NAME} if out.local else {place}:
            stack.enter_context(locked(path.with_name(path.name.removesuffix(".db") + ".lock")))
        key = json.dumps([job.key, _where(store), _where(out)])
        kept = stack.enter_context(Journal(place, key, out, resume=resume, tell=complain))
    elif resume and single is None:
        raise InvalidArgumentError("--resume: OUT is a URL; accepted: with --journal FILE, from the first run on")
    return pairs, store, out, kept


@contextmanager
def _prompt_end() -> Iterator[None]:
    """End on Ctrl-C before the first image as after it."""
    try:
        yield
    except KeyboardInterrupt:
        complain("interrupted: nothing had been done")
        raise typer.Exit(_INTERRUPTED) from None


@contextmanager
def _interrupts(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set an event; once more, and the process ends at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the cursor, which the bar has hidden
            os._exit(_INTERRUPTED)
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _recipe(recipe: Path | None, weights: str | None, params: str | None, rounds: int) -> Recipe:
    from .. import FilterParams, Recipe, default_recipe

    if weights is None and params is not None:
        raise InvalidArgumentError("--params: accepted only with --weights")
    if weights is None:
        return default_recipe() if recipe is None else Recipe.load(recipe)
    if recipe is not None:
        raise InvalidArgumentError("--weights, --recipe: both were given; one is accepted")
    given = {} if params is None else {k: _value(v) for k, v in _pairs("--params", params).items()}
    return Recipe([_weights(weights)] * rounds, FilterParams.from_dict(given))  # type: ignore[arg-type]


def _where(store: Store) -> str:
    """What names a folder wherever the command is run."""
    return str(os.path.realpath(store.url)) if store.local else store.url


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - what the block raises is none of this
    except OSError as error:
        raise InvalidArgumentError(f"--files-from: {path} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _names(stream: Any, null: bool) -> Iterator[str]:
    """Names as they come, with lines ended by any system."""
    mark, rest = b"\0" if null else b"\n", b""
    while chunk := stream.read1(65536):
        *whole, rest = (rest + chunk).split(mark)
        yield from (os.fsdecode(name if null else name.removesuffix(b"\r")) for name in whole)
    yield os.fsdecode(rest)


def _bytes(text: str) -> int:
    """Read '500M' or '1.5G'."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise InvalidArgumentError(f"--memory: received {text!r}; accepted: bytes, as 500M or 2G")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def _pairs(option: str, text: str) -> dict[str, str]:
    """Read 'wls=2,sharpen=1'."""
    pairs = [part.partition("=") for part in text.split(",")]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if not all(found.values()) or len(found) < len(pairs):
        raise InvalidArgumentError(f"{option}: received {text!r}; accepted: name=value,..., each name once")
    return found


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{option}: received {text!r}; accepted: a number") from error


def _weights(text: str) -> dict[str, float] | list[float]:
    """Read 'wls=2,identity=1', or numbers in the order of the default toolkit."""
    if "=" not in text and "," not in text:
        raise InvalidArgumentError(
            f"--weights: received {text!r}; accepted: name=number,... or a number for each filter"
        )
    if "=" in text:
        return {name: _number("--weights", value) for name, value in _pairs("--weights", text).items()}
    return [_number("--weights", value) for value in text.split(",")]


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
