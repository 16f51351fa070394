"""The layers that the networks are built of, each exact on images padded at the right and at the bottom.

An image smaller than its canvas comes with a mask of its valid cells. Each layer sets the cells outside the mask to
zero, so that the next convolution sees there what "same" padding would have shown it, and a padded image gives what the
image alone gives. On a CPU the form of a layer decides its speed: `lax.platform_dependent` picks the form when the program
is lowered, so an exported program has the form of the platform that it is exported for.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.models import winograd

Activation = Callable[[Array], Array]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


# Activations are functions of this module, so that a layer that refers to one can be pickled: JAX's own cannot be.


def identity(maps: Array) -> Array:
  """The activation of a linear layer."""
  return maps


def relu(maps: Array) -> Array:
  """The activation max(x, 0)."""
  return jax.nn.relu(maps)


def relu6(maps: Array) -> Array:
  """The activation min(max(x, 0), 6)."""
  return jax.nn.relu6(maps)


def valid_mask(sizes: Int[Array, "b 2"], shape: tuple[int, int]) -> Bool[Array, "b i j"]:
  """Marks the cells of a map of `shape` (rows, columns) that lie inside each image.

  Args:
    sizes: (height, width) of the valid part of each map, in cells of that map.
    shape: rows and columns of the padded map.
  """
  rows = jnp.arange(shape[0])[None, :, None] < sizes[:, 0, None, None]
  columns = jnp.arange(shape[1])[None, None, :] < sizes[:, 1, None, None]
  return rows & columns


def check_canvas(shape: tuple[int, int], multiple: int) -> None:
  """Refuses a canvas, rows and columns in pixels, whose sides are not multiples of `multiple`.

  Raises:
    ValueError: names both.
  """
  if shape[0] % multiple or shape[1] % multiple:
    raise ValueError(f"the sides of the canvas are multiples of {multiple}, found {shape[0]}x{shape[1]}")


def masks_by_stride(sizes: Int[Array, "b 2"], shape: tuple[int, int]) -> dict[int, Bool[Array, "b i j"]]:
  """The mask of the valid cells of a map of each stride, 1 to 32, for images of `sizes` on a canvas of `shape`, in pixels."""
  strides = (1, 2, 4, 8, 16, 32)
  return {stride: valid_mask(sizes // stride, (shape[0] // stride, shape[1] // stride)) for stride in strides}


def mask_cells(maps: Float[Array, "b i j c"], mask: Bool[Array, "b i j"]) -> Float[Array, "b i j c"]:
  """The maps with zeros outside the mask."""
  return jnp.where(mask[..., None], maps, jnp.zeros((), maps.dtype))


def convolve_3x3(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  """A 3x3 convolution (a correlation, as networks mean it) with one cell of zero padding, in the platform's best form."""
  fast = images.dtype == jnp.float32 and winograd.pays_off(images.shape, kernel.shape)
  on_cpu = winograd.convolve if fast else _convolve_lax
  return lax.platform_dependent(images, kernel, cpu=on_cpu, default=_convolve_lax)


