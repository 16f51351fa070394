"""Matching places: how many cells of two photographs match in one consistent position (METHOD 4b).

    query_masks = select_cells(query_cams, query_masks)
    (query,) = describe_cells(query_features, whitening, query_masks)
    answers = describe_cells(answer_features, whitening, answer_masks)
    matches = match_places(query, query_masks[0], answers, answer_masks)
    matches.places    # of each answer: 19 where it shows the same building, 5 where it shows another one

Cosines, the entries of the transformations and the tolerance are rounded to multiples of 1/`STEPS`, and all comparisons and
sums from there on are of whole numbers. Equal cells therefore tie, and the documented order decides, whatever the padding, the
batch or the device does to the last bit of a cosine.
"""

import dataclasses
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32

from cwf_jax.errors import InputError
from cwf_jax.ops.axes import check_axes
from cwf_jax.ops.normalize import l2_normalize
from cwf_jax.ops.whitening import Whitening, apply_whitening

STEPS = 4096
"""Cosines, and lengths in cells, are compared as whole numbers of 1/`STEPS`."""

LARGEST_MAP = 2**15 - 1
"""Cells of a map. Up to this, `LARGEST_SCALE` and `MOST_MATCHES` all whole numbers fit into int32."""

LARGEST_SCALE = 10.0
MOST_MATCHES = 700

MIN_CAM = 0.4
"""Without a box, a query's cell counts from this share of the largest mean of its classes' maps on."""


@dataclasses.dataclass(frozen=True)
class MatchSettings:
  """The constants of METHOD 4b.2 and 4b.3.

  Attributes:
    min_cosine: least cosine of two matching cells, above 0 and up to 1.
    max_matches: number of matches that are compared in position, those with the largest cosines, 1 to `MOST_MATCHES`.
    rotations: of the query, clockwise in degrees.
    scales: sizes of the answer's object relative to the query's, above 0 and up to `LARGEST_SCALE`.
    tolerance: distance in cells, across and down, up to which a match agrees; multiplied by the scale where that is above 1.

  Raises:
    InputError: a value is outside its range, or there is no rotation or scale.
  """

  min_cosine: float = 0.5
  max_matches: int = 150
  rotations: tuple[float, ...] = tuple(map(float, range(0, 360, 20)))
  scales: tuple[float, ...] = (0.4, 0.55, 0.75, 1.0, 1.35, 1.8, 2.5)
  tolerance: float = 1.25

  def __post_init__(self):
    if not 0 < self.min_cosine <= 1:
      raise InputError(f"min_cosine is above 0 and at most 1; found {self.min_cosine}")
    if not 1 <= self.max_matches <= MOST_MATCHES:
      raise InputError(f"max_matches is 1 to {MOST_MATCHES}; found {self.max_matches}")
    if not self.rotations or not all(map(math.isfinite, self.rotations)):
      raise InputError(f"rotations are at least one finite number of degrees; found {self.rotations}")
    if not self.scales or not all(0 < scale <= LARGEST_SCALE for scale in self.scales):
      raise InputError(f"scales are at least one number above 0 and at most {LARGEST_SCALE:g}; found {self.scales}")
    if not 0 <= self.tolerance <= LARGEST_MAP:
      raise InputError(f"tolerance is a number of cells from 0 to {LARGEST_MAP}; found {self.tolerance}")


class Matches(NamedTuple):
  """Matching cells of a query and each of its answers. Positions are (column, row), counted from 0 in the whole map.

  Attributes:
    places: number of matches that agree with the best transformation.
    query_boxes: around the agreeing cells of the query, (left, top, right, bottom) in cells, right and bottom exclusive;
      zeros where there is none.
    answer_boxes: the same of the answer.
    query_positions: of each match, m = `max_matches`, by descending cosine; zeros where there are fewer.
    answer_positions: the same of the answer.
    agrees: whether the match is one of `places`.
    cosines: of each match, rounded to 1/`STEPS`; zero where there is none.
  """

  places: Int32[Array, "b"]
  query_boxes: Int32[Array, "b 4"]
  answer_boxes: Int32[Array, "b 4"]
  query_positions: Int32[Array, "b m 2"]
  answer_positions: Int32[Array, "b m 2"]
  agrees: Bool[Array, "b m"]
  cosines: Float[Array, "b m"]


