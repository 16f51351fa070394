"""Winograd's F(4x4, 3x3) convolution in plain JAX: four times fewer multiplications than the direct form.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The image is cut into 6x6 tiles that
overlap by two; tiles and kernel are transformed, 36 matrix products over the channels replace the convolution, and the
products are transformed back to 4x4 outputs a tile. The result differs from the direct form by rounding only, about 1e-5
of its maximum, in float32; half precision has too few bits for it. It pays on a CPU, where the matrix products are fast,
and where the products outweigh the transforms: in wide layers.

Memory traffic decides the rest. Both transforms go one axis at a time, and what stands between the two steps is stacked
and behind a barrier: XLA would fuse the steps into loops over up to 36 arrays at once, which took twice as long for a whole
layer of 512 channels. The products are 36 separate ones, since a batched product copied its operands.
"""

import functools
import operator
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

TILE_TRANSFORM = (  # B^T in the paper
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
KERNEL_TRANSFORM = (  # G
  (1 / 4, 0, 0),
  (-1 / 6, -1 / 6, -1 / 6),
  (-1 / 6, 1 / 6, -1 / 6),
  (1 / 24, 1 / 12, 1 / 6),
  (1 / 24, -1 / 12, 1 / 6),
  (0, 0, 1),
)
OUTPUT_TRANSFORM = (  # A^T
  (1, 1, 1, 1, 1, 0),
  (0, 1, -1, 2, -2, 0),
  (0, 1, 1, 4, 4, 0),
  (0, 1, -1, 8, -8, 1),
)
MINIMUM_TILES = 32
MINIMUM_PRODUCTS = 10**9


def pays_off(images_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
  """Whether `convolve` is worth it against XLA's own float32 convolution on a CPU, by layers timed one by one.

  With fewer channels its gain is small for the memory that it takes, nearly four times the image's. With few tiles the kernel's
  transform costs more than it saves. A layer of fewer multiplications gains milliseconds, and compiling takes seconds. A batch
  of a size that is not known yet, in an exported program, is judged by one image.
  """
  batch, height, width, _ = images_shape
  batch = batch if isinstance(batch, int) else 1
  channels_in, channels_out = kernel_shape[2:]
  tiles = batch * -(-height // 4) * -(-width // 4)
  products = 9 * batch * height * width * channels_in * channels_out
  return channels_in >= 64 and channels_out >= 128 and tiles >= MINIMUM_TILES and products >= MINIMUM_PRODUCTS


def convolve(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  """The 3x3 convolution (a correlation, as networks mean it) with one cell of zero padding, in float32."""
  batch, height, width, channels = images.shape
  rows, columns = -(-height // 4), -(-width // 4)
  padded = jnp.pad(images, ((0, 0), (1, 4 * rows - height + 1), (1, 4 * columns - width + 1), (0, 0)))
  phases = [padded[:, i : i + 4 * rows - 3 : 4] for i in range(6)]  # every fourth row, from the i-th on
  lines = lax.optimization_barrier(jnp.stack([_combine(line, phases) for line in TILE_TRANSFORM]))
  weights = _transform_kernel(kernel)
  halves = []
  for i in range(6):
    phases = [lines[i, :, :, j : j + 4 * columns - 3 : 4] for j in range(6)]
    tiles = [_combine(line, phases).reshape(-1, channels) for line in TILE_TRANSFORM]
    products = [jnp.dot(tiles[j], weights[i, j], precision=lax.Precision.HIGHEST) for j in range(6)]
    halves.append(jnp.stack([_combine(line, products) for line in OUTPUT_TRANSFORM], 1))
  halves = lax.optimization_barrier(halves)
  outputs = [_combine(line, halves).reshape(batch, rows, 4 * columns, -1) for line in OUTPUT_TRANSFORM]
  return jnp.stack(outputs, 2).reshape(batch, 4 * rows, 4 * columns, -1)[:, :height, :width]


def _transform_kernel(kernel: Float[Array, "3 3 c k"]) -> Float[Array, "6 6 c k"]:
  """G kernel G^T as one product of a 36 x 9 matrix: an einsum over the axes in place costs ten times as much."""
  transform = np.asarray(KERNEL_TRANSFORM)
  both = jnp.asarray(np.kron(transform, transform), kernel.dtype)
  flat = jnp.dot(both, kernel.reshape(9, -1), precision=lax.Precision.HIGHEST)
  return flat.reshape(6, 6, *kernel.shape[2:])


def _combine(coefficients: Sequence[float], terms: Sequence[Array]) -> Array:
  """The sum of `coefficients[i] * terms[i]`, without the terms whose coefficient is zero."""
  scaled = [term if c == 1 else float(c) * term for c, term in zip(coefficients, terms, strict=True) if c]
  return functools.reduce(operator.add, scaled)
