"""A function whose options stand in a dataclass: their names, types, defaults and help are written once."""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_SECTION = "Parameters\n----------\n"


def takes(options: type) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a function the fields of a dataclass as keyword-only parameters, in its signature and its help.

    Parameters
    ----------
    options
        A dataclass whose docstring describes its fields in a numpydoc section of parameters.

    Raises
    ------
    TypeError
        When the function is called: with a keyword that is no field, as by any Python function.
    """

    def dress(function: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(function)
        hints = get_type_hints(options)
        words = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
            for one in fields(options)
        ]
        places = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        signature = own.replace(parameters=[*places, *words])

        @wraps(function)
        def call(*values: Any, **keywords: Any) -> T:  # noqa: ANN401 - checked against the signature
            bound = signature.bind(*values, **keywords)
            return function(*bound.args, **bound.kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__doc__ = _with_help(inspect.getdoc(function) or "", inspect.getdoc(options) or "")
        return call

    return dress


def _with_help(doc: str, options: str) -> str:
    """Put the parameters of one docstring behind those of another."""
    before, _, after = doc.partition(_SECTION)
    own, gap, rest = after.partition("\n\n")
    described = options.partition(_SECTION)[2].partition("\n\n")[0]
    return f"{before}{_SECTION}{own}\n{described}{gap}{rest}"
