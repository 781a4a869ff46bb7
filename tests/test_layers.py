"""The arrows between the layers point down, nothing imports in circles or computes behind the engine's back."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensflow.engine.catalog import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lensflow"
GROUND = {"errors", "events", "share", "signature"}
SCIENCE = {"ps1", "lensing", "radio", "photo"}
# layer -> the layers it may import besides its own; `lensflow` itself (its __init__) is the front door
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "events": GROUND,
    "share": GROUND,
    "signature": set(),
    "arrays": GROUND,
    **{field: GROUND | {"arrays"} for field in SCIENCE},
    "engine": GROUND,
    "cli": GROUND | {"engine"},
    "graphs": GROUND | {"arrays"} | SCIENCE,
    "lensflow": GROUND | {"engine"},
    "__main__": {"cli"},
}
GRAPH_LINES = 120


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "_share" not in path.parts}
GRAPHS = {f"graphs.{name}": path for name, path in shipped().items()}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def layer(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "graphs":
        return "graphs"
    return parts[1] if len(parts) > 1 else parts[0]


def imported(name: str, path: Path, node: ast.AST) -> Iterator[str]:
    """Yield the modules of this package that an import statement names."""
    if isinstance(node, ast.Import):
        for one in node.names:
            yield from known(one.name)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            kept = package[: len(package) - node.level + 1]
            base = ".".join([*kept, *([node.module] if node.module else [])])
        for one in node.names:
            yield from known(f"{base}.{one.name}" if f"{base}.{one.name}" in MODULES else base)


def known(module: str) -> Iterator[str]:
    if module.split(".", maxsplit=1)[0] == "lensflow":
        yield module


def at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements that run when the module is imported: not those for type checkers, nor in functions."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            todo += node.orelse
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += list(ast.iter_child_nodes(node))


@pytest.mark.parametrize("name", [*MODULES, *GRAPHS])
def test_arrows_point_down(name: str) -> None:
    path = MODULES.get(name) or GRAPHS[name]
    allowed = MAY_IMPORT.get(layer(name))
    assert allowed is not None, f"{name}: a room that the design does not know"
    wrong = [
        f"line {node.lineno}: {one}"  # type: ignore[attr-defined]
        for node in ast.walk(tree_of(path))
        for one in imported(name, path, node)
        if layer(one) not in allowed | {layer(name)}
    ]
    assert not wrong, f"{name} may import {sorted(allowed)}, it imports {wrong}"


def test_no_module_imports_itself_through_others() -> None:
    arrows = {
        name: {
            one
            for node in at_import_time(tree_of(path))
            for one in imported(name, path, node)
            if one != name and one in MODULES
        }
        for name, path in MODULES.items()
    }
    found = cycle(arrows)
    assert not found, f"import cycle: {' -> '.join(found)}"


def cycle(arrows: dict[str, set[str]]) -> list[str]:
    """Return the names along a circle, the first one again at its end; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for one in sorted(arrows.get(name, ())):
            if found := visit(one, [*trail, name]):
                return found
        done.add(name)
        return []

    for name in sorted(arrows):
        if found := visit(name, []):
            return found
    return []


def test_a_cycle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_read_right() -> None:
    name = "lensflow.engine.run"
    path = MODULES[name]

    def of(text: str) -> list[str]:
        return [one for node in ast.walk(ast.parse(text)) for one in imported(name, path, node)]

    assert of("from lensflow import share") == ["lensflow.share"]
    assert of("from lensflow import plan") == ["lensflow"]
    assert of("from lensflow.engine.run import Options") == [name]
    assert of("from . import store\nfrom ..errors import BadInput") == ["lensflow.engine.store", "lensflow.errors"]
    assert of("import lensflow.ps1.tessellation as t, numpy") == ["lensflow.ps1.tessellation"]
    assert of("import numpy\nfrom dask import array") == []


def annotations_import(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)


@pytest.mark.parametrize("name", GRAPHS)
def test_signatures_of_graphs_can_be_read_at_run_time(name: str) -> None:
    assert not annotations_import(tree_of(GRAPHS[name])), f"{name}: no `from __future__ import annotations` here"


def code_lines(path: Path) -> int:
    """Count the lines that are neither empty, nor comment, nor docstring."""
    tree = tree_of(path)
    documented = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef))]
    prose: set[int] = set()
    for node in documented:
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            prose |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in prose
        for number, line in enumerate(lines, start=1)
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_file_is_short(name: str) -> None:
    assert code_lines(GRAPHS[name]) < GRAPH_LINES


COMPUTING = {"compute", "persist"}


@pytest.mark.parametrize("name", [one for one in [*MODULES, *GRAPHS] if layer(one) not in {"engine", "cli"}])
def test_nothing_computes_but_the_engine(name: str) -> None:
    path = MODULES.get(name) or GRAPHS[name]
    wrong = [
        f"line {node.lineno}: {ast.unparse(node)[:60]}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in COMPUTING
    ]
    assert not wrong, f"{name}: {wrong}"
