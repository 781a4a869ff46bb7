"""The store of convolved projections as the source of templates: opened without reading a pixel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
import zarr

from lensflow.errors import BadInput
from lensflow.ps1.cells import Rect, bounding
from lensflow.ps1.options import Options
from lensflow.ps1.outputs import SCHEMA
from lensflow.ps1.tess.wcs import tangent_plane
from lensflow.ps1.tessellation import Skycell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TILE = (256, 1024)  # px, of what is binned at a time; stored chunks are cut into tiles


class Occupancy(NamedTuple):
    """A union of rectangles as a table between the borders of all of them."""

    ys: Floats
    xs: Floats
    table: NDArray[np.bool_]  # with a border of False

    @classmethod
    def of(cls, rects: Sequence[Rect]) -> Occupancy:
        """Return the union of rectangles of pixels; a pixel reaches half a pixel beyond its centre."""
        ys = np.unique([edge for rect in rects for edge in (rect.y0, rect.y1)])
        xs = np.unique([edge for rect in rects for edge in (rect.x0, rect.x1)])
        table = np.zeros((len(ys) + 1, len(xs) + 1), bool)
        for rect in rects:
            y0, y1 = np.searchsorted(ys, [rect.y0, rect.y1])
            x0, x1 = np.searchsorted(xs, [rect.x0, rect.x1])
            table[y0 + 1 : y1 + 1, x0 + 1 : x1 + 1] = True
        return cls(ys - 0.5, xs - 0.5, table)

    def holds(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Whether positions lie in the union; NaN does not."""
        return self.table[np.searchsorted(self.ys, y, side="right"), np.searchsorted(self.xs, x, side="right")]


@dataclass(frozen=True, eq=False)
class Source:
    """A convolved projection: where it is stored, and where it lies on the sky.

    Parameters
    ----------
    number
        Of the projection.
    path
        Of its Zarr group.
    shape, chunks
        Of its images as stored, (rows, columns).
    matrix
        Direction of a pixel (x, y, 1) of the stored image.
    centre
        Direction of its tangent point, a unit vector.
    usable
        The usable rectangles of its cells, in pixels of the stored image.
    """

    number: int
    path: str
    shape: tuple[int, int]
    chunks: tuple[int, int]
    matrix: Floats
    centre: Floats
    usable: tuple[Rect, ...]

    @cached_property
    def occupancy(self) -> Occupancy:
        """The union of the usable rectangles."""
        return Occupancy.of(self.usable)

    @cached_property
    def tile_edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First rows and first columns of the tiles, and the end; no tile crosses the border of a stored chunk."""
        down, across = (
            np.append(np.concatenate([np.arange(a, min(a + chunk, size), tile) for a in range(0, size, chunk)]), size)
            for size, chunk, tile in zip(self.shape, self.chunks, TILE, strict=True)
        )
        return down, across

    def read(self, name: str, rect: Rect) -> NDArray[Any]:
        """Return the pixels of a rectangle that lies in one stored chunk.

        Raises
        ------
        BadInput
            If they cannot be decoded.
        """
        path = f"{self.path}/{name}"
        try:
            return np.asarray(zarr.open_array(path, mode="r")[rect.slices])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # decoders raise what they like
            raise BadInput(f"{path}: its pixels cannot be read ({error}); verify that run and resume it") from error


def open_sources(store: Path) -> tuple[Source, ...]:
    """Return the projections of a store of `ps1_convolution`, in the order of their numbers.

    Raises
    ------
    BadInput
        If it is not such a store.
    """
    if not (store / "zarr.json").is_file():
        raise BadInput(f"{store}: found no Zarr store, expected the output of a run of ps1_convolution")
    with xr.open_datatree(store, engine="zarr", chunks=None, consolidated=False) as tree:
        schema = tree.attrs.get("schema")
        if schema != SCHEMA:
            raise BadInput(
                f"{store}: schema: found {schema!r}, expected {SCHEMA}; give the output of a run of ps1_convolution"
            )
        options = Options.from_keywords(**json.loads(tree.attrs["options"]))
        nodes = [node for node in tree.children.values() if "wcs" in node.attrs]
        sources = [_source(node, options, store) for node in nodes]
    if not sources:
        raise BadInput(f"{store}: found no projection, expected at least one; run ps1_convolution again")
    return tuple(sorted(sources, key=lambda source: source.number))


def _source(node: xr.DataTree, options: Options, store: Path) -> Source:
    for name in ("flux", "mask"):
        if name not in node:
            raise BadInput(f"{store}: {node.name}: found no {name}, expected one; run ps1_convolution again")
    wcs, flux = node.attrs["wcs"], node["flux"].variable
    y0, x0 = (int(node.coords[axis].values[0]) for axis in ("y", "x"))
    projection = options.geometry.projection(int(node.attrs["projection"]))
    box = Rect(y0, x0, y0 + flux.shape[0], x0 + flux.shape[1])
    inside = Rect(0, 0, projection.height, projection.width).grown(-options.edge_px)
    usable = []
    for name in node.attrs["cells"]:
        cell = Skycell.parse(name)
        rect = inside.moved(*projection.cell_origin(cell.y, cell.x)).common(box)
        usable += [] if rect.empty else [rect.moved(-y0, -x0)]
    ra, dec = np.deg2rad([float(wcs["CRVAL1"]), float(wcs["CRVAL2"])])
    return Source(
        number=projection.number,
        path=str(store / str(node.name)),
        shape=(flux.shape[0], flux.shape[1]),
        chunks=tuple(flux.encoding.get("chunks") or flux.shape),
        matrix=tangent_plane(wcs),
        centre=np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]),
        usable=tuple(usable),
    )


def tiles_of(source: Source, touched: NDArray[np.bool_]) -> list[tuple[Rect, list[Rect]]]:
    """Group the touched tiles of a source by the stored chunk they lie in.

    Returns
    -------
    list of (Rect, list of Rect)
        What to read of a chunk, and the tiles in it, in pixels of the stored image and in the order of the store.
    """
    down, across = source.tile_edges
    chunks: dict[tuple[int, int], list[Rect]] = {}
    for j, i in np.argwhere(touched).tolist():
        tile = Rect(int(down[j]), int(across[i]), int(down[j + 1]), int(across[i + 1]))
        chunks.setdefault((tile.y0 // source.chunks[0], tile.x0 // source.chunks[1]), []).append(tile)
    return [(bounding(tiles), tiles) for tiles in chunks.values()]
