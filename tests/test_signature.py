"""Options that stand in a dataclass become those of a function."""

import inspect
from dataclasses import dataclass
from typing import Literal

import pytest

import lensflow as lf
from lensflow.engine.params import Parameters
from lensflow.ps1.options import Options
from lensflow.signature import takes


@dataclass(frozen=True)
class Few:
    """Two options.

    Parameters
    ----------
    colour
        Of the sky.
    depth
        In magnitudes,
        at most 30.

    Raises
    ------
    ValueError
        Never.
    """

    colour: Literal["r", "i"] = "r"
    depth: float | None = None


@takes(Few)
def made(source: str, **few: object) -> dict[str, object]:
    """Make it.

    Parameters
    ----------
    source
        Where from.

    Returns
    -------
    dict
        What came in.
    """
    return {"source": source, **few}


def test_signature_and_help_hold_the_fields() -> None:
    signature = inspect.signature(made)
    assert list(signature.parameters) == ["source", "colour", "depth"]
    assert signature.parameters["depth"].annotation == float | None
    assert made.__name__ == "made"
    entries = Parameters.of_function(made, "made").entries
    assert [(one.name, one.help, one.positional) for one in entries] == [
        ("source", "Where from.", True),
        ("colour", "Of the sky.", False),
        ("depth", "In magnitudes, at most 30.", False),
    ]
    assert "Returns\n-------" in (made.__doc__ or "")
    assert "Raises" not in (made.__doc__ or "")


def test_what_is_given_is_passed_on_and_what_is_unknown_refused() -> None:
    assert made("here", depth=3.0) == {"source": "here", "depth": 3.0}
    with pytest.raises(TypeError, match="colours"):
        made("here", colours="r")
    with pytest.raises(TypeError):
        made("here", "r")


def test_every_option_of_the_convolution_is_described() -> None:
    parameters = Parameters.of_function(lf.graph("ps1_convolution").__wrapped__, "ps1_convolution")
    assert [one.name for one in parameters.entries] == ["source", *Options.__dataclass_fields__]
    assert all(one.help for one in parameters.entries)
