"""VGG-16 and VGG-19, as Keras and torchvision publish them: the trunk, pool5, and the classifier fc6, fc7, fc8.

fc6 is a 7x7 convolution over pool5 and fc7 a 1x1 one, as Simonyan and Zisserman test their networks (ICLR 2015, section 3.2).
An image of 224x224 has one window of 7x7 cells, a larger one has a window around each cell that is three cells from every edge.
The classifier, a linear layer, reads the mean of fc7 over these windows. So fc7 is the CAM feature map, on pool5's cells of
stride 32, and its CAMs are exact; they are zero in the three rows and columns at each border. At 224 pixels a CAM is a single
cell. An axis of fewer than seven cells has one window in its middle; zeros stand where it sticks out of the image.

Without the classifier (Keras's `include_top=False`) the network is a feature extractor without classes. Its forward pass
returns every tap of the trunk, pool5 in the place of the CAM features, and logits [b 0]. There are no class weights, so there
are no CAMs and no class vectors, and `load_encoder` refuses it: call the network and pool its taps with `cwf_jax.ops.pooling`.

Layers are named conv1_1 ... conv5_3 (conv5_4), fc6, fc7, classifier.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from cwf_jax.models import layers
from cwf_jax.models.network import ComputedMaps, Masks, Preprocessing
from cwf_jax.models.vgg_trunk import VGGTrunk, VGGTrunkConfig

WINDOW = 7
"""Side of fc6's window, in cells of pool5."""


@dataclasses.dataclass(frozen=True)
class VGGConfig(VGGTrunkConfig):
  """The shape of a VGG: its trunk's, and these.

  Attributes:
    classifier_channels: D, channels of fc6 and fc7.
    num_classes: C; 0 without fc6, fc7 and the classifier.
    image_size: the default shorter side of images, in pixels: at 448 a CAM has 8x8 cells or more.
    preprocessing: from pixels to the network's input; torchvision's files need `Preprocessing.torchvision()`.
  """

  classifier_channels: int = 4096
  num_classes: int = 1000
  image_size: int = 448
  preprocessing: Preprocessing = Preprocessing.caffe()

  cam_stride = 32
  size_multiple = 32

  @classmethod
  def vgg16(cls, num_classes: int = 1000) -> "VGGConfig":
    """13 convolutions, ImageNet's classes or none, and BGR less ImageNet's means, as Keras and Caffe have it."""
    return cls(num_classes=num_classes)

  @classmethod
  def vgg19(cls, num_classes: int = 1000) -> "VGGConfig":
    """The same with 16 convolutions."""
    return cls(num_classes=num_classes, depths=(2, 2, 4, 4, 4))

  @property
  def tap_names(self) -> tuple[str, ...]:
    """The trunk's maps, then fc6 and fc7 after their ReLU where there is a classifier."""
    return super().tap_names + (("fc6", "fc7") if self.num_classes else ())


class VGG(VGGTrunk):
  """See the module's docstring. A pytree, as every network of the package."""

  def __init__(self, config: VGGConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    if config.num_classes:
      channels = config.classifier_channels
      self.fc6 = WindowConv(config.widths[-1], channels, rngs=rngs, size=WINDOW)
      self.fc7 = layers.PointwiseConv(channels, channels, rngs=rngs)
      self.classifier = layers.CenteredClassifier(channels, config.num_classes, rngs=rngs)

  def compute_maps(self, images: Float[Array, "b h w 3"], masks: Masks) -> ComputedMaps:
    maps, mask = self.run_trunk(images, masks), masks[32]
    if not self.config.num_classes:
      return maps, maps[self.config.pooled_tap], mask
    windows = _mark_windows(mask)
    with jax.named_scope("fc6"):
      maps["fc6"] = self.fc6(maps[self.config.pooled_tap], windows)
    with jax.named_scope("fc7"):
      maps["fc7"] = self.fc7(maps["fc6"], windows)
    return maps, maps["fc7"], windows


class WindowConv(layers.PaddedConv):
  """A convolution whose kernel is about as large as the map: on a CPU a matrix product for each cell of the kernel.

  XLA's convolution copies the kernel (411 MB) and takes 6.7 s on a map of 5x5 cells, and 0.66 s on 14x14; this takes 0.06 and
  0.29 s (two cores).
  """

  def convolve(self, maps: Float[Array, "b i j c"], kernel: Array) -> Float[Array, "b i j k"]:
    return lax.platform_dependent(maps, kernel, cpu=_convolve_by_cells, default=super().convolve)


def _convolve_by_cells(maps: Float[Array, "b i j c"], kernel: Float[Array, "m n c k"]) -> Float[Array, "b i j k"]:
  """The sum over the kernel's cells of the map, moved by that cell, times the cell's matrix."""
  rows, columns, inner, outer = kernel.shape
  padded = jnp.pad(maps, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
  matrices = kernel.reshape(rows * columns, inner, outer)

  def add(place: Array, total: Array) -> Array:
    moved = lax.dynamic_slice(padded, (0, place // columns, place % columns, 0), maps.shape)
    return total + jnp.einsum("bijc,ck->bijk", moved, matrices[place], preferred_element_type=jnp.float32)

  total = jnp.zeros((*maps.shape[:3], outer), jnp.float32)
  return lax.fori_loop(0, rows * columns, add, total).astype(maps.dtype)


def _mark_windows(mask: Bool[Array, "b i j"]) -> Bool[Array, "b i j"]:
  """Marks the centers of fc6's windows in maps whose valid cells are `mask`."""
  cells = jnp.stack((mask[:, :, 0].sum(1), mask[:, 0].sum(1)), 1)
  border = WINDOW // 2
  first = jnp.minimum(border, (cells - 1) // 2)
  end = cells - jnp.minimum(border, cells // 2)
  rows, columns = (
    (jnp.arange(side) >= first[:, axis, None]) & (jnp.arange(side) < end[:, axis, None])
    for axis, side in enumerate(mask.shape[1:])
  )
  return rows[:, :, None] & columns[:, None, :]
