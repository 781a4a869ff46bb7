"""Signature to options: words become the values they were spelled from, and what does not fit is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.params import REQUIRED, Parameter, Parameters, nearest
from lensflow.errors import BadOption, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEXT = st.text("abcdefgXYZ0123456789._/ äß'\"$%=", min_size=1).map(str.strip).filter(bool)
ITEM = TEXT.filter(lambda one: not one.startswith("--"))
INTEGERS = st.integers(-(2**53), 2**53)
FLOATS = st.floats(allow_nan=False)


def listed(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=5).map(tuple)


# annotation, values of it, how a value is spelled as a word
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "integer": (int, INTEGERS, str),
    "number": (float, FLOATS, repr),
    "flag": (bool, st.booleans(), str),
    "text": (str, TEXT, str),
    "path": (Path, TEXT.map(Path), str),
    "choice": (Literal["r", "i", "z"], st.sampled_from(["r", "i", "z"]), str),
    "numbered choice": (Literal[1, 2, 4], st.sampled_from([1, 2, 4]), str),
    "integer or none": (int | None, st.none() | INTEGERS, str),
    "path or none": (Path | None, st.none() | TEXT.map(Path), str),
    "choice or none": (Literal["r", "i"] | None, st.sampled_from(["r", "i", None]), str),
    "integers": (tuple[int, ...], several(INTEGERS), listed),
    "numbers": (tuple[float, ...], several(FLOATS), listed),
    "texts": (tuple[str, ...], several(TEXT), listed),
    "choices": (tuple[Literal["r", "i"], ...], several(st.sampled_from(["r", "i"])), listed),
    "numbered choices": (tuple[Literal[1, 2], ...], several(st.sampled_from([1, 2])), listed),
    "list": (list[int], st.lists(INTEGERS, max_size=5), lambda values: listed(tuple(values))),
    "pair": (tuple[int, float], st.tuples(INTEGERS, FLOATS), listed),
    "numbers or none": (
        tuple[float, ...] | None,
        st.none() | several(FLOATS),
        lambda one: listed(one) if one else str(one),
    ),
}


def parameter(annotation: object, name: str = "some_thing") -> Parameter:
    return Parameter(name, annotation, REQUIRED, positional=False, help="")


@dataclass(frozen=True)
class Unfit:
    """A value that no option can be."""


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_a_word_becomes_the_value_it_spells(kind: str, data: st.DataObject) -> None:
    annotation, values, spell = KINDS[kind]
    value = data.draw(values)
    word = spell(value)
    if value == ():  # an empty tuple's word is "", a None's is "None"
        word = ""
    found = parameter(annotation).convert(word)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_a_value_of_the_right_type_passes_unchanged(kind: str, data: st.DataObject) -> None:
    annotation, values, _ = KINDS[kind]
    value = data.draw(values)
    found = parameter(annotation).convert(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_is_described_and_refuses_what_does_not_fit_in_one_sentence(kind: str) -> None:
    one = parameter(KINDS[kind][0])
    with pytest.raises(BadOption) as caught:
        one.convert(Unfit())
    assert str(caught.value).startswith(f"--some-thing: found Unfit(), expected {one.describe()} (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "described"),
    [
        (int, "integer"),
        (float | None, "number or none"),
        (Literal["r", "i"], "r|i"),
        (tuple[int, ...], "integer,..."),
        (tuple[int, float], "integer,number"),
        (list[Path], "path,..."),
    ],
)
def test_types_are_described_as_a_user_reads_them(annotation: object, described: str) -> None:
    assert parameter(annotation).describe() == described


@pytest.mark.parametrize(
    ("annotation", "from_word", "from_yaml"),
    [
        (tuple[str, ...], "2246,2247", [2246, 2247]),  # YAML reads numbers of projections as integers
        (str, "2246", 2246),
        (tuple[int, ...], "3,4", [3, 4]),
        (tuple[float, ...] | None, "1,0.5", [1, 0.5]),
        (Path, "data", "data"),
        (float, "60", 60),
    ],
)
def test_a_job_file_means_what_the_same_words_mean(annotation: object, from_word: str, from_yaml: object) -> None:
    one = parameter(annotation)
    assert one.convert(from_yaml) == one.convert(from_word)


@pytest.mark.parametrize("word", ["1.5", "one", "", "0x10"])
def test_not_an_integer(word: str) -> None:
    with pytest.raises(BadOption, match="expected integer"):
        parameter(int).convert(word)


def test_pairs_have_two() -> None:
    for word in ("1", "1,2,3"):
        with pytest.raises(BadOption, match="expected integer,integer"):
            parameter(tuple[int, int]).convert(word)


# A signature with every kind of parameter.
def sample(
    source: Path,
    second: int = 3,
    *,
    sigma: float = 60.0,
    bands: tuple[str, ...] = ("r",),
    strict: bool = False,
    note: str | None = None,
    columns_per_block: int | None = None,
    **_ignored: Any,
) -> None:
    """Do nothing.

    Parameters
    ----------
    source
        Folder of cells. And more.
    second, sigma
        Width,
        in px.
    bands : tuple of str
        Bands to combine.

    Returns
    -------
    strict
        Not a parameter's text.
    """


SAMPLE = Parameters.of_function(sample, "sample")


def test_a_signature_becomes_parameters() -> None:
    assert [one.name for one in SAMPLE.entries] == [
        "source", "second", "sigma", "bands", "strict", "note", "columns_per_block",
    ]  # fmt: skip
    assert [one.positional for one in SAMPLE.entries] == [True, True, False, False, False, False, False]
    assert [one.required for one in SAMPLE.entries] == [True, False, False, False, False, False, False]
    assert SAMPLE["columns_per_block"].option == "--columns-per-block"
    assert SAMPLE["strict"].is_flag
    assert SAMPLE["bands"].is_sequence
    assert not SAMPLE["note"].is_sequence


def test_help_is_the_docstring() -> None:
    assert SAMPLE["source"].help == "Folder of cells. And more."
    assert SAMPLE["second"].help == SAMPLE["sigma"].help == "Width, in px."
    assert SAMPLE["bands"].help == "Bands to combine."
    assert SAMPLE["strict"].help == ""


def test_parameters_that_cannot_be_options_are_refused() -> None:
    def starred(*cells: Path) -> None: ...
    def keywords(**cells: Path) -> None: ...
    def untyped(cells) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    for function in (starred, keywords, untyped):
        with pytest.raises(BadOption, match=r"mine: parameter 'cells' needs a type annotation"):
            Parameters.of_function(function, "mine")


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "sigma": FLOATS,
    "bands": st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    "strict": st.booleans(),
    "note": TEXT.filter(lambda one: one.lower() not in {"none", "null"}),
    "columns_per_block": INTEGERS,
}


@given(
    source=ITEM,
    second=st.none() | st.integers(-5, 5),
    options=st.fixed_dictionaries({}, optional=VALUES),
    data=st.data(),
)
@settings(deadline=None, max_examples=150)
def test_words_in_any_order_become_the_values(
    source: str, second: int | None, options: dict[str, Any], data: st.DataObject
) -> None:
    words = [[source]] + ([[str(second)]] if second is not None else [])
    for name, value in data.draw(st.permutations(list(options.items()))):
        words.insert(data.draw(st.integers(0, len(words))), spelled(name, value, data))
    found = SAMPLE.validate(SAMPLE.from_words([word for group in words for word in group]))
    expected = {"source": Path(source), **({} if second is None else {"second": second}), **options}
    assert found == expected
    assert list(found) == [one.name for one in SAMPLE.entries if one.name in expected], "in signature order"


def spelled(name: str, value: Any, data: st.DataObject) -> list[str]:
    """Spell an option in one of the ways a user may."""
    option = "--" + name.replace("_", data.draw(st.sampled_from("_-")))
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, tuple) and data.draw(st.booleans()):  # repeated
        return [f"{option}={one}" for one in value]
    word = listed(value) if isinstance(value, tuple) else str(value)
    return [f"{option}={word}"] if word.startswith("--") or data.draw(st.booleans()) else [option, word]


def test_a_place_given_by_name_is_taken() -> None:
    assert SAMPLE.from_words(["--source", "a", "7"]) == {"source": "a", "second": "7"}


def test_negative_numbers_are_values() -> None:
    assert SAMPLE.from_words(["a", "-3", "--sigma", "-1.5"]) == {"source": "a", "second": "-3", "sigma": "-1.5"}


def test_too_many_words() -> None:
    with pytest.raises(BadOption, match="sample has no place for '9'"):
        SAMPLE.from_words(["a", "7", "9"])


def test_an_option_at_the_end_needs_a_value() -> None:
    with pytest.raises(BadOption, match="--sigma needs a value: number"):
        SAMPLE.from_words(["a", "--sigma"])


def test_a_forgotten_value_does_not_swallow_the_next_option() -> None:
    with pytest.raises(BadOption, match="--note needs a value"):
        SAMPLE.from_words(["a", "--note", "--strict"])


def test_only_flags_can_be_negated() -> None:
    with pytest.raises(UnknownName, match="has no option --no-sigma"):
        SAMPLE.from_words(["a", "--no-sigma"])


@pytest.mark.parametrize(("word", "value"), [("--strict=false", False), ("--strict=yes", True), ("--strict", True)])
def test_flags_take_a_value_with_an_equals_sign(word: str, value: bool) -> None:  # noqa: FBT001 - a parameter
    assert SAMPLE.validate(SAMPLE.from_words(["a", word]))["strict"] is value


def test_a_negated_flag_never_means_yes() -> None:
    try:
        found = SAMPLE.validate(SAMPLE.from_words(["a", "--no-strict=true"]))
    except BadOption:
        return
    assert found["strict"] is False


@given(st.sampled_from([one.name for one in SAMPLE.entries]), st.data())
@settings(deadline=None, max_examples=60)
def test_a_misspelt_option_is_answered_with_the_nearest(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    misspelt = (name[:place] + name[place + 1 :]).strip("_").replace("_", "-")
    with pytest.raises(UnknownName, match=f"Did you mean '{SAMPLE[name].option}'"):
        SAMPLE.from_words(["--" + misspelt])


def test_names_of_keywords_are_answered_alike() -> None:
    with pytest.raises(UnknownName, match=r"sample has no parameter 'sigms'. Did you mean 'sigma'?"):
        SAMPLE.validate({"source": "a", "sigms": 3})


def test_what_is_near_nothing_gets_no_suggestion() -> None:
    assert nearest("qqqq", ["sigma", "bands"]) == ""


@pytest.mark.parametrize("values", [{}, {"sigma": 3}])
def test_a_missing_place_is_named_with_its_help(values: Mapping[str, object]) -> None:
    with pytest.raises(BadOption, match=r"sample needs SOURCE \(path\): Folder of cells$"):
        SAMPLE.validate(values)


def test_defaults_are_not_filled_in() -> None:
    assert SAMPLE.validate({"source": "a"}) == {"source": Path("a")}
