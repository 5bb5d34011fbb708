"""SAM by ONNX Runtime, from a directory that `sdie-fast export-sam` wrote, or of graphs that others exported."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import _validate
from ..errors import ModelError
from ..files import replace_file
from .exported import CONVENTIONS, OURS, Graphs
from .geometry import Embeddings, Floats, Geometry, Prompt, as_images
from .onnx import Options, open_session
from .segmenter import Segmenter, geometry_of_one

__all__ = [
    "PRECISIONS", "SMALL_SAM", "SMALL_THRESHOLDS", "Sam", "SamManifest", "file_hash", "load_manifest", "point_arrays",
]  # fmt: skip

SMALL_SAM = Path(__file__).parents[1] / "models" / "small_sam"  # what ships
# On 120 procedural scenes (tools/tune_prompts.py) 0.5 and 0.8 reach a mean IoU of 0.671 and these 0.657; on
# photographs, whose edges are softer, the stricter ones leave out half of what is right.
SMALL_THRESHOLDS = (0.5, 0.6)

FORMAT = "sdie_fast sam 1"
FILE_NAME = "manifest.json"
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class SamManifest:
    """A model's facts. Of graphs that others exported `graph` and a name suffice, unless the sizes differ.

    Attributes
    ----------
    name : str
        Architecture: "vit_b", "vit_l", "vit_h" or "small"; anything for graphs of others.
    precision : {"fp32", "fp16", "int8"}
        Of the encoder's weights and arithmetic; layer normalisation is always fp32. int8: of its
        linear layers.
    size : int
        Side of the square input in pixels.
    channels, embedding_size : int
        The embedding is (channels, embedding_size, embedding_size).
    pixel_mean, pixel_std : tuple of float
        Of the three channels, for intensities of 0 to 255.
    mask_threshold : float
        Logits above it are inside.
    graph : str
        Whose names the graphs' inputs and outputs have: a key of `exported.CONVENTIONS`.
    encoder, decoder : str
        Names of the files.
    files : dict of str to str
        SHA-256 of each file, by its name in the directory.
    parity : dict
        What the export measured against torch.
    made_with : dict of str to str
        Versions.
    """

    name: str
    precision: str = "fp32"
    size: int = 1024
    channels: int = 256
    embedding_size: int = 64
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()
    mask_threshold: float = 0.0
    graph: str = OURS
    encoder: str = "encoder.onnx"
    decoder: str = "decoder.onnx"
    files: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)

    @property
    def small(self) -> bool:
        """Whether it is the small SAM: others may call theirs so, too."""
        return (self.name, self.graph) == ("small", OURS)

    def save(self, directory: Path) -> None:
        """Write it, by atomic rename."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        replace_file(directory / FILE_NAME, lambda file: file.write(text.encode()))


def load_manifest(directory: Path, *, verify: bool = True) -> SamManifest:
    """Read a directory's manifest and check its files.

    Parameters
    ----------
    directory : Path
        As `sdie-fast export-sam` writes it, or with a manifest of one's own.
    verify : bool
        Whether to hash the files (about a second a gigabyte). Graphs of others, and what lies beside them under their
        names (weights), are hashed where the manifest does not: answers are kept by these hashes.

    Raises
    ------
    ModelError
        No manifest, not a valid one, or a file that is missing or not the one it names.
    """
    path = directory / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; {directory} is not what `sdie-fast export-sam` writes") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    try:
        if content.pop("format") != FORMAT:
            raise ModelError(f"{path}: another format than {FORMAT!r}")
        graph = content.get("graph", OURS)
        if graph not in CONVENTIONS:
            raise ModelError(f"{path}: graph: received {graph!r}; accepted: {', '.join(CONVENTIONS)}")
        for key, usual in (("pixel_mean", CONVENTIONS[graph].mean), ("pixel_std", CONVENTIONS[graph].std)):
            content[key] = tuple(float(v) for v in content.get(key, usual))
            if len(content[key]) != 3 or (key == "pixel_std" and min(content[key]) <= 0):
                raise ModelError(f"{path}: {key}: received {content[key]}; accepted: three numbers, a std above 0")
        manifest = SamManifest(**content)
        numbers = (manifest.size, manifest.channels, manifest.embedding_size)
        if any(not isinstance(n, int) or n < 1 for n in numbers) or manifest.precision not in PRECISIONS:
            raise ModelError(f"{path}: sizes {numbers}, precision {manifest.precision!r}")
        parts = (manifest.encoder, manifest.decoder)
        files: dict[str, Any] = ({} if graph == OURS else dict.fromkeys(parts)) | manifest.files
        strange = [name for name in (*files, *parts) if Path(name).name != name]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not a valid manifest: {error!r}") from error
    for name in parts:
        if name not in files:
            raise ModelError(f"{path}: names no {name}")
    if strange:
        raise ModelError(f"{path}: names {strange[0]!r}, outside of its directory")
    if graph != OURS:
        stems = tuple(Path(name).stem for name in parts)
        beside = (p.name for p in sorted(directory.iterdir()) if p.is_file() and p.name.startswith(stems))
        files = dict.fromkeys(beside) | files
    for name, expected in files.items():
        file = directory / name
        if not file.is_file():
            raise ModelError(f"{file}: no such file, though {path} names it")
        if expected is None and graph != OURS:
            files[name] = file_hash(file)
        elif verify and file_hash(file) != expected:
            raise ModelError(f"{file}: not the file that {path} names: its SHA-256 differs")
    return replace(manifest, files=files)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


