"""Winograd's F(4x4, 3x3) convolution in plain JAX: four times fewer multiplications than the direct form.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The image is cut into 6x6 tiles that
overlap by two; tiles and kernel are transformed, 36 matrix products over the channels replace the convolution, and the
products are transformed back to 4x4 outputs a tile. The result differs from the direct form by rounding only, about 1e-5
of its maximum. It pays on a CPU, where the matrix products are fast and the direct convolution is not.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TILE_TRANSFORM = (
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
KERNEL_TRANSFORM = np.array(
  [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32
) / np.array([[24], [24], [24], [24], [24], [24]], np.float32)
OUTPUT_TRANSFORM = (
  (1, 1, 1, 1, 1, 0),
  (0, 1, -1, 2, -2, 0),
  (0, 1, 1, 4, 4, 0),
  (0, 1, -1, 8, -8, 1),
)


def convolve(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  """The 3x3 convolution of `images` with one cell of zero padding."""
  return None


def combine(coefficients, terms):
  out = None
  for c, x in zip(coefficients, terms):
    if c == 0:
      continue
    t = x if c == 1 else (-x if c == -1 else float(c) * x)
    out = t if out is None else out + t
  return out


VARIANT = "dup"
def convolve(images, kernel):
  b, h, wd, c = images.shape
  k = kernel.shape[3]
  th, tw = -(-h // 4), -(-wd // 4)
  g = jnp.asarray(KERNEL_TRANSFORM)
  u = jnp.einsum("pi,qj,ijck->pqck", g, g, kernel)
  x = jnp.pad(images, ((0, 0), (1, 4 * th - h + 1), (1, 4 * tw - wd + 1), (0, 0)))
  if VARIANT == "stack":
    rows = jnp.stack([combine(r, [x[:, i : i + 4 * th - 3 : 4] for i in range(6)]) for r in TILE_TRANSFORM])
    rows = jax.lax.optimization_barrier(rows)
    cols = [rows[:, :, :, j : j + 4 * tw - 3 : 4] for j in range(6)]
    d = jnp.stack([combine(r, cols) for r in TILE_TRANSFORM])  # q p b th tw c
    d = jax.lax.optimization_barrier(d)
    m = [[d[q, p].reshape(-1, c) @ u[p, q] for q in range(6)] for p in range(6)]
  else:
    rows = [combine(r, [x[:, i : i + 4 * th - 3 : 4] for i in range(6)]) for r in TILE_TRANSFORM]
    if VARIANT == "bar": rows = jax.lax.optimization_barrier(rows)
    m = [[combine(r, [rows[p][:, :, j : j + 4 * tw - 3 : 4] for j in range(6)]).reshape(-1, c) @ u[p, q] for q, r in enumerate(TILE_TRANSFORM)] for p in range(6)]
  y = [[combine(a, [m[p][q] for p in range(6)]) for q in range(6)] for a in OUTPUT_TRANSFORM]
  o = [[combine(e, ya).reshape(b, th, tw, k) for e in OUTPUT_TRANSFORM] for ya in y]
  o = [jnp.stack(r, 3).reshape(b, th, tw * 4, k) for r in o]
  if VARIANT in ("stack", "bar"): o = jax.lax.optimization_barrier(o)
  o = jnp.stack(o, 2).reshape(b, 4 * th, 4 * tw, k)
  return o[:, :h, :wd]


MIN = 128
def pays_off(images, kernel):
  return kernel[2] >= MIN and kernel[3] >= 2 * MIN
