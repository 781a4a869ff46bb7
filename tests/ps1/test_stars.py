"""Bright stars out of small images whose every pixel is known."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lensflow.ps1.gaia import STAR
from lensflow.ps1.segments import with_bright
from lensflow.ps1.stars import NOBODY, REACH, Reason, Stars, remove_stars

SIZE = 80
BRIGHT, NEIGHBOUR, FLAGGED, UNKNOWN = (reason.value for reason in Reason)


class Scene:
    """Discs for segments, a core for bright regions."""

    def __init__(self) -> None:
        self.flux = np.full((SIZE, SIZE), 0.0, np.float32)
        self.mask = np.zeros((SIZE, SIZE), np.uint16)
        self.ids = np.zeros((SIZE, SIZE), np.int32)
        self.bright = np.zeros((SIZE, SIZE), np.bool_)

    def disc(self, y: float, x: float, radius: float) -> NDArray[np.bool_]:
        rows, columns = np.mgrid[:SIZE, :SIZE]
        return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)

    def segment(self, number: int, y: float, x: float, radius: float = 5, core: float = -1) -> "Scene":
        disc, middle = self.disc(y, x, radius), self.disc(y, x, core) if core >= 0 else np.zeros_like(self.bright)
        self.ids[disc & ~middle] = number
        self.bright |= middle
        self.flux[disc] = 10 * number
        return self

    def remove(self, *stars: tuple[float, float, float], limit: float = 13) -> NDArray[np.void]:
        table = np.zeros(len(stars), STAR)
        table["source_id"] = 100 + np.arange(len(stars))
        table["tess_mag"] = [star[2] for star in stars]
        places = Stars(table, np.array([star[1] for star in stars]), np.array([star[0] for star in stars]))
        found = with_bright(self.ids, int(self.ids.max()), self.bright)
        return remove_stars(self.flux, self.mask, found, places, limit=limit)

    def left(self) -> set[float]:
        return set(np.unique(self.flux[~np.isnan(self.flux)]).tolist())


def listed(rows: NDArray[np.void]) -> list[tuple[int, int]]:
    return [(int(row["source_id"]), int(row["reason"])) for row in rows]


def test_a_bright_star_goes_with_its_segment_and_its_core() -> None:
    scene = Scene().segment(1, 20, 20, core=2).segment(2, 50, 50, core=2)
    rows = scene.remove((20.3, 19.6, 12.9))
    assert scene.left() == {0, 20}
    assert listed(rows) == [(100, BRIGHT)]
    assert rows["segment_id"].tolist() == [1]
    assert (rows["x"][0], rows["y"][0]) == (19.6, 20.3)


@pytest.mark.parametrize(("magnitude", "gone"), [(12.999, True), (13.0, False), (np.nan, False)])
def test_the_limit_itself_stays(magnitude: float, gone: bool) -> None:  # noqa: FBT001
    scene = Scene().segment(1, 20, 20)
    rows = scene.remove((20, 20, magnitude))
    assert scene.left() == ({0} if gone else {0, 10})
    assert len(rows) == gone


def test_fainter_stars_in_the_segment_are_its_neighbours() -> None:
    scene = Scene().segment(1, 20, 20, 8, core=2).segment(2, 60, 60)
    rows = scene.remove((60, 60, 14), (17, 25, 18), (25, 17, 16), (20, 20, 10))
    assert listed(rows) == [(103, BRIGHT), (102, NEIGHBOUR), (101, NEIGHBOUR)]  # brightest first
    assert scene.left() == {0, 20}


def test_a_bright_star_on_empty_sky_takes_nothing() -> None:
    scene = Scene().segment(1, 20, 20)
    assert len(scene.remove((50, 50, 9))) == 0
    assert scene.left() == {0, 10}


@pytest.mark.parametrize(("bits", "gone"), [(32, False), (4096, False), (32 | 4096, True), (32 | 4096 | 8, True)])
def test_segments_are_removed_where_a_pixel_is_both_saturated_and_core(bits: int, gone: bool) -> None:  # noqa: FBT001
    scene = Scene().segment(1, 20, 20, core=2).segment(2, 50, 50)
    scene.mask[20, 20] = bits
    scene.mask[50, 49], scene.mask[50, 51] = 32, 4096  # of one segment, not of one pixel
    rows = scene.remove((20, 20, 15), (50, 50, 15))
    assert scene.left() == ({0, 20} if gone else {0, 10, 20})
    assert listed(rows) == ([(100, FLAGGED)] if gone else [])


def test_a_flagged_segment_without_a_star_is_listed_at_its_flags() -> None:
    scene = Scene().segment(1, 20, 30)
    scene.mask[19:22, 30] = 32 | 4096
    rows = scene.remove()
    assert listed(rows) == [(NOBODY, UNKNOWN)]
    assert (rows["x"][0], rows["y"][0]) == (30, 20)
    assert np.isnan(rows["ra"][0])
    assert scene.left() == {0}


def test_flags_on_pixels_without_value_reach_the_ring_around_them() -> None:
    scene = Scene().segment(1, 40, 40, 8)
    hole = scene.disc(40, 40, 4)
    scene.flux[hole], scene.ids[hole], scene.mask[hole] = np.nan, 0, 32 | 4096 | 8
    rows = scene.remove((40, 40, 14))
    assert scene.left() == {0}
    assert np.isnan(scene.flux[hole]).all()  # C20: no value stays no value
    assert rows["reason"].tolist() == [UNKNOWN]  # the star itself stands on no segment


def test_a_star_whose_core_has_no_value_is_found_by_the_nearest_pixel_that_has() -> None:
    scene = Scene().segment(1, 40, 40, 14)
    hole = scene.disc(40, 40, 10)
    scene.flux[hole], scene.ids[hole] = np.nan, 0
    assert listed(scene.remove((40.2, 40.1, 7))) == [(100, BRIGHT)]
    assert scene.left() == {0}
    assert np.isnan(scene.flux[hole]).all()
    wide = Scene().segment(1, 2, 2, 1)
    wide.flux[3:, :], wide.flux[:, 3:] = np.nan, np.nan
    assert len(wide.remove((2 + REACH + 1, 2, 7))) == 0  # too far to be its own


def test_pieces_of_a_ring_round_the_core_go_together() -> None:
    scene = Scene().segment(1, 40, 40, 9, core=4)
    scene.ids[(scene.ids == 1) & (np.mgrid[:SIZE, :SIZE][1] > 40)] = 2  # deblended
    scene.segment(3, 40, 51, 2)  # next to the ring, not to the core
    scene.remove((40, 40, 11))
    assert scene.left() == {0, 30}


def test_another_bright_region_stays_unless_its_home_goes() -> None:
    scene = Scene().segment(1, 40, 30, 9, core=3).segment(2, 40, 50, 9, core=3)
    scene.remove((40, 30, 11))
    assert scene.left() == {0, 20}
    both = Scene().segment(1, 40, 40, 15, core=2)
    both.bright |= both.disc(40, 50, 2)  # a second core inside the same segment
    both.ids[both.bright] = 0
    both.remove((40, 40, 11), (40, 50, 14))
    assert both.left() == {0}


@pytest.mark.parametrize(("y", "x"), [(-6.0, 30.0), (85.4, 30.0), (30.0, -3.0), (30.0, 84.0), (-4.0, -3.0)])
def test_wings_of_a_star_outside_are_removed_at_the_edge(y: float, x: float) -> None:
    scene = Scene().segment(1, y, x, 12).segment(2, 60, 60, 3)
    rows = scene.remove((y, x, 11), (y, x, 14))
    assert scene.left() == {0, 20}
    assert listed(rows) == [(100, BRIGHT)]  # a faint star outside is another cell's
    assert (rows["x"][0], rows["y"][0]) == (x, y)


def test_no_stars_and_no_segments_are_no_special_case() -> None:
    empty: Any = Scene()
    assert len(empty.remove()) == 0
    assert len(empty.remove((5, 5, 9), (-200, 5, 9))) == 0
    assert empty.left() == {0}