class Sam(Segmenter):
    """A SAM, whole or small; also SAM 2, MobileSAM, EfficientSAM and SAM-HQ, as others export them.

    Parameters
    ----------
    directory : path, optional
        As `sdie-fast export-sam` writes it, or with a manifest of one's own, as the guide has it; None means the small
        one that ships.
    options : Options, optional
        Provider, threads, cache.
    batch : int
        Images encoded at once, 1 or more: what fits in memory.
    prompts : int, optional
        Prompts decoded at once, 1 or more; None means 8 on a CPU, where more fall out of its caches, and 64 elsewhere.
    verify : bool
        Whether the files' hashes are checked.

    Raises
    ------
    ModelError
        A directory, file or runtime that cannot be used, graphs that are not what their manifest says.

    Notes
    -----
    Pickles and copies are made by these arguments: the directory is read again where they are opened.
    """

    takes_tensors = True

    def __init__(
        self,
        directory: Path | str | None = None,
        options: Options | None = None,
        *,
        batch: int = 8,
        prompts: int | None = None,
        verify: bool = True,
    ) -> None:
        where = directory and Path(directory).absolute()  # a process that opens a pickle may run elsewhere
        self._made_by = functools.partial(type(self), where, options, batch=batch, prompts=prompts, verify=verify)
        count = _validate.integer(1, 2**16)
        self._batch: int = count("batch", batch)
        self.directory = SMALL_SAM if directory is None else Path(directory)
        self.options = Options() if options is None else options
        self.manifest = load_manifest(self.directory, verify=verify)
        m = self.manifest
        paths = self.directory / m.encoder, self.directory / m.decoder
        self._encoder, self._decoder = (
            open_session(path, self.options, key=m.files[path.name], precision=precision)
            for path, precision in zip(paths, (m.precision, "fp32"), strict=True)
        )
        sizes = m.size, m.channels, m.embedding_size
        self._graphs = Graphs(m.graph, (paths[0], self._encoder), (paths[1], self._decoder), *sizes)
        if not self._graphs.together:
            self._batch = 1
        usual = 8 if self._decoder.provider == "cpu" else 64
        self._prompts: int = count("prompts", usual if prompts is None else prompts)
        # Embeddings stay on a GPU; a decoder that runs on the CPU beside an encoder that does not could not see them.
        # What stays is rows: images have to lie on the first axis.
        self._held = "cpu" not in self.providers and not any(self._graphs.convention.kept.values())
        whole = self._graphs.whole
        self._mean = np.array((0.0,) * 3 if whole else m.pixel_mean, np.float32)
        self._std = np.array((1.0,) * 3 if whole else m.pixel_std, np.float32)
        self._input = np.zeros((self._batch, 3, m.size, m.size), np.float32)  # made once, used for every image

    def __reduce__(self) -> Any:
        return self._made_by, ()

    @property
    def name(self) -> str:
        """Architecture and precision."""
        return f"SAM {self.manifest.name} {self.manifest.precision}"

    @property
    def fingerprint(self) -> str:
        """The files' hashes and what stands in for segment-anything's thresholds."""
        return f"{sorted(self.manifest.files.items())} {self.thresholds}"

    @property
    def size(self) -> int:
        """Side of the model's square input in pixels."""
        return self.manifest.size

    @property
    def thresholds(self) -> tuple[float, float]:
        """Lowest predicted IoU and stability for "auto": the small SAM's are those best on procedural scenes."""
        return SMALL_THRESHOLDS if self.manifest.small else super().thresholds

    @property
    def providers(self) -> tuple[str, str]:
        """What the encoder and the decoder really run on."""
        return self._encoder.provider, self._decoder.provider

    def take(self, images: Any, axes: str | None = None) -> list[Any]:
        """Split images into views, as `Segmenter.take`; tensors and arrays on a GPU (by torch) stay where they are."""
        if _on_host(images):
            return list(as_images(images, axes))
        return list(_tensors().as_views(images, axes))

    def encode(self, images: Any, axes: str | None = None) -> Embeddings:
        """Embed images: see `Segmenter.encode`.

        Parameters
        ----------
        images, axes
            As for `Segmenter.encode`; also tensors of the same shapes and types, and arrays on a GPU (DLPack or
            `__cuda_array_interface__`), which torch makes ready and the session reads, without a copy to the host.

        Returns
        -------
        Embeddings
            On a GPU, where `providers` names one for both parts: `features` is then a `Held`, which `decode` takes as
            it is.
        """
        views = self.take(images, axes)
        geometries = [self._graphs.geometry(view) for view in views]
        found = []
        for start in range(0, len(views), self._batch):
            part = slice(start, start + self._batch)
            found.append(self._graphs.encode(self._input_of(views[part], geometries[part]), self._held))
        return Embeddings(self._graphs.joined(found), tuple(geometries))

    def _input_of(self, views: list[Any], geometries: list[Geometry]) -> Any:
        """The encoder's input: an array, or memory of a device where the images lie on one."""
        if isinstance(views[0], np.ndarray):
            for view, geometry, out in zip(views, geometries, self._input, strict=False):
                planes = view.transpose(2, 0, 1).astype(np.float32, order="C")
                planes *= np.float32(255.0 / _validate.white_level(None, view.dtype))
                geometry.fill(planes, out, self._mean, self._std)
            return np.ascontiguousarray(self._graphs.input_of(self._input[: len(views)], geometries[0]))
        batch = _tensors().input_of(views, geometries, self._mean, self._std)
        if batch.device.type == "cuda" and self._encoder.device == "cpu":
            batch = batch.cpu()
        return _tensors().span_of(self._graphs.input_of(batch, geometries[0]))

    def decode(self, embedding: Embeddings, prompt: Prompt) -> tuple[Floats, Floats]:
        """Decode K prompts on one image's embedding: see `Segmenter.decode`.

        A decoder without the single mask of an unambiguous prompt (SAM 2, EfficientSAM) has in its place the best of
        its three by predicted IoU. One with a single mask (SAM-HQ) has it four times. EfficientSAM leaves out earlier
        masks and points labelled 0.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            As `Prompt.checked`; more points than the decoder takes.
        ModelError
            The decoder fails, or returns another number of masks than 1, 3 or 4.
        """
        geometry = geometry_of_one(embedding)
        prompt = prompt.checked(geometry, self._graphs.side)
        points, labels = point_arrays(prompt, geometry, self._graphs.convention.padded)
        return self._graphs.decode(embedding.features, points, labels, prompt.masks, self._prompts)


