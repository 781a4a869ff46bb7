"""A first profile: the shipped SLURM profile with this site's values put in."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine.cluster import profile, profiles
from lensflow.errors import BadInput, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lensflow.engine.site.choose import Choice
    from lensflow.engine.site.survey import Site

COLUMN = 32  # where the shipped profile's comments stand, less the two blanks before


def compose(site: Site, choices: Sequence[Choice], unknown: Iterable[str], *, template: str) -> str:
    """Return the text of a profile.

    Parameters
    ----------
    site
        What SLURM says.
    choices
        The values to put in.
    unknown
        What could not be found out, for the head of the file.
    template
        A profile of SLURM with comments.
    """
    today = time.strftime("%Y-%m-%d")
    head = [f"# {site.name or 'SLURM'} ({site.version or 'version unknown'}): what SLURM said on {today}, put into the"]
    head += ["# shipped profile. Read it once; then `lensflow doctor --cluster` with the path of this file."]
    head += [f"# NOT FOUND OUT: {one}" for one in unknown]
    return "\n".join([*head, "#", *put(template.splitlines(), choices)]) + "\n"


def put(lines: Sequence[str], choices: Iterable[Choice]) -> list[str]:
    """Put values under ``options:``, where the line of the same key is, commented out or not, else at the end."""
    lines = list(lines)
    for one in choices:
        first, last = _options(lines)
        indent = _indent(lines[first]) if first < last else " " * 6
        entry = f"{f'{indent}{one.key}: {one.value}':<{COLUMN}}  # {one.why}"
        pattern = re.compile(rf"{indent}(# ?)?{re.escape(one.key)}:(\s|$)")
        place = next((number for number in range(first, last) if pattern.match(lines[number])), None)
        if place is None:
            lines.insert(last, entry)
        else:
            lines[place] = entry
    return lines


def write(path: Path, text: str) -> None:
    """Write a profile where there is none.

    Raises
    ------
    BadInput
        If something is there.
    OutputError
        If the folder cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadInput(
            f"{path}: exists and is left as it is; move it away, or choose another name with --out"
        ) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another name with --out") from error
    profile(path)  # readable by those who will use it


def template() -> str:
    """Return the text of the shipped SLURM profile."""
    return Path(profiles()["slurm"]).read_text(encoding="utf-8")


def _options(lines: Sequence[str]) -> tuple[int, int]:
    """Return the numbers of the first line below ``options:`` and of the first that is no longer."""
    start = next((number for number, line in enumerate(lines) if re.match(r"\s+options:", line)), None)
    if start is None:
        raise BadInput("the shipped SLURM profile has no lensflow.cluster.options: reinstall lensflow")
    inside = len(_indent(lines[start]))
    end = start + 1
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(_indent(line)) <= inside:
            break
        if line.strip():
            end = number + 1
    return start + 1, end


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
