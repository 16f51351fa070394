"""Winograd's F(4x4, 3x3) convolution in plain JAX: four times fewer multiplications than the direct form.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The image is cut into 6x6 tiles that
overlap by two; tiles and kernel are transformed, 36 matrix products over the channels replace the convolution, and the
products are transformed back to 4x4 outputs a tile. The result differs from the direct form by rounding only, about 1e-5
of its maximum, in float32; half precision has too few bits for it. It pays on a CPU, where the matrix products are fast,
and where the products outweigh the transforms: in wide layers.

Each of the 36 places of a tile is an array of its own, a strided view of the image, from the first sum to the last: so
every product reads and writes its operands in place, where one stacked array would be copied once more.
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


def pays_off(images_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
  """Whether `convolve` is faster than XLA's own float32 convolution on a CPU, by shape (measured: benchmarks/forward.py)."""
  return kernel_shape[2] >= 128 and kernel_shape[3] >= 256


def convolve(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  """The 3x3 convolution (a correlation, as networks mean it) with one cell of zero padding, in float32."""
  batch, height, width, channels = images.shape
  rows, columns = -(-height // 4), -(-width // 4)
  padded = jnp.pad(images, ((0, 0), (1, 4 * rows - height + 1), (1, 4 * columns - width + 1), (0, 0)))
  cells = [[padded[:, i : i + 4 * rows - 3 : 4, j : j + 4 * columns - 3 : 4] for j in range(6)] for i in range(6)]
  weights = _transform_kernel(kernel)
  products = [
    [
      jnp.dot(_combine(p, q, cells).reshape(-1, channels), weights[i, j], precision=lax.Precision.HIGHEST)
      for j, q in enumerate(TILE_TRANSFORM)
    ]
    for i, p in enumerate(TILE_TRANSFORM)
  ]
  outputs = [[_combine(p, q, products) for q in OUTPUT_TRANSFORM] for p in OUTPUT_TRANSFORM]
  strips = [jnp.stack(line, 1).reshape(batch, rows, 4 * columns, -1) for line in outputs]
  return jnp.stack(strips, 2).reshape(batch, 4 * rows, 4 * columns, -1)[:, :height, :width]


def _transform_kernel(kernel: Float[Array, "3 3 c k"]) -> Float[Array, "6 6 c k"]:
  """G kernel G^T as one product of a 36 x 9 matrix: an einsum over the axes in place costs ten times as much."""
  transform = np.asarray(KERNEL_TRANSFORM)
  both = jnp.asarray(np.kron(transform, transform), kernel.dtype)
  flat = jnp.dot(both, kernel.reshape(9, -1), precision=lax.Precision.HIGHEST)
  return flat.reshape(6, 6, *kernel.shape[2:])


def _combine(rows: Sequence[float], columns: Sequence[float], terms: Sequence[Sequence[Array]]) -> Array:
  """The sum of `rows[i] * columns[j] * terms[i][j]`, without the terms whose coefficient is zero."""
  return _combine_line(rows, [_combine_line(columns, line) for line in terms])


def _combine_line(coefficients: Sequence[float], terms: Sequence[Array]) -> Array:
  scaled = [term if c == 1 else float(c) * term for c, term in zip(coefficients, terms, strict=True) if c]
  return functools.reduce(operator.add, scaled)
