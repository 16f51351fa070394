"""Regions of a heat map: the bounding box of its largest connected component above each threshold.

    boxes = find_regions(heatmaps, THRESHOLDS)
    boxes[0, 1]    # of the first map, above a tenth of its maximum: left, top, right, bottom
"""

import functools
from collections.abc import Iterable
from typing import SupportsFloat

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32

THRESHOLDS = (0.01, 0.1, 0.2, 0.3, 0.4)
"""METHOD 4.2; the published code stops before the last (METHOD 7.5)."""


def find_regions(
  heatmaps: Float[Array, "b i j"], thresholds: Iterable[SupportsFloat] = THRESHOLDS, strict: bool = True
) -> Int32[Array, "b t 4"]:
  """Finds the bounding box of the largest 8-connected component above each threshold.

  METHOD 4.2; METHOD 7.7 and 7.16 (component, strictness); METHOD 7.19 (a map without a region). The largest
  component is the one with the most cells; among equals the one whose first cell in row order comes first.

  Args:
    heatmaps: of any scale; at least one cell. A NaN empties its own map and no other.
    thresholds: fractions of each map's own maximum, in [0, 1]; the product is rounded as the maps are, to float32 at least.
    strict: whether a cell must exceed the threshold (`>`) or may equal it (`>=`).

  Returns:
    Boxes in cells, (left, top, right, bottom), right and bottom exclusive, down to 1x1; zeros where a map has no positive
    value, its maximum is NaN or no cell passes.

  Raises:
    ValueError: the rank or a threshold is wrong, or the maps have no cells.

  Example:
    >>> heatmaps = jnp.array([[[9.0, 0.0, 5.0], [0.0, 0.0, 5.0]]])
    >>> find_regions(heatmaps, [0.5, 0.6]).tolist()
    [[[2, 0, 3, 2], [0, 0, 1, 1]]]
  """
  if heatmaps.ndim != 3 or 0 in heatmaps.shape[1:]:
    raise ValueError(f"heatmaps are [b i j] of at least one cell; found the shape {heatmaps.shape}")
  thresholds = tuple(map(float, thresholds))
  if not all(0 <= threshold <= 1 for threshold in thresholds):  # a NaN fails, too
    raise ValueError(f"thresholds are fractions of a map's maximum, in [0, 1]; found {thresholds}")
  return _find_regions(heatmaps, thresholds, strict)


@functools.partial(jax.jit, static_argnames=("thresholds", "strict"))  # run bare, the loop would be compiled in every call
@jax.named_scope("find_regions")
def _find_regions(heatmaps: Float[Array, "b i j"], thresholds: tuple[float, ...], strict: bool) -> Int32[Array, "b t 4"]:
  images, rows, columns = heatmaps.shape
  values = heatmaps.astype(jnp.promote_types(heatmaps.dtype, jnp.float32))[:, None]
  largest = values.max((2, 3), keepdims=True)
  limits = jnp.asarray(thresholds, values.dtype)[:, None, None] * largest
  masks = (values > limits if strict else values >= limits) & (largest > 0)
  boxes = _bound(_select_largest(masks.reshape(images * len(thresholds), rows, columns)))
  return boxes.reshape(images, len(thresholds), 4)


