"""What a profile asks for, as far as the checks compare it with what there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import dask

from lensflow.engine.cluster import profile, running

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Kind = Literal["local", "slurm", "other", "address"]


@dataclass(frozen=True)
class Wanted:
    """A cluster profile, read and not yet acted upon.

    Parameters
    ----------
    name
        The profile as the user named it.
    kind
        One machine, SLURM, another cluster class, or the address of a cluster that runs already.
    options
        What its cluster class is given.
    settings
        Its Dask configuration.
    """

    name: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str | Path) -> Wanted:
        """Read a profile by name, path or address.

        Raises
        ------
        UnknownName, BadInput
            As the profile's reader does.
        """
        if running(name):
            return cls(str(name), "address")
        found = profile(name)
        cluster = found.pop("lensflow")["cluster"]
        made = str(cluster["class"]).rpartition(".")[2].lower()
        kind: Kind = "local" if made == "localcluster" else "slurm" if "slurm" in made else "other"
        return cls(str(name), kind, cluster.get("options") or {}, found)

    def option(self, *names: str) -> Any:  # noqa: ANN401 - whatever the class takes
        """Return the first of some options that the profile gives, None if it gives none; dots lead into nests."""
        for name in names:
            found: Any = self.options
            for part in name.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                return found
        return None

    def setting(self, key: str, default: object = None) -> Any:  # noqa: ANN401 - any configured value
        """Return a value of Dask's configuration: the profile's, else what is configured here."""
        missing = object()
        found = dask.config.get(key, default=missing, config=dict(self.settings))
        return dask.config.get(key, default=default) if found is missing else found

    @property
    def hosts(self) -> Literal["one", "many"]:
        """Whether scheduler and workers share a host."""
        return "one" if self.kind == "local" else "many"