def convolve_3x3_halving(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i2 j2 k"]:
  """The same at every second cell. Padding lies below and at the right only: what "same" means where sizes are even."""
  return lax.conv_general_dilated(images, kernel, (2, 2), ((0, 1), (0, 1)), dimension_numbers=_LAYOUT)


def max_pool_2x2(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  """The maximum of each 2x2 block; an odd last row or column is dropped, as in Keras and PyTorch.

  Post-ReLU input (>= 0): an image's last odd row shares its block with padding, and that block lies outside the mask.
  """
  return lax.platform_dependent(images, cpu=_max_pool_slices, default=_max_pool_window)


def max_pool_3x3(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  """The maximum of the 3x3 cells around every second cell, for maps of even sides.

  Post-ReLU input (>= 0): the zeros that pad it change no maximum. The first cells beyond an image's edge touch the image,
  so the result needs the mask again.
  """
  return lax.platform_dependent(images, cpu=_max_pool_3x3_slices, default=_max_pool_3x3_window)


def average_pool_2x2(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  """The mean of each 2x2 block, for maps and masks of even sides: every block lies inside an image or outside of it."""
  corners = [images[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
  return functools.reduce(operator.add, corners) * 0.25


def average_valid(maps: Float[Array, "b i j d"], mask: Bool[Array, "b i j"]) -> Float[Array, "b d"]:
  """Global average pooling over the valid cells, in float32; an image without a valid cell gives zeros."""
  weights = mask.astype(jnp.float32)
  total = jnp.einsum("bijd,bij->bd", maps.astype(jnp.float32), weights, precision=lax.Precision.HIGHEST)
  return total / jnp.maximum(weights.sum((1, 2)), 1.0)[:, None]


class MaskedConv(nnx.Module):
  """A convolution with bias and activation whose output is zero outside the mask.

  This one is 3x3; the others differ in `kernel_shape` and `convolve`. Batch norm is folded into kernel and bias: while a
  network is trained, `training.normalization` puts it between the two.
  """

  def __init__(
    self, channels_in: int, channels_out: int, *, rngs: nnx.Rngs, stride: int = 1, activation: Activation = relu
  ):
    """With He's initial values; `stride` 2 pads below and at the right only, as "same" does for even sizes."""
    self.stride = stride
    self.activation = activation
    initialize = nnx.initializers.he_normal()
    self.kernel = nnx.Param(initialize(rngs.params(), self.kernel_shape(channels_in, channels_out), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((channels_out,), jnp.float32))

  def kernel_shape(self, channels_in: int, channels_out: int) -> tuple[int, int, int, int]:
    """(rows, columns, input channels that each output channel reads, output channels)."""
    return (3, 3, channels_in, channels_out)

  def convolve(self, maps: Float[Array, "b i j c"], kernel: Array) -> Float[Array, "b i2 j2 k"]:
    """The convolution alone, with a kernel in the place of the layer's own."""
    return convolve_3x3(maps, kernel) if self.stride == 1 else convolve_3x3_halving(maps, kernel)

  def __call__(self, maps: Float[Array, "b i j c"], mask: Bool[Array, "b i2 j2"]) -> Float[Array, "b i2 j2 k"]:
    """The layer; `mask` marks the valid cells of its output."""
    result = self.convolve(maps, self.kernel[...].astype(maps.dtype)) + self.bias[...].astype(maps.dtype)
    return self.finish(result, mask)

  def finish(self, result: Float[Array, "b i j k"], mask: Bool[Array, "b i j"]) -> Float[Array, "b i j k"]:
    """The activation, and zeros outside the mask."""
    return mask_cells(self.activation(result), mask)


class PointwiseConv(MaskedConv):
  """A convolution of 1x1: a product over the channels of each cell, or of every `stride`-th one."""

  def kernel_shape(self, channels_in: int, channels_out: int) -> tuple[int, int, int, int]:
    return (1, 1, channels_in, channels_out)

  def convolve(self, maps: Float[Array, "b i j c"], kernel: Array) -> Float[Array, "b i j k"]:
    return jnp.einsum("bijc,ck->bijk", maps[:, :: self.stride, :: self.stride], kernel[0, 0])


class PaddedConv(MaskedConv):
  """A convolution with size // 2 cells of zeros on all sides at every stride, as PyTorch and Caffe pad.

  "Same" pads in this way at stride 1 only.
  """

  def __init__(
    self,
    channels_in: int,
    channels_out: int,
    *,
    rngs: nnx.Rngs,
    stride: int = 1,
    size: int = 3,
    activation: Activation = relu,
  ):
    """As `MaskedConv`, with kernels of `size` x `size`, an odd number."""
    self.size = size
    super().__init__(channels_in, channels_out, rngs=rngs, stride=stride, activation=activation)

  def kernel_shape(self, channels_in: int, channels_out: int) -> tuple[int, int, int, int]:
    return (self.size, self.size, channels_in, channels_out)

  def convolve(self, maps: Float[Array, "b i j c"], kernel: Array) -> Float[Array, "b i2 j2 k"]:
    padding = ((self.size // 2,) * 2,) * 2
    return lax.conv_general_dilated(maps, kernel, (self.stride,) * 2, padding, dimension_numbers=_LAYOUT)


class DepthwiseConv(PaddedConv):
  """A convolution of each channel by itself, padded as "same" does; `channels_in` and `channels_out` are the same."""

  def kernel_shape(self, channels_in: int, channels_out: int) -> tuple[int, int, int, int]:
    return (self.size, self.size, 1, channels_out)

  def convolve(self, maps: Float[Array, "b i j c"], kernel: Array) -> Float[Array, "b i2 j2 c"]:
    shifted = functools.partial(_depthwise_shifted, stride=self.stride)
    grouped = functools.partial(_depthwise_lax, stride=self.stride)
    return lax.platform_dependent(maps, kernel, cpu=shifted, default=grouped)


class ChannelScale(nnx.Module):
  """A factor and an offset for each channel, then ReLU: a batch norm with no convolution before it to fold it into.

  An offset is not zero on padding, so the mask is applied again.
  """

  def __init__(self, channels: int):
    self.scale = nnx.Param(jnp.ones((channels,), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))

  def __call__(self, maps: Float[Array, "b i j c"], mask: Bool[Array, "b i j"]) -> Float[Array, "b i j c"]:
    scaled = maps * self.scale[...].astype(maps.dtype) + self.bias[...].astype(maps.dtype)
    return mask_cells(relu(scaled), mask)


class CenteredClassifier(nnx.Module):
  """The linear layer over averaged CAM features; it starts with weights centered over the classes.

  Softmax ignores a vector added to the weights of all classes, class activation maps do not: with a common part in the
  weights all maps of an image can be empty (METHOD 2.1).
  """

  def __init__(self, channels: int, num_classes: int, *, rngs: nnx.Rngs):
    weights = nnx.initializers.lecun_normal()(rngs.params(), (channels, num_classes), jnp.float32)
    self.kernel = nnx.Param(weights - weights.mean(1, keepdims=True))
    self.bias = nnx.Param(jnp.zeros((num_classes,), jnp.float32))

  def __call__(self, pooled: Float[Array, "b d"]) -> Float[Array, "b c"]:
    return jnp.dot(pooled, self.kernel[...], precision=lax.Precision.HIGHEST) + self.bias[...]


def _convolve_lax(images: Float[Array, "b i j c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b i j k"]:
  return lax.conv_general_dilated(images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)


def _same_padding(size: int, stride: int) -> tuple[int, int]:
  """Cells of zeros before and after: "same" as TensorFlow means it where sizes are multiples of the stride."""
  total = size - stride
  return total // 2, total - total // 2


def _depthwise_lax(images: Float[Array, "b i j c"], kernel: Float[Array, "n n 1 c"], stride: int) -> Array:
  padding = (_same_padding(kernel.shape[0], stride),) * 2
  channels = images.shape[-1]
  return lax.conv_general_dilated(
    images, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT, feature_group_count=channels
  )


def _depthwise_shifted(images: Float[Array, "b i j c"], kernel: Float[Array, "n n 1 c"], stride: int) -> Array:
  """One shifted multiply-add for each value of a kernel: a grouped convolution is eight times slower on a CPU."""
  size = kernel.shape[0]
  rows, columns = images.shape[1] // stride * stride, images.shape[2] // stride * stride
  sides = _same_padding(size, stride)
  padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)))
  terms = [
    padded[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j, 0] for i in range(size) for j in range(size)
  ]
  return functools.reduce(operator.add, terms)


def _max_pool_slices(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
  corners = [images[:, row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
  return functools.reduce(jnp.maximum, corners)


def _max_pool_window(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  return nnx.max_pool(images, (2, 2), (2, 2))


def _max_pool_3x3_slices(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  padded = jnp.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0)))
  rows = functools.reduce(jnp.maximum, [padded[:, row : row + images.shape[1] - 1 : 2] for row in range(3)])
  return functools.reduce(jnp.maximum, [rows[:, :, column : column + images.shape[2] - 1 : 2] for column in range(3)])


def _max_pool_3x3_window(images: Float[Array, "b i j c"]) -> Float[Array, "b i2 j2 c"]:
  return nnx.max_pool(images, (3, 3), (2, 2), ((1, 0), (1, 0)))
