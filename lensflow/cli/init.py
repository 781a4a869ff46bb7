"""``init``: a first profile for a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensflow.cli.catalog import Json
from lensflow.cli.show import emit
from lensflow.engine.doctor.network import outward
from lensflow.engine.site.choose import choose
from lensflow.engine.site.profile import compose, template, write
from lensflow.engine.site.survey import survey
from lensflow.errors import BadOption


def init(
    site: Annotated[bool, typer.Option("--site", help="A cluster profile, from what SLURM says here.")] = False,  # noqa: FBT002
    partition: Annotated[str | None, typer.Option(help="The partition; default: SLURM's default.")] = None,
    account: Annotated[str | None, typer.Option(help="The account to charge; default: yours.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; default: CLUSTER.yaml here.")] = None,
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Write a first cluster profile from what SLURM says of its partitions, nodes and accounts."""
    if not site:
        raise BadOption("say what to write: lensflow init --site")
    found = survey()
    choices, unknown = choose(found, outward(), partition=partition, account=account)
    path = out or Path(f"{found.name or 'site'}.yaml")
    write(path, compose(found, choices, unknown, template=template()))
    width = max(len(one.key) for one in choices)
    lines = [f"{one.key:<{width}}  {one.value}  ({one.why})" for one in choices]
    lines += [f"not found out: {one}" for one in unknown]
    lines += [f"written to {path}; read it, then: lensflow doctor --cluster {path}"]
    chosen = {one.key: one.value.strip('"') for one in choices}
    emit({"profile": str(path), "chosen": chosen, "unknown": unknown}, "\n".join(lines), as_json=json)
