"""Imports point one way: no part of the package imports one above it, nor does any cycle lead through two of them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sdie_fast"

# From the ground up; the parts of one line do not import each other, unless `BESIDE` says so.
LAYERS = (
    ("errors", "_core", "_resize"),
    ("files", "_needs"),
    ("_validate",),
    ("_weights",),
    ("filters",),
    ("reference", "actor", "cuda"),
    ("_backends", "recipe"),
    ("enhance",),
    ("segment", "data", "transforms", "line"),
    ("learn",),
    ("batch", "evaluate", "tune"),
    ("_bench",),
    ("_cli",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# `cuda.arrays` and `cuda.views` describe arrays by the driver and the errors alone.
BESIDE = {("cuda", "actor"), ("_validate", "cuda")}
# A filter's function calls the backends, an actor ONNX Runtime, the device's path its backend: each when it is called.
WHEN_CALLED = {("filters", "_backends"), ("actor", "segment")}


def part_of(path: Path) -> str:
    """Name of the module or package below `sdie_fast` that a file is of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[int, str, bool]]:
    """Line, part and whether it is inside a function, of each import from the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(outer)
    }
    above = path.relative_to(PACKAGE).parts[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [n.name.split(".")[1] for n in node.names if n.name.startswith("sdie_fast.")]
            found += [(node.lineno, name, node in called) for name in names]
        if not isinstance(node, ast.ImportFrom):
            continue
        module = (node.module or "").split(".") if node.module else []
        if node.level:
            module = [*above[: len(above) - node.level + 1], *module]
        elif module[:1] == ["sdie_fast"]:
            module = module[1:]
        else:
            continue
        # `from . import x`: a module, or a public name of the package.
        names = module[:1] or [n.name for n in node.names if n.name in LEVEL]
        found += [(node.lineno, name, node in called) for name in names]
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_point_down(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    assert part in LEVEL, f"{part}: in no line of LAYERS"
    for line, other, called in imports_of(path):
        if other == part or (part, other) in BESIDE or (called and (part, other) in WHEN_CALLED):
            continue
        assert other in LEVEL, f"{path.name}:{line}: {other} is in no line of LAYERS"
        assert LEVEL[other] < LEVEL[part], f"{path.name}:{line}: {part} imports {other}, which is not below it"


@pytest.mark.parametrize(
    "package", ["learn", "evaluate", "segment", "data", "files", "batch", "line", "transforms", "tune"]
)
def test_no_cycle_within_a_package(package):
    """Modules of one package can be put in an order, too: what one imports comes before it."""
    rest = {p.stem: set() for p in (PACKAGE / package).glob("*.py")}
    for name, needed in rest.items():
        for node in ast.walk(ast.parse((PACKAGE / package / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module.split(".")[0]] if node.module else [n.name for n in node.names]
                needed |= {n for n in names if n in rest and n != name}
    while rest:
        free = [name for name, needed in rest.items() if not needed & rest.keys()]
        assert free, f"{package}: a cycle among {', '.join(sorted(rest))}"
        for name in free:
            del rest[name]
