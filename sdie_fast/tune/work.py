"""What the page asks for, apart from how it asks: pictures enhanced, measured and segmented, recipes kept and told."""

from __future__ import annotations

import datetime
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _needs, _validate
from .._backends import resolve
from ..enhance import Enhancer, enhance
from ..errors import InvalidArgumentError, RecipeError, SdieError
from ..files import grey
from ..learn.env import reward_of
from ..recipe import FILE_NAME, Recipe, default_recipe
from .pictures import Folder, Kept, Shown, judged, reduced
from .recipes import MOST_ROUNDS, Options, code, described, does_the_same, note_of, recipe_of, scaled, with_facts
from .search import Effort, Search

__all__ = ["Work"]

_MEASURED = 2**22  # pixels, at most
_LEAST = 32  # pixels a side of a preview
_PLAIN = Options()
_NAME = re.compile(r"[\w][\w .-]{0,79}")


class Work:
    """What answers the page's questions about one folder.

    Parameters
    ----------
    folder : path
    recipes : path, optional
        Where recipes are saved and found; None means "recipes" in the folder.
    threads : int, optional
        Of filters and segmenter.
    options : Options
        Of the page when it is opened.
    first : path, optional
        The recipe that the page begins with; None means the one that ships.
    segmenter : path, optional
        What export-sam wrote, or a map model; None means the small SAM.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipes: Path | None = None,
        threads: int | None = None,
        options: Options = _PLAIN,
        first: Path | None = None,
        segmenter: Path | None = None,
    ) -> None:
        self.recipes = folder.resolve() / "recipes" if recipes is None else recipes.resolve()
        self.folder = Folder(folder, self.recipes)
        self.threads, self.options = _validate.threads(threads), options
        self._first = default_recipe() if first is None else Recipe.load(first)
        self._words = () if first is None else ("--recipe", str(first.resolve()))  # that name it on a command line
        self._source, self._lock = segmenter, threading.Lock()
        self._model: Any = None
        self._masks, self._small = Kept(16), Kept(8)
        self.search = Search(self._lock)

    # ---- recipes

    def state(self) -> dict[str, Any]:
        """Tell what the page is made of."""
        from .. import __version__

        first = self._first
        return {
            **described(), "folder": str(self.folder.root), "recipes": str(self.recipes), "version": __version__,
            "recipe": self._editable(first, None), "options": self.options._asdict(),
            "backend": resolve("auto").name, "threads": self.threads, "most_rounds": MOST_ROUNDS,
        }  # fmt: skip

    def _editable(self, recipe: Recipe, picture: Any) -> dict[str, Any]:
        """A recipe as the page holds it; of one with a network, the weights that it gives a picture."""
        if recipe.weights is None:
            if picture is None:
                raise RecipeError(f"{recipe.name}: its weights come of a network, which needs a picture to look at")
            shown = self.folder.open(picture)
            _, weights = Enhancer(recipe, threads=self.threads, white_level=self.options.of(shown)["white_level"])(
                shown.pixels
            )
        else:
            weights = recipe.weights[: recipe.rounds // recipe.passes]
        params = recipe.params.to_dict()
        note = "" if recipe is self._first and not self._words else note_of(recipe.notes)  # not the built-in one's
        rows = [[float(str(w)) for w in row] for row in weights]  # the shortest that is this float32
        return {"name": recipe.name, "note": note, "kind": recipe.kind} | {
            "filters": list(recipe.filters), "weights": rows, "params": params
        }  # fmt: skip

    def known(self) -> list[dict[str, Any]]:
        """List the recipes that can be loaded: those saved, then the one that the page began with."""
        found = []
        for file in sorted(self.recipes.glob(f"*/{FILE_NAME}"))[:500] if self.recipes.is_dir() else ():
            try:
                recipe = Recipe.load(file)
                facts = {"rounds": recipe.rounds, "kind": recipe.kind, "notes": recipe.notes}
            except SdieError as error:
                facts = {"error": str(error)}
            found.append({"name": file.parent.name, **facts})
        first = self._first
        return [
            *found,
            {"name": "", "title": first.name, "rounds": first.rounds, "kind": first.kind, "notes": first.notes},
        ]

    def _place(self, name: Any) -> Path:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith((".", " ")):
            raise InvalidArgumentError(
                f"name: received {str(name)[:90]!r}; accepted: letters, digits, space and _ . -"
            )
        return self.recipes / name

    def load(self, name: Any, picture: Any) -> dict[str, Any]:
        """Give a recipe as the page holds it.

        Raises
        ------
        InvalidArgumentError, RecipeError
            No such name, or none that can be read.
        """
        if name == "":
            return self._editable(self._first, picture)
        return {**self._editable(Recipe.load(self._place(name)), picture), "name": name}

    def save(self, name: Any, given: Any, notes: Any, seen: Any, options: Options, replace: Any) -> dict[str, Any]:
        """Save a recipe with a note of what it was tuned on; one of that name is replaced only if `replace` says so.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError, RecipeError
            A value that cannot be used, a name that is taken, or a folder that cannot be written to.
        """
        from .. import __version__

        place, names = self._place(name), [str(s)[:200] for s in seen][:1000] if isinstance(seen, list) else []
        if (place / FILE_NAME).exists() and not _validate.flag("replace", replace):
            raise InvalidArgumentError(f"name: {name!r} is taken")
        made = f"sdie-fast tune {__version__}, {datetime.date.today()}."
        text = with_facts(_validate.text("notes", notes), names, self.folder.root.name, options, made)
        file = recipe_of(given, name=name, notes=text).save(place)
        return {"name": name, "file": str(file), "notes": text, "note": note_of(text)}

    def code(self, given: Any, options: Options, saved: Any) -> dict[str, str]:
        """Write what does the same in Python and on the command line.

        `saved` is the name of the recipe that the page's came of, "" for the first, or None. The command names it
        only where it still is the same.
        """
        words: tuple[str, ...] | None = None
        if saved is not None:
            kept, words = self._first, self._words
            try:
                if saved != "":
                    kept, words = Recipe.load(self._place(saved)), ("--recipe", str(self._place(saved)))
                if not does_the_same(kept, given):
                    words = None
            except RecipeError:
                words = None
        return code(given, options, self.folder.root, words)

    # ---- pictures

    def enhanced(
        self, name: Any, given: Any, options: Options, factor: Any = 1
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Enhance a picture, or a preview of it reduced by a factor: the pixels, and what it took.

        Raises
        ------
        SdieError
            A picture or a value that cannot be used.
        """
        recipe, shown = recipe_of(given), self.folder.open(name)
        factor = _validate.integer(1, 64)("factor", factor)
        assert factor is not None
        factor = max(1, min(factor, min(shown.pixels.shape[:2]) // _LEAST))
        small = self._small.get((*shown.key, factor), lambda: reduced(shown.pixels, factor))
        begin = time.perf_counter()
        out = self._enhance(shown, small, recipe, options, factor)
        return out, {"seconds": time.perf_counter() - begin, "factor": factor}

    def _enhance(
        self, shown: Shown, pixels: npt.NDArray[Any], recipe: Recipe, options: Options, factor: int = 1
    ) -> npt.NDArray[Any]:
        weights: Any = recipe.weights
        found: npt.NDArray[Any] = enhance(
            pixels, weights, params=scaled(recipe.params, factor), filters=recipe.filters, threads=self.threads,
            axes="HWC" if pixels.ndim == 3 else "HW", **options.of(shown),
        )  # fmt: skip
        return found

    def measured(self, name: Any, given: Any, options: Options) -> dict[str, float]:
        """Tell the seconds a recipe takes on a picture, the median of up to seven warm runs, and pixels a second.

        Of a picture above four million pixels its upper part is measured, and the time scaled.
        """
        recipe, shown = recipe_of(given), self.folder.open(name)
        pixels = shown.pixels[: max(_LEAST, _MEASURED // shown.pixels.shape[1])]
        self._enhance(shown, pixels, recipe, options)
        times: list[float] = []
        while len(times) < 7 and sum(times) < 0.1:
            begin = time.perf_counter()
            self._enhance(shown, pixels, recipe, options)
            times.append(time.perf_counter() - begin)
        seconds = float(np.median(times))
        rows = pixels.shape[0]
        return {"seconds": seconds * shown.pixels.shape[0] / rows, "rate": rows * pixels.shape[1] / seconds}

    # ---- masks

    @property
    def model(self) -> Any:
        """The segmenter, opened when it is first asked for.

        Raises
        ------
        MissingPackageError
            onnxruntime is missing.
        ModelError
            The model cannot be read.
        """
        with self._lock:
            if self._model is None:
                with _needs.needing('"sdie-fast[tune]"'):
                    import onnxruntime  # noqa: F401
                from ..segment.opening import open_segmenter

                # Half of the threads: the other half goes on answering the sliders.
                self._model = open_segmenter(self._source, "auto", max(1, self.threads // 2))
            return self._model

    def eight_bits(self, shown: Shown, pixels: npt.NDArray[Any], options: Options) -> npt.NDArray[np.uint8]:
        """Luma in 8 bits, as training sees it, by the white level."""
        if pixels.dtype == np.uint16:
            white = options.of(shown)["white_level"] or 65535.0
            pixels = (pixels / np.float32(white)).clip(0, 1).astype(np.float32)
        return grey(pixels)

    def masked(
        self, name: Any, given: Any, options: Options, mask: Any
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Segment a picture, or with a recipe the enhanced one; with the name of its mask, judge the answer.

        Returns
        -------
        marks : ndarray, uint8, (H, W)
            1 where the segmenter sees a defect, 2 where the mask does, 3 where both; at most 512 pixels a side.
        facts : dict
            Predicted IoU, seconds, and, with a mask, the IoU.
        """
        shown, model = self.folder.open(name), self.model
        key = (*shown.key, str(given), options, mask)
        return self._masks.get(key, lambda: self._masked(shown, model, given, options, mask))

    def _masked(
        self, shown: Shown, model: Any, given: Any, options: Options, mask: Any
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        pixels = shown.pixels if given is None else self._enhance(shown, shown.pixels, recipe_of(given), options)
        image = judged(self.eight_bits(shown, pixels, options))
        begin = time.perf_counter()
        with self._lock:
            found, quality = model(image, "auto", axes="HW")
        facts: dict[str, Any] = {"seconds": time.perf_counter() - begin, "quality": float(quality[0])}
        marks = found.astype(np.uint8)
        if mask is not None:
            truth = judged(self.folder.truth(shown.key[0], mask))
            facts["iou"] = reward_of(found, truth, "miou")
            marks += 2 * truth.astype(np.uint8)
        return marks, facts

    # ---- the search

    def begin_search(self, given: Any, options: Options, effort: Effort) -> None:
        """Search better weights on the labelled pictures, beside; `search.told()` says how far it is.

        Raises
        ------
        InvalidArgumentError, ModelError
            No labelled picture, a value that cannot be used, a search that is running, or something missing.
        """
        recipe = recipe_of(given)
        listed = [(p["name"], p["mask"]) for p in self.folder.listing()["pictures"] if p["mask"]]
        if not listed:
            raise InvalidArgumentError(
                "no picture of this folder has a mask; accepted: masks/x.png for images/x.png, x_mask.png for x.png"
            )
        # Spread over the folder, since neighbours are often alike.
        count = min(effort.each, len(listed))
        chosen = [listed[k * len(listed) // count] for k in range(count)]
        pairs = []
        for name, mask in chosen:
            shown = self.folder.open(name)
            pairs.append((name, self.eight_bits(shown, shown.pixels, options), self.folder.truth(name, mask)))
        self.search.begin(self.model, pairs, recipe, effort, max(1, self.threads // 2))
