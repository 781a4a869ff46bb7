"""A typed function signature becomes options, help and checks.

One door for all: the words of a command line, the values of a job file and the arguments of a
notebook call pass through :meth:`Parameters.validate`, so they are converted and refused alike.
"""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from lensflow.errors import BadOption, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

REQUIRED = inspect.Parameter.empty
SWITCHES = {"true", "false", "1", "0", "yes", "no", "on", "off"}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" with the nearest known word, or "" where none is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a graph function or verb: its name, type, default and help."""

    name: str
    annotation: Any
    default: Any
    positional: bool
    help: str

    @property
    def option(self) -> str:
        """The spelling on the command line, such as ``--columns-per-block``."""
        return "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        """Whether the parameter has no default."""
        return self.default is REQUIRED

    @property
    def is_flag(self) -> bool:
        """Whether it is, or may be, a boolean, spelled ``--name`` and ``--no-name``; other values follow an ``=``."""
        return bool in self._alternatives()

    @property
    def is_sequence(self) -> bool:
        """Whether it takes several values, comma separated or repeated."""
        return any(get_origin(one) in {tuple, list} or one in {tuple, list} for one in self._alternatives())

    def _alternatives(self) -> tuple[Any, ...]:
        if get_origin(self.annotation) in {Union, UnionType}:
            return get_args(self.annotation)
        return (self.annotation,)

    def describe(self) -> str:
        """Return the type as a user reads it: ``number``, ``r|i|z``, ``number or none``."""
        return " or ".join(_describe(one) for one in self._alternatives())

    def convert(self, value: object) -> object:
        """Return the value converted to the parameter's type.

        Raises
        ------
        BadOption
            If the value does not fit the type.
        """
        if isinstance(value, str):
            value = self._from_word(value)
        try:
            return _adapter(self.annotation).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise BadOption(f"{self.option}: found {value!r}, expected {self.describe()} ({reason})") from error

    def _from_word(self, word: str) -> object:
        """Spell out what a word of the command line stands for before its type is checked."""
        alternatives = self._alternatives()
        if NoneType in alternatives and word.lower() in {"none", "null"}:
            return None
        if self.is_sequence and self.is_flag and word.lower() in SWITCHES:
            return word
        if self.is_sequence:
            parts = [part.strip() for part in word.split(",") if part.strip()]
            items = [one for kind in alternatives for one in get_args(kind)]
            return [_choice(part, items) for part in parts]
        return _choice(word, alternatives)


def _choice(word: str, kinds: Iterable[Any]) -> object:
    """Return the literal that a word spells, such as the number 2 of ``Literal[1, 2]``, else the word."""
    for kind in kinds:
        for choice in get_args(kind) if get_origin(kind) is Literal else ():
            if str(choice) == word:
                return choice
    return word


def _adapter(annotation: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any type a signature may name
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True))
    except PydanticUserError:  # the type brings its own configuration
        return TypeAdapter(annotation)


def _describe(annotation: object) -> str:
    plain = {int: "integer", float: "number", bool: "flag", str: "text", Path: "path", NoneType: "none"}
    if annotation in plain:
        return plain[annotation]
    if get_origin(annotation) is Literal:
        return "|".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in {Union, UnionType}:
        return " or ".join(_describe(one) for one in get_args(annotation))
    if get_origin(annotation) in {tuple, list}:
        kinds = [_describe(one) for one in get_args(annotation) if one is not Ellipsis]
        return f"{kinds[0]},..." if Ellipsis in get_args(annotation) or len(kinds) == 1 else ",".join(kinds)
    return getattr(annotation, "__name__", str(annotation))


@dataclass(frozen=True)
class Parameters:
    """The parameters of one function, in order."""

    of: str
    entries: tuple[Parameter, ...]

    @classmethod
    def of_function(cls, function: Callable[..., Any], name: str) -> Parameters:
        """Read the signature and the numpydoc docstring of ``function``.

        Raises
        ------
        BadOption
            If a parameter has no type, or is ``*args`` or ``**kwargs``.
        """
        texts = _numpydoc_parameters(inspect.getdoc(function) or "")
        entries = []
        for one in inspect.signature(function, eval_str=True).parameters.values():
            if one.kind is one.VAR_KEYWORD and one.name.startswith("_"):
                continue  # a verb may ignore the options it does not need
            if one.kind in {one.VAR_POSITIONAL, one.VAR_KEYWORD} or one.annotation is REQUIRED:
                raise BadOption(
                    f"{name}: parameter {one.name!r} needs a type annotation of its own so that it can become an option"
                )
            positional = one.kind is not one.KEYWORD_ONLY
            entries.append(Parameter(one.name, one.annotation, one.default, positional, texts.get(one.name, "")))
        return cls(name, tuple(entries))

    def __getitem__(self, name: str) -> Parameter:
        for one in self.entries:
            if one.name == name:
                return one
        known = [one.name for one in self.entries]
        raise UnknownName(f"{self.of} has no parameter {name!r}.{nearest(name, known)}")

    def __contains__(self, name: str) -> bool:
        return any(one.name == name for one in self.entries)

    def validate(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the values converted, in signature order, with no defaults filled in.

        Raises
        ------
        UnknownName
            If a name is not a parameter.
        BadOption
            If a value does not fit, or a required one is missing.
        """
        for name in values:
            self[name]
        missing = [one for one in self.entries if one.required and one.name not in values]
        if missing:
            first = missing[0]
            spelled = first.name.upper() if first.positional else first.option
            raise BadOption(f"{self.of} needs {spelled} ({first.describe()}){_dot(first.help)}")
        return {one.name: one.convert(values[one.name]) for one in self.entries if one.name in values}

    def from_words(self, words: Sequence[str], also: Iterable[str] = ()) -> dict[str, object]:
        """Sort command line words into named values (unconverted).

        Parameters
        ----------
        words
            What follows the graph's name.
        also
            Options of the command itself, known only for suggesting them.

        Raises
        ------
        UnknownName
            If an option is not a parameter; the nearest one is named.
        BadOption
            If a value is missing or left over.
        """
        values: dict[str, object] = {}
        places = [one for one in self.entries if one.positional]
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not re.match(r"--[A-Za-z]", word):
                if not places:
                    raise BadOption(f"{self.of} has no place for {word!r}: name the option it belongs to")
                values[places.pop(0).name] = word
                continue
            spelled, equals, value = word.partition("=")
            entry, flag = self._option(spelled, also)
            if flag is not None and not equals:
                values[entry.name] = flag
                continue
            if flag is False:
                raise BadOption(f"{spelled} takes no value")
            if not equals:
                if not rest or re.match(r"--[A-Za-z]", rest[0]):
                    raise BadOption(f"{spelled} needs a value: {entry.describe()}")
                value = rest.pop(0)
            values[entry.name] = _joined(values.get(entry.name), value) if entry.is_sequence else value
            places = [one for one in places if one.name != entry.name]
        return values

    def _option(self, spelled: str, also: Iterable[str]) -> tuple[Parameter, bool | None]:
        name = spelled.removeprefix("--").replace("-", "_")
        if name in self:
            entry = self[name]
            return entry, True if entry.is_flag else None
        if name.startswith("no_") and name.removeprefix("no_") in self:
            entry = self[name.removeprefix("no_")]
            if entry.is_flag:
                return entry, False
        known = [one.option for one in self.entries] + list(also)
        raise UnknownName(f"{self.of} has no option {spelled}.{nearest(spelled, known)}")


def _joined(before: object, value: str) -> str:
    return f"{before},{value}" if before else value


def _dot(text: str) -> str:
    first = text.split(". ", maxsplit=1)[0].rstrip(".")
    return f": {first}" if first else ""


def _numpydoc_parameters(doc: str) -> dict[str, str]:
    """Return the text of each entry of the docstring's Parameters section."""
    texts: dict[str, list[str]] = {}
    names: list[str] = []
    section, lines = "", doc.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if following and set(following.strip()) == {"-"}:
            section = line.strip()
        elif section in {"Parameters", "Other Parameters"} and set(line.strip()) != {"-"}:
            if line and not line.startswith(" "):
                names = [part.strip() for part in line.split(":")[0].split(",")]
            elif line.strip():
                for name in names:
                    texts.setdefault(name, []).append(line.strip())
    return {name: " ".join(parts) for name, parts in texts.items()}
