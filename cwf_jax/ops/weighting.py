"""CroW's weights: which channels are rare, which cells are busy.

Kalantidis, Mellina and Osindero, "Cross-dimensional Weighting for Aggregated Deep Convolutional Features", 2016.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


@jax.named_scope("compute_channel_weights")
def compute_channel_weights(
  features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None
) -> Float[Array, "b k"]:
  """Weights a channel by how seldom it fires, as inverse document frequency weights a word.

  Jimenez et al. 2017, eq. 2 and 3: with Q_k the share of cells where channel k is positive, `log(sum_n Q_n / Q_k)`.

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.

  Returns:
    Natural logarithms, >= 0; 0 for a channel that never fires.
  """
  fires = (features > 0) if mask is None else (features > 0) & mask[..., None]
  counts = fires.sum((1, 2)).astype(features.dtype)  # shares times the number of cells, which cancels
  total = counts.sum(-1, keepdims=True)
  return jnp.where(counts > 0, jnp.log(jnp.maximum(total, 1.0) / jnp.maximum(counts, 1.0)), 0.0)


@jax.named_scope("compute_spatial_weights")
def compute_spatial_weights(
  features: Float[Array, "b i j k"], mask: Bool[Array, "b i j"] | None = None, a: float = 2.0, b: float = 2.0
) -> Float[Array, "b i j"]:
  """Weights a cell by the sum of its channels, S: `(S / (sum S^a)^(1/a))^(1/b)` (METHOD section 2b, CroW).

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.
    a: exponent of the norm.
    b: root that is taken of the normalized map.

  Returns:
    Weights in [0, 1]; 0 where no channel fires and outside the mask.
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
