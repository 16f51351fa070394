"""From a map of features to vectors.

A pooling method is a function `features [b i j k], ..., mask [b i j] -> vectors`; the mask names the cells that count, and
what the others hold does not matter, were it NaN. A NaN that counts spoils its own image and no other.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.ops.axes import check_axes
from cwf_jax.ops.grid import LONG_OF_REGION, SHORT_OF_REGION, place_spans
from cwf_jax.ops.normalize import l2_normalize
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.ops.weighting import compute_channel_weights

GEM_FLOOR = 1e-6
"""No activation counts as less in the generalized mean (METHOD 2b.8)."""


@jax.named_scope("pool_sum")
@check_axes()
def pool_sum(
  features: Float[Array, "b i j k"],
  mask: Bool[Array, "b i j"] | None = None,
  spatial_weights: Float[Array, "b i j"] | None = None,
  channel_weights: Float[Array, "b k"] | None = None,
) -> Float[Array, "b k"]:
  """Sums over the cells, weighted if weights are given.

  Without weights this is raw sum pooling; with `compute_channel_weights` the paper's "CroW"; with
  `compute_spatial_weights` too it is CroW (METHOD 2b.1, 2b.2 and 2b.5).

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.
    spatial_weights: of each cell.
    channel_weights: of each channel.

  Returns:
    The sums, not normalized.

  Example:
    >>> features = jnp.array([[[[1.0, 0.0], [2.0, 5.0]]]])
    >>> weights = jnp.array([[[1.0, 0.5]]])
    >>> print(pool_sum(features), pool_sum(features, spatial_weights=weights))
    [[3. 5.]] [[2.  2.5]]
  """
  weights = jnp.ones(features.shape[:3], features.dtype) if spatial_weights is None else spatial_weights
  features, weights = _keep(features, mask), weights if mask is None else jnp.where(mask, weights, 0.0)
  sums = jnp.einsum("bijk,bij->bk", features, weights, precision=lax.Precision.HIGHEST)
  return sums if channel_weights is None else sums * channel_weights


@jax.named_scope("pool_max")
@check_axes()
def pool_max(features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None) -> Float[Array, "b k"]:
  """MAC: the maximum of each channel (METHOD 2b.6); Azizpour et al. 2015, Tolias, Sicre and Jegou 2016.

  Args:
    features: any values.
    mask: the cells that count; all if None.

  Returns:
    The maxima, not normalized; zero where no cell counts.

  Example:
    >>> features = jnp.array([[[[1.0, 5.0], [2.0, 3.0]]]])
    >>> print(pool_max(features), pool_max(features, jnp.array([[[True, False]]])))
    [[2. 5.]] [[1. 5.]]
  """
  lowest = jnp.asarray(-jnp.inf, features.dtype)
  kept = features if mask is None else jnp.where(mask[..., None], features, lowest)
  largest = _max_over_lines(_max_over_lines(kept))
  return largest if mask is None else jnp.where(mask.any((1, 2))[:, None], largest, 0.0)


@jax.named_scope("pool_gem")
@check_axes()
def pool_gem(
  features: Float[Array, "b i j k"],
  mask: Bool[Array, "b i j"] | None = None,
  exponent: float | Float[Array, ""] = 3.0,
) -> Float[Array, "b k"]:
  """GeM: the generalized mean `(mean max(x, 1e-6)^p)^(1/p)` of each channel (METHOD 2b.8).

  Radenovic, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", 2019. An exponent of 1 is the
  mean; as it grows the result nears the maximum. It can be learned: the gradient with respect to it is exact.

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.
    exponent: p, more than 0.

  Returns:
    The means, at least `GEM_FLOOR`, not normalized; zero where no cell counts.

  Example:
    >>> features = jnp.array([[[[1.0], [7.0]]]])
    >>> print(pool_gem(features, exponent=1.0), pool_gem(features, exponent=2.0))
    [[4.]] [[5.]]
  """
  kept = jnp.maximum(_keep(features, mask), GEM_FLOOR)
  largest = lax.stop_gradient(pool_max(kept))  # a power of a value over it can neither overflow nor vanish as a whole
  weights = jnp.ones(features.shape[:3], features.dtype) if mask is None else mask.astype(features.dtype)
  cells = weights.sum((1, 2))[:, None]
  powers = (kept / largest[:, None, None]) ** _as_integer(exponent)
  mean = jnp.einsum("bijk,bij->bk", powers, weights, precision=lax.Precision.HIGHEST) / jnp.maximum(cells, 1.0)
  there = cells > 0
  return jnp.where(there, largest * jnp.where(there, mean, 1.0) ** (1.0 / exponent), 0.0)


@jax.jit  # run bare, its loops would be compiled in every call
@jax.named_scope("pool_rmac")
@check_axes()
def pool_rmac(features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None) -> Float[Array, "b r k"]:
  """R-MAC: one vector for each region of a grid, the maximum of each channel in it (METHOD 2b.7).

  Tolias, Sicre and Jegou 2016. The vectors are whitened and summed by `aggregate`; without whitening they are summed as
  they are. The grid is that of the cells that count, in one program for all shapes.

  Args:
    features: post-ReLU activations, >= 0.
    mask: a rectangle of cells, which is the map; all if None.

  Returns:
    Vectors of unit length for the `grid.REGIONS` places of `grid.place_regions`; zero where the map has no such region.

  Example:
    >>> cells = jnp.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    >>> vectors = pool_rmac(cells.reshape(1, 2, 2, 2))
    >>> print(vectors.shape, vectors[0, 0])  # the first region is the whole map
    (1, 50, 2) [0.6 0.8]
  """
  if mask is None:
    mask = jnp.ones(features.shape[:3], bool)
  spans = place_spans(mask)
  lowest = jnp.full((), -jnp.inf, features.dtype)
  side = max(features.shape[1:3])
  cells = jnp.pad(features, ((0, 0), (0, side - features.shape[1]), (0, side - features.shape[2]), (0, 0)))

  def add_line(largest, place):
    # a line along the longer side: a row, or a column where the map stands upright
    row, column = (lax.dynamic_index_in_dim(cells, place, axis, keepdims=False) for axis in (1, 2))
    line = jnp.where(spans.upright[:, None, None], column, row)
    return jnp.maximum(largest, jnp.where(_within(place, spans.short)[..., None, None], line[:, None], lowest)), None

  images, _, _, channels = features.shape
  largest = jnp.full((images, spans.short.shape[1], side, channels), lowest)
  largest, _ = lax.scan(add_line, largest, jnp.arange(side))

  def add_cell(found, place):
    cell = lax.dynamic_index_in_dim(largest, place, 2, keepdims=False)[:, SHORT_OF_REGION]
    return jnp.maximum(found, jnp.where(_within(place, spans.long)[:, LONG_OF_REGION, None], cell, lowest)), None

  found = jnp.full((images, len(SHORT_OF_REGION), channels), lowest)
  found, _ = lax.scan(add_cell, found, jnp.arange(side))
  return l2_normalize(jnp.where(found == lowest, 0.0, found))


@jax.named_scope("pool_class_vectors")
@check_axes(empty="c")
def pool_class_vectors(
  features: Float[Array, "b i j k"],
  cams: Float[Array, "b i j c"],
  channel_weights: Float[Array, "b k"],
  mask: Bool[Array, "b i j"] | None = None,
) -> Float[Array, "b c k"]:
  """Pools one vector for each class, weighting each cell by the class's activation map.

  Jimenez et al. 2017, eq. 4, followed by l2 normalization.

  Args:
    features: post-ReLU activations, >= 0.
    cams: in [0, 1], the maximum of each map 1; an all-zero map is allowed.
    channel_weights: >= 0, natural logarithms.
    mask: the cells that count; all if None.

  Returns:
    Vectors of unit length along k; exactly zero where a map is empty, never NaN.

  Example:
    >>> features = jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])
    >>> cams = jnp.array([[[[0.75, 0.0], [1.0, 0.0]]]])
    >>> print(pool_class_vectors(features, cams, jnp.ones((1, 2)))[0])
    [[0.6 0.8]
     [0.  0. ]]
  """
  pooled = jnp.einsum("bijk,bijc->bck", _keep(features, mask), _keep(cams, mask), precision=lax.Precision.HIGHEST)
  return l2_normalize(pooled * channel_weights[:, None, :])


@jax.named_scope("pool_region_vectors")
@check_axes(empty="c t")
def pool_region_vectors(
  features: Float[Array, "b i j k"],
  cams: Float[Array, "b i j c"],
  boxes: Int[Array, "b t 4"],
  mask: Bool[Array, "b i j"] | None = None,
) -> Float[Array, "b t c k"]:
  """Pools the vectors of classes inside each of an image's boxes, as region re-ranking does (METHOD 4.2).

  The channel weights are those of the box. A map need not be divided by its maximum inside the box: that cancels.

  Args:
    features: post-ReLU activations, >= 0.
    cams: of the query's top classes, >= 0.
    boxes: (left, top, right, bottom) in cells, right and bottom exclusive; zeros for no region.
    mask: the cells that count; all if None.

  Returns:
    Vectors of unit length along k; zero where a box is empty or a map is empty inside it.

  Example:
    >>> features = jnp.array([[[[3.0, 4.0], [1.0, 0.0]]]])
    >>> boxes = jnp.array([[[0, 0, 1, 1], [0, 0, 0, 0]]])
    >>> print(pool_region_vectors(features, jnp.ones((1, 1, 2, 1)), boxes)[0, :, 0])
    [[0.6 0.8]
     [0.  0. ]]
  """

  def pool(boxes: Int[Array, "b 4"]) -> Float[Array, "b c k"]:
    inside = mask_boxes(boxes, features.shape[1:3])
    cut = inside if mask is None else inside & mask
    return pool_class_vectors(features, cams, compute_channel_weights(features, cut), cut)

  return jax.vmap(pool, in_axes=1, out_axes=1)(boxes)


def _keep(values: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None) -> Float[Array, "b i j k"]:
  """Zero outside the mask: zero times what lies there would be NaN, were that infinite."""
  return values if mask is None else jnp.where(mask[..., None], values, 0.0)


def _as_integer(exponent: float | Float[Array, ""]) -> Any:
  """A power of a known whole number is a few products; of any other it takes a logarithm."""
  return int(exponent) if isinstance(exponent, float) and exponent.is_integer() else exponent


@jax.jit  # run bare, the loop would be compiled in every call
def _max_over_lines(values: Float[Array, "b n ..."]) -> Float[Array, "b ..."]:
  """The maximum along the second axis, a whole line at a time: on a CPU many times faster than `max`."""

  def add(largest, place):
    return jnp.maximum(largest, lax.dynamic_index_in_dim(values, place, 1, keepdims=False)), None

  return lax.scan(add, values[:, 0], jnp.arange(1, values.shape[1]))[0]


def _within(place: Int[Array, ""], spans: Int[Array, "b s 2"]) -> Bool[Array, "b s"]:
  return (place >= spans[..., 0]) & (place < spans[..., 1])
