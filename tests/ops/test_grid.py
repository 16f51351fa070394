import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.ops.grid import LONG_OF_REGION, MOST_EXTRA, REGIONS, SHORT_OF_REGION, place_regions, place_spans
from tests.oracle import grid

CANVAS = 96
"""Cells a side of the masks that most of these tests lie on, so that they share a program."""

BATCH = 64

_regions = jax.jit(place_regions)


def mark(rectangles, canvas=(CANVAS, CANVAS)):
  """Masks of rectangles, each (top, left, height, width)."""
  masks = np.zeros((len(rectangles), *canvas), bool)
  for mask, (top, left, height, width) in zip(masks, rectangles, strict=True):
    mask[top : top + height, left : left + width] = True
  return masks


def place(rectangles):
  """Boxes of each rectangle, all `REGIONS` of them; any number of rectangles goes through one program."""
  found = []
  for start in range(0, len(rectangles), BATCH):
    some = rectangles[start : start + BATCH]
    masks = mark([*some, *[(0, 0, 0, 0)] * (BATCH - len(some))])
    found.extend(np.asarray(_regions(jnp.asarray(masks)))[: len(some)])
  return np.stack(found)


def list_there(boxes):
  """The regions there are, as tuples in order; the places of the others must hold zeros."""
  there = boxes[:, 2] > boxes[:, 0]
  assert not boxes[~there].any()
  return sorted(map(tuple, boxes[there].tolist()))


def test_every_small_shape_equals_the_oracle():
  shapes = [(height, width) for height in range(24) for width in range(24) if (height == 0) == (width == 0)]
  for shape, boxes in zip(shapes, place([(0, 0, *shape) for shape in shapes]), strict=True):
    assert list_there(boxes) == sorted(grid.list_boxes(width=shape[1], height=shape[0])), shape


def test_any_rectangle_equals_the_oracle_wherever_it_lies():
  random = np.random.default_rng(0)
  rectangles = []
  for _ in range(2 * BATCH):
    height, width = random.integers(1, CANVAS + 1, 2)
    rectangles.append((random.integers(0, CANVAS - height + 1), random.integers(0, CANVAS - width + 1), height, width))
  masks = mark(rectangles)
  for mask, boxes in zip(masks, place(rectangles), strict=True):
    expected = grid.list_boxes_inside(mask)
    assert list_there(boxes) == sorted(expected)
    assert all(mask[top:bottom, left:right].all() for left, top, right, bottom in expected)  # no region beyond the map


@pytest.mark.parametrize(
  ("width", "height", "count"), [(32, 24, 20), (24, 32, 20), (30, 30, 14), (64, 45, 20), (64, 16, 44), (1, 1, 1), (2, 2, 14)]
)
def test_counts_of_the_method(width, height, count):
  """A map of one cell has the first level alone: a side of 0 is skipped."""
  assert len(list_there(place([(3, 5, height, width)])[0])) == count
  assert len(grid.list_boxes(width, height)) == count


def test_a_side_of_zero_is_skipped():
  for width, levels in ((1, 1), (5, 1), (90, 1)):
    boxes = list_there(place([(0, 0, 1, width)])[0])
    assert len(boxes) == levels * (1 + (MOST_EXTRA if width > 1 else 0))
    assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {(1, 1)}


def test_of_an_exact_tie_the_first_s_wins():
  """m = 5 and M = 9: the overlap misses 2/5 by 1/5 with one more place, and with two."""
  assert grid.choose_extra(9, 5) == 1
  boxes = list_there(place([(0, 0, 5, 9)])[0])
  assert len(boxes) == 1 * 2 + 2 * 3 + 3 * 4
  ties = [(m, longest) for m in range(1, 25) for longest in range(m + 1, 97) if _has_tie(m, longest)]
  assert (5, 9) in ties and len(ties) > 10
  for (m, longest), boxes in zip(ties, place([(0, 0, m, longest) for m, longest in ties]), strict=True):
    assert list_there(boxes) == sorted(grid.list_boxes(longest, m))


def _has_tie(m, longest):
  """Whether two numbers of places miss the overlap equally: `|3 m n - 5 (M - m)| / n` in whole numbers, over 60."""
  distances = [abs(3 * m * n - 5 * (longest - m)) * (60 // n) for n in range(1, 7)]
  return distances.count(min(distances)) > 1


def test_a_portrait_is_a_landscape_on_its_side():
  rectangles = [(2, 1, 12, 20), (0, 0, 3, 19), (7, 9, 45, 64), (5, 0, 1, 6)]
  lying = place(rectangles)
  standing = place([(left, top, width, height) for top, left, height, width in rectangles])
  np.testing.assert_array_equal(standing, lying[..., [1, 0, 3, 2]])


def test_a_map_without_a_cell_has_no_region():
  assert not place([(0, 0, 0, 0)]).any()


def test_regions_are_pairs_of_spans():
  masks = jnp.asarray(mark([(0, 2, 6, 14), (1, 0, 9, 4), (0, 0, 5, 5), (3, 2, 1, 7)], (12, 16)))
  spans, boxes = jax.jit(place_spans)(masks), np.asarray(jax.jit(place_regions)(masks))
  np.testing.assert_array_equal(spans.upright, [False, True, False, False])
  for lines in (np.asarray(spans.short), np.asarray(spans.long)):
    assert not lines[lines[..., 0] >= lines[..., 1]].any()  # zeros where there is none, also where its side would be 0
  for b, upright in enumerate(spans.upright):
    for r in range(REGIONS):
      short, long = spans.short[b, SHORT_OF_REGION[r]], spans.long[b, LONG_OF_REGION[r]]
      (left, right), (top, bottom) = (short, long) if upright else (long, short)
      if boxes[b, r].any():
        np.testing.assert_array_equal(boxes[b, r], [left, top, right, bottom])
      else:
        assert not (short.any() and long.any())


def test_regions_of_the_largest_map():
  """With six more places along one side all are taken, and none is left over."""
  assert REGIONS == 50 == sum(level * (level + MOST_EXTRA) for level in (1, 2, 3))
  counts = collections.Counter(len(list_there(boxes)) for boxes in place([(0, 0, 4, width) for width in range(4, 96)]))
  assert max(counts) == REGIONS and min(counts) == 14


def test_indices_and_boxes_are_int32():
  found = jax.eval_shape(place_regions, jax.ShapeDtypeStruct((2, 3, 4), bool))
  assert (found.shape, found.dtype) == ((2, REGIONS, 4), jnp.int32)