def label_components(masks: Bool[Array, "n i j"]) -> tuple[Int32[Array, "n i j"], Int32[Array, ""]]:
  """Labels 8-connected components.

  Every cell points to a cell of its component, at first to itself. A round lowers the pointer of each cell and of the cell
  it points to, to the lowest pointer around (hooking), and then follows pointers (jumping). The rounds grow with
  the logarithm of the cells, also on spirals and combs: 7 over 45x64 cells, 9 over 180x256.

  Args:
    masks: the cells to connect.

  Raises:
    ValueError: when it is traced: 2^31 cells or more.

  Returns:
    The smallest index in row order, in 0 to i j - 1, of each cell's component, i j outside the mask; and the rounds it took.

  Example:
    >>> masks = jnp.array([[[True, False, True], [True, False, False]]])
    >>> label_components(masks)[0].tolist()
    [[[0, 6, 2], [0, 6, 6]]]
  """
  if masks.size >= 2**31:
    raise ValueError(f"label_components: masks [n i j] have the shape {masks.shape}: 2^31 cells are too many to count in int32")
  maps, rows, columns = masks.shape
  outside = jnp.int32(masks.size)
  indices = lax.iota(jnp.int32, masks.size)

  def lower(state):
    pointers, _, rounds = state
    lowest = jnp.where(masks, pointers.reshape(masks.shape), outside)
    for axis in (1, 2):
      lowest = _take_lowest_of_three(lowest, axis, outside)
    lowest = jnp.where(masks.reshape(-1), lowest.reshape(-1), indices)
    lowered = jnp.minimum(pointers.at[pointers].min(lowest, mode="promise_in_bounds"), lowest)
    for _ in range(2):
      lowered = lowered.at[lowered].get(mode="promise_in_bounds")
    return lowered, (lowered != pointers).any(), rounds + 1

  # without a change, no neighbor points lower: a component has one pointer, and its first cell cannot point below itself
  pointers, _, rounds = lax.while_loop(lambda state: state[1], lower, (indices, masks.any(), jnp.int32(0)))
  first_of_map = jnp.arange(maps, dtype=jnp.int32)[:, None, None] * (rows * columns)
  return jnp.where(masks, pointers.reshape(masks.shape) - first_of_map, rows * columns), rounds


def _take_lowest_of_three(values: Int[Array, "n i j"], axis: int, outside: Int[Array, ""]) -> Int[Array, "n i j"]:
  """The minimum of each cell, the one before it and the one after it."""
  margin = [(1, 1) if n == axis else (0, 0) for n in range(3)]
  padded = jnp.pad(values, margin, constant_values=outside)
  before, after = (lax.slice_in_dim(padded, start, start + values.shape[axis], axis=axis) for start in (0, 2))
  return jnp.minimum(values, jnp.minimum(before, after))


def _select_largest(masks: Bool[Array, "n i j"]) -> Bool[Array, "n i j"]:
  """Keeps the largest component of each mask, the first in row order among equals."""
  cells = masks.shape[1] * masks.shape[2]
  labels = label_components(masks)[0].reshape(len(masks), cells)
  counts = jnp.zeros((len(masks), cells + 1), jnp.int32).at[jnp.arange(len(masks))[:, None], labels].add(1)
  chosen = counts[:, :cells].argmax(1)  # a label is a component's first cell, so the first maximum is the first in row order
  return (labels == chosen[:, None]).reshape(masks.shape)


def _bound(masks: Bool[Array, "n i j"]) -> Int32[Array, "n 4"]:
  """The bounding box of each mask; zeros of an empty one."""
  rows, columns = masks.any(2), masks.any(1)
  right = masks.shape[2] - columns[:, ::-1].argmax(1)
  bottom = masks.shape[1] - rows[:, ::-1].argmax(1)
  boxes = jnp.stack([columns.argmax(1), rows.argmax(1), right, bottom], axis=1)
  return jnp.where(rows.any(1)[:, None], boxes, 0).astype(jnp.int32)


def mask_boxes(boxes: Int[Array, "b 4"], shape: tuple[int, int]) -> Bool[Array, "b i j"]:
  """Marks the cells of one box a map.

  Args:
    boxes: (left, top, right, bottom) in cells, right and bottom exclusive; may reach beyond the map.
    shape: (i, j), rows and columns of the map.

  Returns:
    True inside; a box of zeros marks nothing.

  Example:
    >>> mask_boxes(jnp.array([[1, 0, 3, 1]]), (2, 3)).astype(int).tolist()
    [[[0, 1, 1], [0, 0, 0]]]
  """
  left, top, right, bottom = (boxes[:, side, None] for side in range(4))
  rows, columns = (jnp.arange(side) for side in shape)
  inside_rows, inside_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
  return inside_rows[:, :, None] & inside_columns[:, None, :]
