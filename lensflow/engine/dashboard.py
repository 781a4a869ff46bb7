"""The /lensflow page on Dask's own dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client


def page(client: Client) -> str | None:
    """Return the address of the /lensflow page of the client's scheduler, None where it has no dashboard."""
    link = client.dashboard_link
    return f"{link.rpartition('/')[0]}/lensflow" if link else None
