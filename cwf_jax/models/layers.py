"""The layers that the networks are built of, each exact on images padded at the right and at the bottom.

An image smaller than its canvas comes with a mask of its valid cells. Each layer sets the cells outside the mask to
zero, so that the next convolution sees there what "same" padding would have shown it, and a padded image gives what the
image alone gives. On a CPU the form of a layer decides its speed: `lax.platform_dependent` picks the form when the program
is lowered, so an exported program has the form of the platform that it is exported for.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.models import winograd


def valid_mask(sizes: Int[Array, "b 2"], shape: tuple[int, int]) -> Bool[Array, "b i j"]:
  """Marks the cells of a map of `shape` (rows, columns) that lie inside each image.

  Args:
    sizes: (height, width) of the valid part of each map, in cells of that map.
    shape: rows and columns of the padded map.
  """
  rows = jnp.arange(shape[0])[None, :, None] < sizes[:, 0, None, None]
  columns = jnp.arange(shape[1])[None, None, :] < sizes[:, 1, None, None]
  return rows & columns


def convolve_3x3(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  """A 3x3 convolution (a correlation, as networks mean it) with one cell of zero padding, in the platform's best form."""
  fast = images.dtype == jnp.float32 and winograd.pays_off(images.shape, kernel.shape)
  on_cpu = winograd.convolve if fast else _convolve_lax
  return lax.platform_dependent(images, kernel, cpu=on_cpu, default=_convolve_lax)


def max_pool_2x2(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  """The maximum of each 2x2 block; an odd last row or column is dropped, as in Keras and PyTorch.

  Post-ReLU input (>= 0): an image's last odd row shares its block with padding, and that block lies outside the mask.
  """
  return lax.platform_dependent(images, cpu=_max_pool_slices, default=_max_pool_window)


def average_valid(maps: Float[Array, "b i j d"], mask: Bool[Array, "b i j"]) -> Float[Array, "b d"]:
  """Global average pooling over the valid cells, in float32; an image without a valid cell gives zeros."""
  weights = mask.astype(jnp.float32)
  total = jnp.einsum("bijd,bij->bd", maps.astype(jnp.float32), weights, precision=lax.Precision.HIGHEST)
  return total / jnp.maximum(weights.sum((1, 2)), 1.0)[:, None]


class MaskedConv(nnx.Module):
  """A 3x3 convolution with bias and ReLU whose output is zero outside the mask."""

  def __init__(self, channels_in: int, channels_out: int, *, rngs: nnx.Rngs):
    initialize = nnx.initializers.he_normal()
    self.kernel = nnx.Param(initialize(rngs.params(), (3, 3, channels_in, channels_out), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((channels_out,), jnp.float32))

  def __call__(self, maps: Float[Array, "b i j c"], mask: Bool[Array, "b i j"]) -> Float[Array, "b i j k"]:
    result = convolve_3x3(maps, self.kernel[...].astype(maps.dtype)) + self.bias[...].astype(maps.dtype)
    return jnp.where(mask[..., None], jax.nn.relu(result), jnp.zeros((), maps.dtype))


class CenteredClassifier(nnx.Module):
  """The linear layer over averaged CAM features; it starts with weights centered over the classes.

  Softmax ignores a vector added to the weights of all classes, class activation maps do not: with a common part in the
  weights all maps of an image can be empty (METHOD section 2).
  """

  def __init__(self, channels: int, num_classes: int, *, rngs: nnx.Rngs):
    weights = nnx.initializers.lecun_normal()(rngs.params(), (channels, num_classes), jnp.float32)
    self.kernel = nnx.Param(weights - weights.mean(1, keepdims=True))
    self.bias = nnx.Param(jnp.zeros((num_classes,), jnp.float32))

  def __call__(self, pooled: Float[Array, "b d"]) -> Float[Array, "b c"]:
    return jnp.dot(pooled, self.kernel[...], precision=lax.Precision.HIGHEST) + self.bias[...]


def _convolve_lax(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  return lax.conv_general_dilated(
    images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _max_pool_slices(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
  corners = [images[:, row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
  return functools.reduce(jnp.maximum, corners)


def _max_pool_window(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  return nnx.max_pool(images, (2, 2), (2, 2))