@jax.named_scope("select_cells")
@check_axes()
def select_cells(
  cams: Float[Array, "b i j c"], mask: Bool[Array, "b i j"], min_cam: float | Float[Array, ""] = MIN_CAM
) -> Bool[Array, "b i j"]:
  """Selects the cells of a query that its classes look at (METHOD 4b.1).

  Args:
    cams: of the query's most probable classes, in [0, 1].
    mask: the query's cells, such as those in its box.
    min_cam: least mean of a cell's maps, as a share of the largest mean; 0 selects the whole mask.

  Returns:
    The selected cells of the mask; all of it where every map is empty.

  Example:
    >>> cams = jnp.array([[[[1.0, 0.6], [0.3, 0.1], [0.2, 0.6]]]])
    >>> select_cells(cams, jnp.ones((1, 1, 3), bool)).tolist()
    [[[True, False, True]]]
  """
  means = jnp.where(mask, cams.mean(-1), 0.0)
  return mask & (means >= min_cam * means.max((1, 2), keepdims=True))


@jax.named_scope("describe_cells")
@check_axes()
def describe_cells(
  features: Float[Array, "b i j k"],
  whitening: Whitening | None = None,
  mask: Bool[Array, "b i j"] | None = None,
) -> Float[Array, "b i j d"]:
  """Normalizes, whitens and normalizes each cell (METHOD 4b.1).

  Args:
    features: of any range.
    whitening: fitted on single cells of unit length; None leaves them as they are, d = k then.
    mask: the cells that count; all if None.

  Returns:
    Unit vectors; zero where a cell is zero or outside the mask.

  Raises:
    ValueError: when it is traced: the whitening has another number of channels.

  Example:
    >>> print(describe_cells(jnp.array([[[[3.0, 4.0], [0.0, 0.0]]]])))
    [[[[0.6 0.8]
       [0.  0. ]]]]
  """
  if mask is not None:
    features = jnp.where(mask[..., None], features, 0.0)
  cells = l2_normalize(features)
  return cells if whitening is None else apply_whitening(whitening, cells)


@jax.named_scope("match_places")
@check_axes()
def match_places(
  query_cells: Float[Array, "i j d"],
  query_mask: Bool[Array, "i j"],
  answer_cells: Float[Array, "b p q d"],
  answer_masks: Bool[Array, "b p q"],
  settings: MatchSettings = MatchSettings(),
) -> Matches:
  """Counts the cells of a query and of each answer that match in one consistent position (METHOD 4b.2 to 4b.4).

  Two cells match where each is the other's nearest, by the cosine, the first in row order among equals. Of these matches
  the `max_matches` with the largest cosines count, the first in the query's row order among equals. Each rotation and scale,
  with the translation that lays one match's query cell on its answer cell, is a transformation. A match agrees with it where
  the query cell lands within `tolerance * max(1, scale)` cells of the answer cell, across and down. The best transformation
  has the most agreeing matches; among equals the largest sum of their cosines; then the first rotation, the first scale and
  the match with the largest cosine.

  Args:
    query_cells: unit vectors, as `describe_cells` returns them; a cell that is zero or not finite matches nothing.
    query_mask: the query's cells, such as those in its box.
    answer_cells: the same of each answer, in a canvas of any size.
    answer_masks: the answer's cells.
    settings: constants; static under `jit`.

  Raises:
    ValueError: when it is traced: axes do not agree, or a map has more than `LARGEST_MAP` cells.

  Example:
    >>> cells = jnp.eye(6).reshape(2, 3, 6)
    >>> moved = jnp.zeros((1, 4, 4, 6)).at[0, 1:3, 1:].set(cells)
    >>> matches = match_places(cells, jnp.ones((2, 3), bool), moved, jnp.ones((1, 4, 4), bool))
    >>> matches.places.tolist(), matches.query_boxes.tolist(), matches.answer_boxes.tolist()
    ([6], [[0, 0, 3, 2]], [[1, 1, 4, 3]])
  """
  for name, mask in (("query_mask [i j]", query_mask), ("answer_masks [b p q]", answer_masks)):
    if math.prod(mask.shape[-2:]) > LARGEST_MAP:
      raise ValueError(f"match_places: {name} has the shape {mask.shape}: a map has at most {LARGEST_MAP} cells")
  positions = (locate_cells(mask.shape[-2:]) for mask in (query_mask, answer_masks))
  cells = (_flatten(query_cells, query_mask), _flatten(answer_cells, answer_masks))
  return match_cells(*itertools.chain(*zip(cells, positions, strict=True)), settings)


