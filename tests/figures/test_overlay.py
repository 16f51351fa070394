"""Brightness says where, in color and in gray, and at the pixels that a cell was computed from."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from cwf_jax.figures.overlay import make_thumbnail, shade

WHOLE = (1.0, 1.0)

colors = st.tuples(*[st.integers(0, 255)] * 3)


def _flat(height, width, color=(128, 128, 128)):
  return np.full((height, width, 3), color, np.uint8)


def _gray(pixels):
  return pixels @ np.array([0.299, 0.587, 0.114])


@hypothesis.given(colors)
def test_brighter_is_more_in_any_color_and_in_gray(color):
  heat = np.linspace(0, 1, 50)[None]
  gray = _gray(shade(_flat(4, 200, color), heat, WHOLE))[2]
  assert np.diff(gray).min() > -1.01  # each channel is rounded
  assert gray[-1] - gray[0] >= 3
  assert all(gray[place + 60] > gray[place] for place in (0, 60, 120))


@hypothesis.given(colors)
def test_the_whole_map_keeps_the_colors_and_an_empty_one_is_gray(color):
  pixels = _flat(20, 30, color)
  lit, dim = (shade(pixels, np.full((3, 4), value, np.float32), WHOLE) for value in (1, 0))
  assert lit.dtype == dim.dtype == np.uint8 and lit.shape == dim.shape == pixels.shape
  assert np.abs(lit.astype(int) - pixels).max() <= 21  # a twelfth of the way to the glow
  assert (dim == dim[..., :1]).all()
  assert dim.max() <= 0.4 * _gray(pixels).max() + 13


def test_the_pixels_are_not_written_to():
  pixels = _flat(20, 30)
  pixels.flags.writeable = False
  before = pixels.copy()
  shade(pixels, np.ones((2, 2)), WHOLE)
  assert (pixels == before).all()


@pytest.mark.parametrize("covered", [WHOLE, (80 / 91, 64 / 70), (0.5, 1.0)], ids=str)
@pytest.mark.parametrize("cell", [(0, 0), (1, 2), (3, 4), (2, 0)], ids=str)
def test_a_hot_cell_is_brightest_at_its_own_pixels(cell, covered):
  heat = np.zeros((4, 5), np.float32)
  heat[cell] = 1
  gray = _gray(shade(_flat(140, 182), heat, covered))
  down, across = covered[1] * 140 / 4, covered[0] * 182 / 5
  row, column = (cell[0] + 0.5) * down, (cell[1] + 0.5) * across  # the center of its pixels
  rows, columns = np.nonzero(gray > gray.max() - 8)
  assert abs(gray[int(row), int(column)] - gray.max()) < 8
  # what lies beyond the map takes the values of its edge
  assert rows.min() + 0.5 == pytest.approx(row, abs=0.2 * down) or cell[0] == 0
  assert columns.min() + 0.5 == pytest.approx(column, abs=0.2 * across) or cell[1] == 0
  if cell[0] < 3:
    assert rows.max() + 0.5 < (cell[0] + 1) * down
  if cell[1] < 4:
    assert columns.max() + 0.5 < (cell[1] + 1) * across
  far_rows = np.abs(np.arange(140) + 0.5 - row) > 1.1 * down
  far_columns = np.abs(np.arange(182) + 0.5 - column) > 1.1 * across
  within_rows, within_columns = np.arange(140) < covered[1] * 140, np.arange(182) < covered[0] * 182
  assert np.ptp(gray[far_rows & within_rows]) == 0 and np.ptp(gray[:, far_columns & within_columns]) == 0


def test_what_the_map_does_not_cover_takes_its_edge():
  heat = np.zeros((2, 2), np.float32)
  heat[:, 1] = 1
  shaded = shade(_flat(40, 100), heat, (0.5, 0.9))
  assert (shaded[:, 50:] == shaded[0, 49]).all()
  assert _gray(shaded[0, 60]) > _gray(shaded[0, 0]) + 50


@pytest.mark.parametrize("shape", [(1, 1), (1, 480), (480, 1), (13, 480)])
@pytest.mark.parametrize("cells", [(1, 1), (1, 8), (8, 1), (45, 64)])
def test_any_shapes_go_together(shape, cells):
  shaded = shade(_flat(*shape), np.full(cells, 0.5), (0.01, 0.9))
  assert shaded.shape == (*shape, 3) and np.ptp(shaded[..., 0]) == 0


@pytest.mark.parametrize(
  ("shape", "longest", "expected"),
  [
    ((100, 200), 50, (25, 50)),
    ((200, 100), 50, (50, 25)),
    ((100, 200), 200, (100, 200)),
    ((20, 30), 480, (20, 30)),
    ((16, 6000), 480, (1, 480)),
    ((4000, 16), 100, (100, 1)),
  ],
)
def test_thumbnails_keep_the_aspect_and_never_grow(shape, longest, expected):
  thumbnail = make_thumbnail(_flat(*shape, (9, 99, 199)), longest)
  assert thumbnail.shape == (*expected, 3) and thumbnail.dtype == np.uint8
  assert (thumbnail == (9, 99, 199)).all()
