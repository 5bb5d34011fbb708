"""The command `tune`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .common import Threads, complain, failing, say

PORT = 8471


def tune(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures, and masks if there are any.")],
    recipe: Annotated[
        Path | None, typer.Option(help="The recipe to begin with.", show_default="the built-in one")
    ] = None,
    recipes: Annotated[
        Path | None, typer.Option(help="Where recipes are kept.", show_default="FOLDER/recipes")
    ] = None,
    white_level: Annotated[
        float | None, typer.Option(help="Of 16-bit files: what counts as 1.", min=1, max=65535, metavar="N")
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="For masks: as segment takes it.", show_default="small SAM")
    ] = None,
    threads: Threads = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets everybody in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="0: any that is free.", min=0, max=65535, show_default=f"{PORT}, or a free one")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
) -> None:
    """Tune a recipe by eye, in the browser: a local page that shows a folder's pictures before and after.

    Drag the weights of each round and see the picture change; press ? for the keyboard. With masks in FOLDER
    (images/x.png and masks/x.png, or x_mask.png beside x.png) it shows the IoU, and Search finds weights for you.
    Save writes a recipe that `sdie-fast enhance --recipe` and `sdie.Enhancer` take. Ctrl+C ends it.

    Masks and Search need `pip install "sdie-fast[tune]"`. Nothing leaves this machine.

    Example: `sdie-fast tune photos/ --white-level 4095`
    """
    from ..errors import InvalidArgumentError
    from ..tune.recipes import Options
    from ..tune.server import Server
    from ..tune.work import Work

    with failing():
        work = Work(
            folder, recipes=recipes, threads=threads, options=Options(white_level), first=recipe, segmenter=segmenter
        )
        try:
            server = Server(work, host, PORT if port is None else port)
        except InvalidArgumentError:
            if port is not None:
                raise
            server = Server(work, host, 0)
    say(f"{server.url} shows {work.folder.root}; Ctrl+C ends it")
    if host not in ("127.0.0.1", "localhost", "::1"):
        complain(f"whoever reaches {host} sees these pictures, and can save recipes", style="yellow")
    if browser:
        import webbrowser

        webbrowser.open(server.url)
    try:
        server.serve_forever(0.1)
    except KeyboardInterrupt:
        say("ended")
    finally:
        server.server_close()
        if not work.search.close():  # a thread in the middle of a picture: the interpreter could not end under it
            os._exit(1)
