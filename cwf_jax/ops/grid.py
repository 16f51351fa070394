"""R-MAC's grid: square regions of three sizes that cover a map, whatever its shape (METHOD 2b.15).

Tolias, Sicre and Jegou, "Particular object retrieval with integral max-pooling of CNN activations", 2016.

On a map of m cells along its shorter side and M along its longer one, level l = 1..3 has regions of `floor(2 m / (l + 1))`
cells a side: l places along the shorter side, and l + extra along the longer one. How many more there are depends on the map,
so every map is given the most places that any can have, `REGIONS`, and those it does not have are empty.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32

from cwf_jax.ops.axes import check_axes

LEVELS = (1, 2, 3)

MOST_EXTRA = 6
"""More places along the longer side than along the shorter one."""

OVERLAP = (2, 5)
"""Neighbors along the longer side overlap by about 2/5."""

REGIONS = sum(level * (level + MOST_EXTRA) for level in LEVELS)
"""Of a map at most: 50."""

_SHORT = np.array([(level, place) for level in LEVELS for place in range(level)])
_LONG = np.array([(level, place) for level in LEVELS for place in range(level + MOST_EXTRA)])
_PAIRS = np.array(
  [(short, long) for long, (level, _) in enumerate(_LONG) for short in range(len(_SHORT)) if _SHORT[short, 0] == level]
)
SHORT_OF_REGION, LONG_OF_REGION = _PAIRS.T
"""Of each region the row of `Spans.short` and that of `Spans.long` which it is made of."""


class Spans(NamedTuple):
  """Where the regions of each map begin and end, (first cell, cell after the last one); (0, 0) where there is none.

  Attributes:
    short: [b s 2], along the shorter side.
    long: [b t 2], along the longer side.
    upright: [b], whether the rows are the longer side.
  """

  short: Int32[Array, "b s 2"]
  long: Int32[Array, "b t 2"]
  upright: Bool[Array, "b"]


@check_axes()
def place_spans(mask: Bool[Array, "b i j"]) -> Spans:
  """The grid of each map.

  The number of extra places is the one for which neighbors overlap most nearly by 2/5, the least such number among equals;
  it is found in whole numbers, so that nothing hangs on rounding.

  Args:
    mask: a rectangle of cells, which is the map; without a cell there is no region.

  Returns:
    Rows of the canvas and columns of it, in cells; see `Spans`.

  Example:
    >>> spans = place_spans(jnp.ones((1, 4, 4), bool))
    >>> spans.short[0].tolist()  # 1 place of level 1, 2 of level 2, 3 of level 3
    [[0, 4], [0, 2], [2, 4], [0, 2], [1, 3], [2, 4]]
  """
  rows, columns = mask.any(2), mask.any(1)
  height, width = rows.sum(1, dtype=jnp.int32), columns.sum(1, dtype=jnp.int32)
  top, left = rows.argmax(1).astype(jnp.int32), columns.argmax(1).astype(jnp.int32)
  upright = height > width
  shorter, longer = jnp.minimum(height, width), jnp.maximum(height, width)
  extra = _count_extra(shorter, longer)
  short = _place(*_SHORT.T, shorter, shorter, jnp.zeros_like(extra))
  long = _place(*_LONG.T, longer, shorter, extra)
  first_short, first_long = jnp.where(upright, left, top), jnp.where(upright, top, left)
  return Spans(_shift(short, first_short), _shift(long, first_long), upright)


@jax.named_scope("place_regions")
@check_axes()
def place_regions(mask: Bool[Array, "b i j"]) -> Int32[Array, "b r 4"]:
  """R-MAC's regions as boxes.

  Args:
    mask: a rectangle of cells, which is the map.

  Returns:
    `REGIONS` boxes in cells, (left, top, right, bottom), right and bottom exclusive; zeros where the map has no such region.

  Example:
    >>> boxes = place_regions(jnp.ones((1, 4, 4), bool))[0]
    >>> boxes[0].tolist(), int(boxes.any(1).sum())
    ([0, 0, 4, 4], 14)
  """
  spans = place_spans(mask)
  short, long = spans.short[:, SHORT_OF_REGION], spans.long[:, LONG_OF_REGION]
  upright = spans.upright[:, None, None]
  across, down = jnp.where(upright, short, long), jnp.where(upright, long, short)
  boxes = jnp.stack([across[..., 0], down[..., 0], across[..., 1], down[..., 1]], axis=-1)
  there = (short[..., 1] > short[..., 0]) & (long[..., 1] > long[..., 0])
  return jnp.where(there[..., None], boxes, 0)


def _count_extra(shorter: Int32[Array, "b"], longer: Int32[Array, "b"]) -> Int32[Array, "b"]:
  """The n of 1 to 6 with the least `|(m^2 - m b)/m^2 - 2/5|`, b = (M - m)/n; 0 on a square."""
  extra = np.arange(1, MOST_EXTRA + 1, dtype=np.int32)
  part, whole = OVERLAP
  # times whole m n: |(whole - part) m n - whole (M - m)|, and then divided by n: over the common multiple 60
  distance = jnp.abs((whole - part) * shorter[:, None] * extra - whole * (longer - shorter)[:, None])
  best = (distance * (60 // extra)).argmin(1).astype(jnp.int32)
  return jnp.where(shorter == longer, 0, best + 1)


def _place(
  levels: Int[np.ndarray, "s"],
  places: Int[np.ndarray, "s"],
  length: Int32[Array, "b"],
  shorter: Int32[Array, "b"],
  extra: Int32[Array, "b"],
) -> Int32[Array, "b s 2"]:
  levels, places = levels.astype(np.int32), places.astype(np.int32)
  sides = 2 * shorter[:, None] // (levels + 1)
  counts = levels + extra[:, None]
  starts = places * (length[:, None] - sides) // jnp.maximum(counts - 1, 1)
  there = (places < counts) & (sides > 0)
  return jnp.where(there[..., None], jnp.stack([starts, starts + sides], axis=-1), 0)


def _shift(spans: Int32[Array, "b s 2"], first: Int32[Array, "b"]) -> Int32[Array, "b s 2"]:
  return jnp.where(spans[..., 1:] > 0, spans + first[:, None, None], 0)
