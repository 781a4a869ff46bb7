"""Graph files: found by name or path, loaded, called; each brings its own verbs."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dask
import xarray as xr

from lensflow import events, share
from lensflow.engine import sizes
from lensflow.engine.cards import graph_card
from lensflow.engine.params import Parameters, nearest
from lensflow.errors import BadInput, BadOption, LensflowError, UnknownName
from lensflow.events import Note, plain

if TYPE_CHECKING:
    from collections.abc import Callable

PROVENANCE = "lensflow"  # the root attribute that says which graph made a dataset, with which arguments


def shipped() -> dict[str, Path]:
    """Return the graph files that come with lensflow, by name."""
    return {path.stem: path.resolve() for path in sorted(share.folder("graphs").glob("*.py"))}


def summary(path: Path) -> str:
    """Return the first line of a graph file's docstring, without running the file.

    Raises
    ------
    BadInput
        If it is not Python.
    """
    try:
        found = ast.get_docstring(ast.parse(_source(path)))
    except SyntaxError as error:
        raise BadInput(f"{path}: not valid Python (line {error.lineno}: {error.msg})") from error
    return (found or "").partition("\n")[0]


def graph(name: str | Path) -> Graph:
    """Load a graph by name (a shipped one) or by the path of a file.

    Parameters
    ----------
    name
        ``"ps1_convolution"``, or a path such as ``"./mine.py"``.

    Raises
    ------
    UnknownName
        If no shipped graph has that name; the nearest one is named.
    BadInput
        If the file is missing, does not run, or holds no ``graph`` function.
    """
    known = shipped()
    if str(name) in known:
        return _load(known[str(name)])
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        if not path.is_file():
            raise BadInput(f"{path}: no such graph file; give the path of a Python file that holds graph()")
        return _load(path)
    raise UnknownName(
        f"no graph is called {str(name)!r}; there are {', '.join(known)}, or give the path of your own file."
        f"{nearest(str(name), known)}"
    )


@dataclass(frozen=True, eq=False)
class Graph:
    """A workflow: call it for a lazy dataset, hand that to :func:`lensflow.run`."""

    name: str
    path: Path
    source: str = field(repr=False)
    parameters: Parameters = field(repr=False)
    module: ModuleType = field(repr=False)
    __wrapped__: Callable[..., Any] = field(repr=False)  # so that ``ps1?`` shows its signature

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return inspect.getdoc(self.__wrapped__) or inspect.getdoc(self.module) or ""

    @property
    def reference(self) -> str:
        """What :func:`graph` needs to load it again: the name of a shipped graph, else the path."""
        return self.name if self.path == shipped().get(self.name) else str(self.path)

    @property
    def summary(self) -> str:
        """The first line of the file's docstring."""
        return summary(self.path)

    @property
    def sha256(self) -> str:
        """Hash of the file's text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def verb(self, name: str) -> Callable[..., Any]:
        """Return the function ``name`` that the file offers beside ``graph``.

        Raises
        ------
        UnknownName
            If the file has no such verb.
        """
        found = getattr(self.module, name, None)
        if not callable(found):
            raise UnknownName(f"the graph {self.name} does not offer {name!r}: {self.path} defines no {name}()")
        return found  # type: ignore[no-any-return]

    def offers(self, name: str) -> bool:
        """Whether the file has a verb of that name."""
        return callable(getattr(self.module, name, None))

    def _repr_html_(self) -> str:
        return graph_card(self)

    def bind(self, *args: object, **kwargs: object) -> dict[str, object]:
        """Return all arguments by name, defaults included, converted to their types, paths made absolute."""
        places = [one.name for one in self.parameters.entries if one.positional]
        if len(args) > len(places):
            raise BadOption(f"{self.name} takes {len(places)} positional arguments, found {len(args)}")
        named = dict(zip(places, args, strict=False))
        if twice := sorted(named.keys() & kwargs.keys()):
            raise BadOption(f"{self.name}: {twice[0]!r} is given twice, by place and by name")
        values = {
            **{one.name: one.default for one in self.parameters.entries if not one.required},
            **self.parameters.validate({**named, **kwargs}),
        }
        return {name: value.absolute() if isinstance(value, Path) else value for name, value in values.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> xr.Dataset | xr.DataTree:  # noqa: ANN401 - the graph's own types
        """Build the lazy dataset; nothing is computed and nothing is written."""
        arguments = self.bind(*args, **kwargs)
        with dask.config.set(array_plugins=[sizes.remember]), events.collect() as notes:
            made = self.__wrapped__(**arguments)
        if not isinstance(made, xr.Dataset | xr.DataTree):
            raise BadInput(
                f"{self.path}: graph() returned {type(made).__name__}, expected an xarray Dataset or DataTree"
            )
        made.attrs[PROVENANCE] = {
            "graph": self.reference,
            "source_sha256": self.sha256,
            "arguments": plain(arguments),
            "version": version("lensflow"),
        }
        _made.update(dict.fromkeys(_lazy_names(made), _seal(made)))
        _noted[_seal(made)] = notes
        for one in notes:  # said now as well: not every dataset is run
            events.note(one.kind, one.message, **one.fields)
        return made

    def inputs(self, arguments: dict[str, object]) -> list[Path]:
        """Return the files and folders the graph reads: its ``inputs`` verb, else its path arguments."""
        if self.offers("inputs"):
            return [Path(one) for one in self.verb("inputs")(**arguments)]
        return [value for value in arguments.values() if isinstance(value, Path)]


_noted: dict[str, list[Note]] = {}  # by provenance: what graphs of this process had to say while they were built
_made: dict[str, str] = {}  # by what Dask calls it: the provenance of each array that a graph has returned


def _seal(data: xr.Dataset | xr.DataTree) -> str:
    return json.dumps(data.attrs.get(PROVENANCE), sort_keys=True)


def _lazy_names(data: xr.Dataset | xr.DataTree) -> list[str]:
    nodes = data.subtree if isinstance(data, xr.DataTree) else [data]
    return [one.data.name for node in nodes for one in node.variables.values() if one.chunks is not None]


def notes_of(data: xr.Dataset | xr.DataTree) -> list[Note]:
    """Return the notes that were made while a graph built the dataset."""
    return _noted.get(_seal(data), [])


def unchanged(data: xr.Dataset | xr.DataTree) -> bool:
    """Whether every lazy variable is as a graph returned it: attributes outlive arithmetic, and would lie."""
    return all(_made.get(name) == _seal(data) for name in _lazy_names(data))


def _load(path: Path) -> Graph:
    path = path.resolve()
    source = _source(path)
    module = _execute(path, source)
    function = getattr(module, "graph", None)
    if not callable(function):
        raise BadInput(f"{path}: the file defines no graph() function, so there is nothing to run")
    parameters = Parameters.of_function(function, path.stem)
    return Graph(path.stem, path, source, parameters, module, function)


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a Python file in UTF-8 ({error.reason} at byte {error.start})") from error


def _execute(path: Path, source: str) -> ModuleType:
    """Run a file's text as a module that is *not* left in ``sys.modules``.

    The very text that is hashed is run, not cached bytecode that may be older. cloudpickle sends what it cannot
    import by value: so the file's own functions and classes reach workers that have never seen the file.
    """
    name = f"lensflow_graph_{path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user's own file, as asked
    except LensflowError:
        raise
    except Exception as error:
        raise BadInput(f"{path}: the file does not run ({type(error).__name__}: {error})") from error
    finally:
        sys.modules.pop(name, None)
    return module
