"""MobileNetV2: inverted residuals that end in a 1x1 convolution, global average pooling and one linear layer.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, in the form that Keras publishes, with
batch norm folded. Its head is GAP + linear already, so its last map, of stride 32, gives the CAMs; the features are those of
block 13's expansion, the last map of stride 16. Layers are named conv1, block0_depthwise, block0_project, block1_expand ...
block16_project, cam, classifier.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from cwf_jax.models import layers
from cwf_jax.models.network import NetworkOutput, Preprocessing, check_taps


@dataclasses.dataclass(frozen=True)
class MobileNetV2Config:
  """The shape of a MobileNetV2.

  Attributes:
    conv1_channels: of the first convolution.
    widths: output channels of each group of blocks.
    depths: blocks in each group.
    strides: of the first block of each group.
    expansions: how many times wider each group's blocks are inside.
    cam_channels: D, channels of the last convolution.
    num_classes: C.
    image_size: the shorter side, in pixels, that the network is meant for.
    preprocessing: what turns pixels into the network's input.
  """

  conv1_channels: int = 32
  widths: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)
  depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
  strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
  expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
  cam_channels: int = 1280
  num_classes: int = 1000
  image_size: int = 224
  preprocessing: Preprocessing = Preprocessing.symmetric()

  stride = 16
  cam_stride = 32
  size_multiple = 32
  feature_tap = "block13_expand"
  last_tap = "cam"
  pooled_tap = "cam"

  def __post_init__(self):
    groups = (self.widths, self.depths, self.strides, self.expansions)
    if len({len(group) for group in groups}) != 1:
      raise ValueError(f"widths, depths, strides and expansions are of the same groups; found {', '.join(map(str, groups))}")
    total, strides = 2, []
    for _, _, _, stride in self.blocks:
      total *= stride
      strides.append(total)
    if len(strides) < 14 or strides[12] != self.stride or total != self.cam_stride:
      raise ValueError(
        f"block 12 ends at stride {self.stride} and the last one at {self.cam_stride}; found {', '.join(map(str, strides))}"
      )

  @property
  def blocks(self) -> tuple[tuple[int, int, int, int], ...]:
    """(input channels, channels inside, output channels, stride) of each block."""
    found, channels = [], self.conv1_channels
    for width, depth, stride, expansion in zip(self.widths, self.depths, self.strides, self.expansions, strict=True):
      for place in range(depth):
        found.append((channels, expansion * channels, width, stride if place == 0 else 1))
        channels = width
    return tuple(found)

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""
    return self.blocks[13][1]

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Every map after a ReLU6 that a pass can return."""
    inside = [
      f"block{number}_{layer}"
      for number, (channels, wide, _, _) in enumerate(self.blocks)
      for layer in (("expand",) if wide != channels else ()) + ("depthwise",)
    ]
    return ("conv1", *inside, "cam")


class MobileNetV2(nnx.Module):
  """See the module's docstring. A pytree, as every network of the package."""

  def __init__(self, config: MobileNetV2Config, *, rngs: nnx.Rngs):
    self.config = config
    self.conv1 = layers.MaskedConv(3, config.conv1_channels, rngs=rngs, stride=2, activation=jax.nn.relu6)
    for number, (channels, wide, out, stride) in enumerate(config.blocks):
      if wide != channels:
        setattr(self, f"block{number}_expand", layers.PointwiseConv(channels, wide, rngs=rngs, activation=jax.nn.relu6))
      depthwise = layers.DepthwiseConv(wide, wide, rngs=rngs, stride=stride, activation=jax.nn.relu6)
      setattr(self, f"block{number}_depthwise", depthwise)
      setattr(self, f"block{number}_project", layers.PointwiseConv(wide, out, rngs=rngs, activation=layers.identity))
    self.cam = layers.PointwiseConv(config.widths[-1], config.cam_channels, rngs=rngs, activation=jax.nn.relu6)
    self.classifier = layers.CenteredClassifier(config.cam_channels, config.num_classes, rngs=rngs)

  @property
  def class_weights(self) -> Float[Array, "d c"]:
    """W of METHOD eq. 1: the classifier's weights, one column a class, without the bias."""
    return self.classifier.kernel[...]

  def __call__(
    self,
    images: Float[Array, "b h w 3"],
    sizes: Int[Array, "b 2"],
    taps: tuple[str, ...] = (),
  ) -> NetworkOutput:
    """One forward pass.

    Args:
      images: preprocessed; the canvas may be larger than the image, what lies outside is ignored.
      sizes: (height, width) of each image, multiples of 32; the canvas's sides are multiples of 32 too.
      taps: names of `config.tap_names` to return.

    Returns:
      The CAM features (stride 32) and the named taps, zero outside the images, in the dtype of `images`, and the logits in
      float32. A map of stride s has size / s valid cells.

    Raises:
      ValueError: an unknown tap, or a canvas whose sides are no multiples of 32.
    """
    check_taps(taps, self.config.tap_names)
    if images.shape[1] % 32 or images.shape[2] % 32:
      raise ValueError(f"the sides of the canvas are multiples of 32, found {images.shape[1]}x{images.shape[2]}")
    stride = 1
    kept = {}

    def masked() -> Array:
      return layers.valid_mask(sizes // stride, (images.shape[1] // stride, images.shape[2] // stride))

    maps = jnp.where(masked()[..., None], images, jnp.zeros((), images.dtype))
    stride = 2
    mask = masked()
    with jax.named_scope("conv1"):
      maps = kept["conv1"] = self.conv1(maps, mask)
    for number, (channels, wide, out, block_stride) in enumerate(self.config.blocks):
      with jax.named_scope(f"block{number}"):
        inside = maps
        if wide != channels:
          inside = kept[f"block{number}_expand"] = getattr(self, f"block{number}_expand")(maps, mask)
        if block_stride != 1:
          stride *= block_stride
          mask = masked()
        inside = kept[f"block{number}_depthwise"] = getattr(self, f"block{number}_depthwise")(inside, mask)
        projected = getattr(self, f"block{number}_project")(inside, mask)
        maps = maps + projected if block_stride == 1 and channels == out else projected
    with jax.named_scope("cam"):
      kept["cam"] = self.cam(maps, mask)
    with jax.named_scope("classifier"):
      logits = self.classifier(layers.average_valid(kept["cam"], mask))
    return NetworkOutput(logits=logits, cam_features=kept["cam"], mask=mask, taps={name: kept[name] for name in taps})
