"""The task that reads, samples and measures one patch of one map, and the lazy records of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from lensflow.lensing.patches.flat_maps import read_flat
from lensflow.lensing.patches.noise import NoiseName
from lensflow.lensing.patches.patch_statistics import Recipe, measure
from lensflow.lensing.patches.sampling import Interpolation, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.lensing.patches.kappa_sources import KappaMap
    from lensflow.lensing.patches.ordering import Ordering
    from lensflow.lensing.patches.patches import Patch

PLANES, MASKED_PLANES = 7, 2  # images in float64 at the worst moment: the patch, noisy, its waves, smoothed and so on
CHUNKS, CHUNK_BYTES = 5, 4 * 4**11  # of the map that a patch touches, float32
LIBRARIES = 1 << 27  # bytes of numba, healpy and what they compile


@dataclass(frozen=True)
class Survey:
    """The patches to be measured: what to read, where, and how.

    Parameters
    ----------
    maps
        Of a sky: one a redshift, with the order in which each is stored. Of flat images: one a patch.
    orderings
        Of the maps.
    patches
        Where they lie; empty for flat images.
    recipe
        What to measure.
    interpolation
        Of HEALPix maps.
    zs
        Redshifts.
    seed, realisation
        Of the noise.
    mask, mask_ordering
        A further map, or image.
    """

    maps: tuple[KappaMap, ...]
    orderings: tuple[Ordering, ...]
    patches: tuple[Patch, ...]
    recipe: Recipe
    interpolation: Interpolation
    zs: tuple[float, ...]
    seed: int
    realisation: int
    mask: KappaMap | None = None
    mask_ordering: Ordering = "NESTED"

    @property
    def count(self) -> int:
        """How many patches."""
        return len(self.patches) or len(self.maps)

    @property
    def workspace(self) -> int:
        """Bytes that a task needs beside its result while it measures a patch."""
        side = self.recipe.pixels + 2 * self.recipe.apron
        planes = PLANES + (len(self.recipe.smoothing_lengths) + MASKED_PLANES if self.mask else 0)
        return 8 * planes * side**2 + CHUNKS * CHUNK_BYTES * bool(self.patches) + LIBRARIES

    def image(self, z: int, patch: int) -> NDArray[np.float64]:
        """Return the convergence of a patch, NaN where it is missing."""
        if not self.patches:
            return read_flat(self.maps[patch].path)
        with self.maps[z].open() as reader:
            return sample(reader, self.patches[patch], ordering=self.orderings[z], interpolation=self.interpolation)

    def mask_image(self, patch: int) -> NDArray[np.float64] | None:
        """Return the mask of a patch, if there is one."""
        if self.mask is None:
            return None
        if self.mask.kind == "flat":
            return read_flat(self.mask.path)
        with self.mask.open() as reader:
            return sample(reader, self.patches[patch], ordering=self.mask_ordering, interpolation="nearest")


def measure_patch(survey: Survey, block_id: tuple[int, ...]) -> NDArray[np.void]:
    """Return the record (1, 1) of the patch of a block (zs, patch)."""
    z, patch = block_id
    noise = NoiseName(survey.seed, survey.zs[z], patch, 0.0, survey.realisation)
    record = measure(survey.image(z, patch), survey.recipe, noise=noise, mask=survey.mask_image(patch))
    return record.reshape(1, 1)


def records(survey: Survey) -> da.Array:
    """Return the records (zs, patch) of all patches, lazily: one task each, which shares nothing with the others."""
    dtype = survey.recipe.dtype()
    # bound, not passed: Dask would look for arrays in every field
    make = partial(measure_patch, survey)
    with dask.annotate(workspace=survey.workspace):
        return da.map_blocks(
            make,
            chunks=((1,) * len(survey.zs), (1,) * survey.count),
            dtype=dtype,
            meta=np.empty((0, 0), dtype),
        )


def field(packed: da.Array, name: str, before: int) -> da.Array:
    """Return one field of records (zs, patch), with ``before`` of its dimensions between zs and patch."""
    lengths = packed.dtype[name].shape
    places = [*range(1, before + 1), *range(before + 2, len(lengths) + 2)]
    chunks = (
        packed.chunks[0],
        *((length,) for length in lengths[:before]),
        packed.chunks[1],
        *((length,) for length in lengths[before:]),
    )
    base = packed.dtype[name].base
    return da.map_blocks(
        _pick,
        packed,
        field=name,
        before=before,
        new_axis=places or None,
        chunks=chunks,
        dtype=base,
        meta=np.empty((0,) * len(chunks), base),
    )


def worst(packed: da.Array, name: str, how: Any) -> da.Array:  # noqa: ANN401 - a numpy reduction
    """Return a field of records reduced over redshifts: (patch)."""
    whole = packed.rechunk({0: -1})
    base = packed.dtype[name].base
    return da.map_blocks(
        _reduce,
        whole,
        field=name,
        how=how,
        drop_axis=0,
        chunks=(whole.chunks[1],),
        dtype=base,
        meta=np.empty(0, base),
    )


def _pick(block: NDArray[np.void], *, field: str, before: int) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(block[field], 1, before + 1))


def _reduce(block: NDArray[np.void], *, field: str, how: Any) -> NDArray[Any]:  # noqa: ANN401 - the same
    return how(block[field], axis=0)  # type: ignore[no-any-return]
