"""Unit length, with zero kept zero."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.named_scope("l2_normalize")
def l2_normalize(vectors: Float[Array, "... k"]) -> Float[Array, "... k"]:
  """Divides each row by its Euclidean length; a zero row stays zero, never NaN.

  Each row is divided by its largest magnitude first, so neither tiny nor huge values are lost when they are squared.

  Example:
    >>> print(l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]
  """
  largest = lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True))
  scaled = vectors / jnp.where(largest > 0, largest, 1.0)
  squared = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
  return scaled * lax.rsqrt(jnp.where(largest > 0, squared, 1.0))
