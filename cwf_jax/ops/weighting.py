"""Weights of channels and of cells: CroW's, for rare channels and busy cells, and SPoC's, for cells near the center.

Kalantidis, Mellina and Osindero, "Cross-dimensional Weighting for Aggregated Deep Convolutional Features", 2016; Babenko and
Lempitsky, "Aggregating Deep Convolutional Features for Image Retrieval", 2015.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwf_jax.ops.axes import check_axes


@jax.named_scope("compute_channel_weights")
@check_axes()
def compute_channel_weights(
  features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None, epsilon: float = 0.0
) -> Float[Array, "b k"]:
  """Weights a channel by how seldom it fires, as inverse document frequency weights a word.

  Jimenez et al. 2017, eq. 2 and 3: with Q_k the share of cells where channel k is positive, `log(sum_n Q_n / Q_k)`.
  The paper of CroW has an epsilon: `log((K e + sum_n Q_n) / (e + Q_k))`, which is largest for a channel that never fires.

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.
    epsilon: CroW's e, >= 0; static.

  Returns:
    Natural logarithms, >= 0; without an epsilon 0 for a channel that never fires.

  Example:
    >>> features = jnp.array([[[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]])
    >>> print(compute_channel_weights(features))  # log(3/2), log(3/1), 0
    [[0.405 1.099 0.   ]]
  """
  fires = (features > 0) if mask is None else (features > 0) & mask[..., None]
  exact = jnp.promote_types(features.dtype, jnp.float32)  # half precision cannot count so far
  counts = fires.sum((1, 2)).astype(exact)  # shares times the number of cells, which cancels
  total = counts.sum(-1, keepdims=True)
  if epsilon:
    cells = features.shape[1] * features.shape[2] if mask is None else jnp.maximum(mask.sum((1, 2)), 1)[:, None]
    least = epsilon * jnp.asarray(cells, exact)
    return jnp.log((features.shape[-1] * least + total) / (least + counts)).astype(features.dtype)
  weights = jnp.where(counts > 0, jnp.log(jnp.maximum(total, 1.0) / jnp.maximum(counts, 1.0)), 0.0)
  return weights.astype(features.dtype)


@jax.named_scope("compute_spatial_weights")
@check_axes()
def compute_spatial_weights(
  features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None, a: float = 2.0, b: float = 2.0
) -> Float[Array, "b i j"]:
  """Weights a cell by the sum of its channels, S: `(S / (sum S^a)^(1/a))^(1/b)` (METHOD 2b.5).

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.
    a: exponent of the norm.
    b: root that is taken of the normalized map.

  Returns:
    Weights in [0, 1]; 0 where no channel fires and outside the mask.

  Example:
    >>> print(compute_spatial_weights(jnp.array([[[[3.0], [4.0]]]]), b=1.0))
    [[[0.6 0.8]]]
  """
  sums = features.sum(-1)
  if mask is not None:
    sums = jnp.where(mask, sums, 0.0)
  largest = sums.max((1, 2), keepdims=True)
  scaled = sums / jnp.where(largest > 0, largest, 1.0)
  fires = scaled > 0
  safe = jnp.where(fires, scaled, 1.0)  # the derivative of a root is infinite at 0
  norm = jnp.where(fires, safe**a, 0.0).sum((1, 2), keepdims=True)
  return jnp.where(fires, (safe / jnp.where(norm > 0, norm, 1.0) ** (1.0 / a)) ** (1.0 / b), 0.0)


@jax.named_scope("compute_center_weights")
@check_axes()
def compute_center_weights(
  features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None
) -> Float[Array, "b i j"]:
  """SPoC's center prior: `exp(-((y - cy)^2 + (x - cx)^2) / (2 s^2))`, s a sixth of the shorter side (METHOD 2b.3).

  Args:
    features: of which only the shape and the type count.
    mask: a rectangle of cells, which is the map; all if None.

  Returns:
    Weights in (0, 1], 1 at a center that is a cell; 0 outside the mask.

  Example:
    >>> print(compute_center_weights(jnp.zeros((1, 3, 3, 1)))[0])  # 1, exp(-2), exp(-4)
    [[0.018 0.135 0.018]
     [0.135 1.    0.135]
     [0.018 0.135 0.018]]
  """
  if mask is None:
    mask = jnp.ones(features.shape[:3], bool)
  across, down = mask.any(1), mask.any(2)  # the columns and the rows of the map
  deviation = jnp.maximum(jnp.minimum(across.sum(1), down.sum(1)), 1).astype(features.dtype) / 6
  x, y = (_square_distances(line, deviation) for line in (across, down))
  return jnp.where(mask, jnp.exp(-(y[:, :, None] + x[:, None, :]) / 2), 0.0)


def _square_distances(line: Bool[Array, "b i"], unit: Float[Array, "b"]) -> Float[Array, "b i"]:
  """The square of each cell's distance from the middle of those that count."""
  middle = line.argmax(1) + (line.sum(1) - 1) / 2
  return jnp.square((jnp.arange(line.shape[1]) - middle[:, None]).astype(unit.dtype) / unit[:, None])