def point_arrays(prompt: Prompt, geometry: Geometry, padded: bool = True) -> tuple[Floats, Floats]:
    """Points and boxes as SAM's decoder takes them: a box is its corners labelled 2 and 3, no box a point labelled -1.

    Without `padded` no box is nothing.

    Returns
    -------
    points : ndarray, float32, (K, P, 2)
        In pixels of the model's input.
    labels : ndarray, float32, (K, P)
    """
    count = len(prompt)
    points, labels = [], []
    if prompt.points is not None and prompt.labels is not None:
        points.append(geometry.to_model(prompt.points))
        labels.append(prompt.labels)
    if prompt.boxes is not None:
        points.append(geometry.to_model(prompt.boxes).reshape(count, 2, 2))
        labels.append(np.tile(np.array([2.0, 3.0], np.float32), (count, 1)))
    elif padded:
        points.append(np.zeros((count, 1, 2), np.float32))
        labels.append(np.full((count, 1), -1.0, np.float32))
    return np.concatenate(points, 1), np.concatenate(labels, 1)


def _on_host(images: Any) -> bool:
    """Whether images are arrays of NumPy's, or nothing that is known."""
    some = images if isinstance(images, (list, tuple)) else [images]
    return not any(
        hasattr(image, "__cuda_array_interface__") or type(image).__module__.split(".")[0] == "torch" for image in some
    )


def _tensors() -> Any:
    try:
        from . import tensors
    except ImportError as error:
        raise ModelError(
            f"images: on a GPU they are made ready by torch; {error.name} is missing: pip install torch"
        ) from error
    return tensors
