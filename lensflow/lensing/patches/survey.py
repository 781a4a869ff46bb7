"""From maps and options to the patches that are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.patches.flat_maps import flat_geometry
from lensflow.lensing.patches.kappa_sources import find_maps
from lensflow.lensing.patches.ordering import check_ordering
from lensflow.lensing.patches.patch_statistics import Recipe
from lensflow.lensing.patches.patch_tasks import Survey
from lensflow.lensing.patches.patches import Patch

if TYPE_CHECKING:
    from pathlib import Path

    from lensflow.lensing.patches.kappa_sources import KappaMap
    from lensflow.lensing.patches.statistics_options import Options


def plan_survey(source: Path, options: Options) -> Survey:
    """Find the maps and lay out their patches; of pixels, only a sample is read, to check the ordering.

    Parameters
    ----------
    source
        As for :func:`lensflow.lensing.patches.kappa_sources.find_maps`.
    options
        Of the graph.

    Raises
    ------
    BadInput
        If there are no maps, or they are not what they claim to be.
    BadOption
        If an option does not fit them.
    """
    maps = find_maps(source)
    if maps[0].kind == "flat":
        return _flat_survey(maps, options)
    chosen = _of_redshifts(maps, options.zs, source)
    options.check_grid(options.patch_size_deg, options.xsize)
    recipe = _recipe(options, options.patch_size_deg, options.xsize)
    patches = tuple(
        Patch(theta, phi, options.patch_size_deg, options.xsize, options.rotation_deg, recipe.apron)
        for theta, phi in options.positions.tolist()
    )
    if not patches:
        raise BadOption(
            f"patch_size_deg: found {options.patch_size_deg:g}, expected patches that fit between the poles"
        )
    mask = _mask(options)
    survey = Survey(
        maps=tuple(chosen),
        orderings=tuple(one.stored_in(options.ordering) for one in chosen),
        patches=patches,
        recipe=recipe,
        interpolation=options.interpolation,
        zs=tuple(one.zs for one in chosen if one.zs is not None),
        seed=_seed(chosen, options),
        realisation=options.realisation,
        mask=mask,
        mask_ordering=mask.stored_in("header") if mask and mask.kind != "flat" else "NESTED",
    )
    if mask and mask.kind == "flat":
        raise BadInput(f"{mask.path}: found a flat image, expected a HEALPix map as mask of HEALPix maps")
    if options.ordering_check and options.validation_level != "off":
        _check_orderings(survey, strict=options.validation_level == "strict")
    return survey


def _flat_survey(maps: list[KappaMap], options: Options) -> Survey:
    size, pixels = flat_geometry(maps, options.pixel_scale_arcmin)
    options.check_grid(size, pixels)
    if options.boundary == "apron":
        raise BadOption("boundary: found apron, expected reflect or wrap: around a flat image there is no sky")
    found = {one.zs for one in maps} if not options.zs else set(options.zs)
    if len(found) != 1 or None in found:
        raise BadInput(
            f"{maps[0].path}: zs: found {', '.join(map(str, found))}, expected one redshift of sources in ZS of the "
            "header or _zs of the name; or give --zs"
        )
    mask = _mask(options)
    if mask is not None and (mask.kind != "flat" or flat_geometry([mask], 60 * size / pixels)[1] != pixels):
        raise BadInput(f"{mask.path}: mask: expected an image of {pixels} x {pixels} pixels, as the maps are")
    return Survey(
        maps=tuple(maps),
        orderings=(),
        patches=(),
        recipe=_recipe(options, size, pixels),
        interpolation=options.interpolation,
        zs=tuple(one for one in found if one is not None),
        seed=_seed(maps, options),
        realisation=options.realisation,
        mask=mask,
    )


def _recipe(options: Options, size: float, pixels: int) -> Recipe:
    return Recipe(
        size_deg=size,
        pixels=pixels,
        statistics=options.statistics,
        smoothing_lengths=options.smoothing_lengths,
        ngal=options.ngal,
        epsilon=options.epsilon,
        nu_edges=options.nu_edges,
        l_edges=options.l_edges,
        boundary=options.boundary,
        edge=options.edge,
        triangles=options.triangles,
        snr_sigma=None if options.snr_sigma == "patch" else float(options.snr_sigma),
        min_valid=options.min_valid,
        apron=options.apron(60 * size / pixels),
    )


def _of_redshifts(maps: list[KappaMap], wanted: tuple[float, ...], source: Path) -> list[KappaMap]:
    """Return the maps of the redshifts asked for, in the order of redshift."""
    by_zs: dict[str, KappaMap] = {}
    for one in maps:
        if one.zs is None:
            raise BadInput(f"{one.path}: ZS: found none, expected the redshift of sources there or as _zs in the name")
        if f"{one.zs:.6g}" in by_zs:
            raise BadInput(f"{one.path}: ZS: found {one.zs:g}, which {by_zs[f'{one.zs:.6g}'].path.name} has too")
        by_zs[f"{one.zs:.6g}"] = one
    missing = [f"{zs:g}" for zs in wanted if f"{zs:.6g}" not in by_zs]
    if missing:
        raise BadOption(f"zs: found {', '.join(missing)}, expected some of {', '.join(by_zs)}, which {source} has")
    names = {f"{zs:.6g}" for zs in wanted}
    return [one for name, one in by_zs.items() if not names or name in names]


def _seed(maps: list[KappaMap], options: Options) -> int:
    if options.seed is not None:
        return options.seed
    found = {one.seed for one in maps}
    if len(found) == 1 and None not in found:
        return next(seed for seed in found if seed is not None)
    if any(options.ngal):
        raise BadInput(
            f"{maps[0].path}: seed: found {', '.join(map(str, found))}, expected one for all maps, which names their "
            "noise; give --seed, or --ngal 0"
        )
    return -1


def _mask(options: Options) -> KappaMap | None:
    if options.mask is None:
        return None
    found = find_maps(options.mask)
    if len(found) != 1 or found[0].kind == "zarr":
        raise BadInput(f"{options.mask}: mask: found {len(found)} maps, expected one FITS file")
    return found[0]


def _check_orderings(survey: Survey, *, strict: bool) -> None:
    """Hold the labels of FITS files against their pixels; stores hold what this package has put there, NESTED."""
    for one, ordering in zip(survey.maps, survey.orderings, strict=True):
        if one.kind == "fits":
            try:
                with one.open() as reader:
                    check_ordering(reader.take, one.nside, ordering, name=str(one.path))
            except BadInput as error:
                if strict:
                    raise
                events.note("ordering", str(error), file=str(one.path))
        elif ordering != one.ordering:
            events.note("ordering", f"{one.path} says {one.ordering} and is taken for {ordering}", file=str(one.path))


def input_files(source: Path, options: Options) -> list[Path]:
    """List the files and stores that are read with these options."""
    maps = find_maps(source)
    if maps[0].kind != "flat":
        maps = _of_redshifts(maps, options.zs, source)
    mask = _mask(options)
    return list(dict.fromkeys([*(one.path for one in maps), *([mask.path] if mask else [])]))
