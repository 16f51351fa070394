"""Vectors in a quarter of their bytes: int8 with one float32 scale for each."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Real


@jax.named_scope("quantize")
def quantize(vectors: Float[Array, "... k"]) -> tuple[Int8[Array, "... k"], Float[Array, "..."]]:
  """Rounds each vector to whole numbers of a step that is 1/127 of its largest magnitude.

  Half a step is the most by which a value moves, so a vector moves by at most `sqrt(k) / 254` of its largest magnitude.

  Args:
    vectors: finite; neither tiny nor huge, since the step is a float32.

  Returns:
    Whole numbers from -127 to 127, and the step of each vector, its scale; both zero for a zero vector.

  Example:
    >>> quantized, scales = quantize(jnp.array([[0.6, 0.8], [0.0, 0.0]]))
    >>> print(quantized, scales)
    [[ 95 127]
     [  0   0]] [0.006 0.   ]
  """
  scales = jnp.max(jnp.abs(vectors), axis=-1) / 127
  return jnp.round(vectors / jnp.where(scales > 0, scales, 1)[..., None]).astype(jnp.int8), scales


@jax.named_scope("dequantize")
def dequantize(quantized: Real[Array, "... k"], scales: Float[Array, "..."]) -> Float[Array, "... k"]:
  """The vectors that `quantize` rounded, in float32.

  Args:
    quantized: int8; floats with scales of 1 stay what they are.
    scales: of `quantize`.

  Example:
    >>> print(dequantize(*quantize(jnp.array([[0.6, 0.8]]))))
    [[0.598 0.8  ]]
  """
  return quantized.astype(jnp.float32) * scales[..., None]
