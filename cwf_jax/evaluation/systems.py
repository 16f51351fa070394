"""The systems that pool a feature map into one vector, each a few lines over `ops` (METHOD section 2b).

Another one is another function here and its line in `POOLED`.
"""

from collections.abc import Callable, Mapping

from jaxtyping import Array, Bool, Float

from cwf_jax.ops.normalize import l2_normalize
from cwf_jax.ops.pooling import pool_sum
from cwf_jax.ops.weighting import compute_channel_weights, compute_spatial_weights

Features = Float[Array, "b i j k"]
Mask = Bool[Array, "b i j"]
Vectors = Float[Array, "b k"]


def pool_raw(features: Features, mask: Mask) -> Vectors:
  """`raw`: the sum over the cells, of unit length."""
  return l2_normalize(pool_sum(features, mask))


def pool_crow(features: Features, mask: Mask) -> Vectors:
  """`crow`: CroW's spatial and channel weights, of unit length (Kalantidis, Mellina and Osindero 2016)."""
  spatial, channel = compute_spatial_weights(features, mask), compute_channel_weights(features, mask)
  return l2_normalize(pool_sum(features, mask, spatial, channel))


POOLED: Mapping[str, Callable[[Features, Mask], Vectors]] = {"raw": pool_raw, "crow": pool_crow}
"""By name; vectors before whitening."""