def match_cells(
  query_cells: Float[Array, "n d"],
  query_positions: Int32[Array, "n 2"],
  answer_cells: Float[Array, "b m d"],
  answer_positions: Int32[Array, "*b m 2"],
  settings: MatchSettings = MatchSettings(),
) -> Matches:
  """The same for lists of cells, so that maps of any shape share one program.

  Args:
    query_cells: unit vectors in row order; a zero vector matches nothing and stands for a cell that does not count.
    query_positions: (column, row) of each.
    answer_cells: the same of each answer.
    answer_positions: of each answer, or of all of them.
    settings: constants; static under `jit`.

  Example:
    >>> cells, positions = jnp.eye(4), jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]], jnp.int32)
    >>> match_cells(cells, positions, cells[None], positions + 3).answer_boxes.tolist()
    [[3, 3, 5, 5]]
  """
  products = jnp.matmul(answer_cells, query_cells.T, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
  cosines = jnp.clip(jnp.round(STEPS * products), 0, STEPS).astype(jnp.int32)
  query_cell, answer_cell, cosine = _pair(cosines, settings)
  present = (cosine > 0)[..., None]
  answer_positions = jnp.broadcast_to(answer_positions, (*answer_cells.shape[:2], 2))
  query_place = jnp.where(present, query_positions[query_cell], 0)
  answer_place = jnp.where(present, jnp.take_along_axis(answer_positions, answer_cell[..., None], axis=1), 0)
  agrees = _agree(query_place, answer_place, cosine, settings)
  return Matches(
    agrees.sum(1, dtype=jnp.int32),
    _bound(query_place, agrees),
    _bound(answer_place, agrees),
    query_place,
    answer_place,
    agrees,
    cosine.astype(jnp.float32) / STEPS,
  )


def locate_cells(shape: tuple[int, ...]) -> Int32[Array, "n 2"]:
  """Lists the (column, row) of a map's cells in row order.

  Args:
    shape: (rows, columns) of the map.

  Example:
    >>> locate_cells((2, 3)).tolist()
    [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
  """
  rows, columns = np.indices(shape, np.int32)
  return jnp.asarray(np.stack([columns, rows], axis=-1).reshape(-1, 2))


def _flatten(cells: Float[Array, "*b i j d"], mask: Bool[Array, "*b i j"]) -> Float[Array, "*b n d"]:
  """The cells in row order, zero where they do not count."""
  valid = mask & jnp.isfinite(cells).all(-1)
  return jnp.where(valid[..., None], cells, 0.0).reshape(*cells.shape[:-3], -1, cells.shape[-1])


def _pair(
  cosines: Int32[Array, "b n m"], settings: MatchSettings
) -> tuple[Int32[Array, "b l"], Int32[Array, "b l"], Int32[Array, "b l"]]:
  """The query's cell, the answer's and the cosine of the best mutual nearest neighbors; zeros after the last one.

  Args:
    cosines: of each answer's n cells and the query's m, in steps, >= 0.
  """
  nearest_answer, nearest_query = (cosines.argmax(axis).astype(jnp.int32) for axis in (1, 2))  # the first among equals
  largest = cosines.max(1)
  mutual = jnp.take_along_axis(nearest_query, nearest_answer, axis=1) == jnp.arange(cosines.shape[2])
  matching = jnp.where(mutual & (largest >= math.ceil(settings.min_cosine * STEPS)), largest, 0)
  best, query_cell = lax.top_k(matching, min(settings.max_matches, matching.shape[1]))  # the first among equals
  answer_cell = jnp.take_along_axis(nearest_answer, query_cell, axis=1)
  missing = ((0, 0), (0, settings.max_matches - best.shape[1]))
  return tuple(jnp.pad(jnp.where(best > 0, values, 0), missing) for values in (query_cell, answer_cell, best))


def _agree(
  query_positions: Int32[Array, "b m 2"],
  answer_positions: Int32[Array, "b m 2"],
  cosines: Int32[Array, "b m"],
  settings: MatchSettings,
) -> Bool[Array, "b m"]:
  """Which matches agree with the transformation that the most agree with.

  The offset of a match is the translation that lays its query cell, rotated and scaled, on its answer cell. Two matches
  agree where their offsets are near. A vote counts `unit` and the cosine, so that the sum of votes orders transformations by
  their number of matches and then by the sum of cosines.
  """
  matrices, tolerances = _list_transformations(settings)
  rotated = jnp.einsum("hxy,bmy->xbhm", matrices, query_positions)
  offsets = STEPS * jnp.moveaxis(answer_positions, 2, 0)[:, :, None] - rotated
  unit = STEPS * settings.max_matches + 1
  weights = jnp.where(cosines > 0, unit + cosines, 0)

  def add_votes(voter: Int32[Array, ""], votes: Int32[Array, "b h m"]) -> Int32[Array, "b h m"]:
    own = lax.dynamic_index_in_dim(offsets, voter, axis=3)
    weight = lax.dynamic_index_in_dim(weights, voter, axis=1)[:, None]
    return votes + jnp.where(_measure(offsets, own) <= tolerances[:, None], weight, 0)

  # one match's votes at a time: all at once take 150 times the memory and 15 times as long
  most = (cosines > 0).any(0).sum()
  votes = lax.fori_loop(0, most, add_votes, jnp.zeros(offsets.shape[1:], jnp.int32))
  votes = jnp.where(cosines[:, None] > 0, votes, 0).reshape(len(votes), -1)
  transformation, match = jnp.divmod(votes.argmax(1), settings.max_matches)  # the first among equals
  offsets = jnp.take_along_axis(offsets, transformation[None, :, None, None], axis=2)[:, :, 0]
  own = jnp.take_along_axis(offsets, match[None, :, None], axis=2)
  return (_measure(offsets, own) <= jnp.asarray(tolerances)[transformation][:, None]) & (cosines > 0)


def _measure(one: Int32[Array, "2 ..."], other: Int32[Array, "2 ..."]) -> Int32[Array, "..."]:
  """The distance across or down, whichever is larger."""
  return jnp.maximum(jnp.abs(one[0] - other[0]), jnp.abs(one[1] - other[1]))


def _list_transformations(settings: MatchSettings) -> tuple[Int[np.ndarray, "h 2 2"], Int[np.ndarray, "h"]]:
  """The matrix of (column, row) and the tolerance of each rotation and scale, in steps."""
  angles = np.radians(np.asarray(settings.rotations, np.float64))[:, None]
  scales = np.asarray(settings.scales, np.float64)
  cosines, sines = np.cos(angles) * scales, np.sin(angles) * scales
  matrices = np.rint(STEPS * np.array([[cosines, -sines], [sines, cosines]])).astype(np.int32)
  tolerances = np.floor(STEPS * settings.tolerance * np.maximum(scales, 1.0)).astype(np.int32)
  return np.moveaxis(matrices.reshape(2, 2, -1), 2, 0), np.tile(tolerances, len(angles))


def _bound(positions: Int32[Array, "b m 2"], agrees: Bool[Array, "b m"]) -> Int32[Array, "b 4"]:
  """The box around the agreeing positions; zeros where there are none."""
  chosen = agrees[..., None]
  first = jnp.where(chosen, positions, LARGEST_MAP).min(1)
  last = jnp.where(chosen, positions, -1).max(1)
  return jnp.where(agrees.any(1)[:, None], jnp.concatenate([first, last + 1], axis=1), 0)
