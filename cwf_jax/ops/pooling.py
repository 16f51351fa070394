"""From a map of features to vectors.

A pooling method is a function `features [b i j k], ..., mask [b i j] -> vectors`; the mask names the cells that count.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cwf_jax.ops.normalize import l2_normalize


@jax.named_scope("pool_sum")
def pool_sum(
  features: Float[Array, "b i j k"],
  mask: Bool[Array, "b i j"] | None = None,
  spatial_weights: Float[Array, "b i j"] | None = None,
  channel_weights: Float[Array, "b k"] | None = None,
) -> Float[Array, "b k"]:
  """Sums over the cells, weighted if weights are given.

  Without weights this is raw sum pooling; with `compute_channel_weights` the paper's "CroW"; with
  `compute_spatial_weights` too it is CroW (METHOD section 2b).

  Args:
    features: post-ReLU activations, >= 0.
    mask: the cells that count; all if None.
    spatial_weights: of each cell.
    channel_weights: of each channel.

  Returns:
    The sums, not normalized.
  """
  weights = jnp.ones(features.shape[:3], features.dtype) if spatial_weights is None else spatial_weights
  if mask is not None:
    weights = jnp.where(mask, weights, 0.0)
  sums = jnp.einsum("bijk,bij->bk", features, weights, precision=lax.Precision.HIGHEST)
  return sums if channel_weights is None else sums * channel_weights


@jax.named_scope("pool_class_vectors")
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
  """
  if mask is not None:
    cams = jnp.where(mask[..., None], cams, 0.0)
  pooled = jnp.einsum("bijk,bijc->bck", features, cams, precision=lax.Precision.HIGHEST)
  return l2_normalize(pooled * channel_weights[:, None, :])
