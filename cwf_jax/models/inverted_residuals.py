"""Networks of inverted residual blocks: what MobileNetV2 and EfficientNet-Lite have in common.

A first convolution of stride 2, groups of blocks (a 1x1 expansion, a depthwise convolution, a linear 1x1 projection, with a
shortcut where the shape stays), a last 1x1 convolution, global average pooling and one linear layer. All activations are
ReLU6, and batch norm is folded into the convolutions. The head is GAP + linear already, so the last map, of stride 32, gives
exact CAMs; the features are the last map of stride 16 after an activation: the expansion of the last block of stride 2.
Layers are named conv1, block0_depthwise, block0_project, block1_expand ... cam, classifier.
"""

import dataclasses
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from cwf_jax.models import layers
from cwf_jax.models.network import CamNetwork, ComputedMaps, Masks, Preprocessing


class Block(NamedTuple):
  """The shape of one block: channels in, inside and out, the stride, and the side of the depthwise kernel."""

  channels: int
  inside: int
  out: int
  stride: int
  kernel: int


@dataclasses.dataclass(frozen=True)
class InvertedResidualConfig:
  """The shape of a network; a subclass gives every field its published default.

  Attributes:
    conv1_channels: output channels of the first convolution.
    widths: output channels of each group of blocks.
    depths: blocks in each group.
    strides: stride of the first block of each group.
    expansions: factor by which each group's blocks are wider inside.
    cam_channels: D, channels of the last convolution.
    num_classes: C.
    image_size: the default shorter side of images, in pixels.
    preprocessing: from pixels to the network's input.
  """

  conv1_channels: int
  widths: tuple[int, ...]
  depths: tuple[int, ...]
  strides: tuple[int, ...]
  expansions: tuple[int, ...]
  cam_channels: int
  num_classes: int
  image_size: int
  preprocessing: Preprocessing

  stride = 16
  cam_stride = 32
  size_multiple = 32
  last_tap = "cam"
  pooled_tap = "cam"

  def __post_init__(self):
    groups = (self.widths, self.depths, self.strides, self.expansions, self.kernels)
    if len({len(group) for group in groups}) != 1:
      raise ValueError(f"widths, depths, strides, expansions and kernels need one value a group; found {groups}")
    total = 2
    for block in self.blocks:
      total *= block.stride
    if total != self.cam_stride or self.blocks[self.feature_block].stride != 2 or "expand" not in self.feature_tap:
      raise ValueError(
        f"the last map has stride {self.cam_stride}, and the last block of stride 2 has an expansion; found stride {total} "
        f"and the feature tap {self.feature_tap}"
      )

  @property
  def kernels(self) -> tuple[int, ...]:
    """Sides of the depthwise kernels of each group."""
    return (3,) * len(self.widths)

  @property
  def blocks(self) -> tuple[Block, ...]:
    """Every block in order."""
    blocks, channels = [], self.conv1_channels
    groups = zip(self.widths, self.depths, self.strides, self.expansions, self.kernels, strict=True)
    for width, depth, stride, expansion, kernel in groups:
      for position in range(depth):
        blocks.append(Block(channels, expansion * channels, width, stride if position == 0 else 1, kernel))
        channels = width
    return tuple(blocks)

  @property
  def feature_block(self) -> int:
    """Number of the last block of stride 2."""
    return max((number for number, block in enumerate(self.blocks) if block.stride == 2), default=0)

  @property
  def feature_tap(self) -> str:
    """The last map of stride 16 after an activation."""
    block = self.blocks[self.feature_block]
    return f"block{self.feature_block}_{'expand' if block.inside != block.channels else 'depthwise'}"

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""
    return self.blocks[self.feature_block].inside

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Every map after a ReLU6 that a forward pass can return."""
    inside = [
      f"block{number}_{layer}"
      for number, block in enumerate(self.blocks)
      for layer in (("expand",) if block.inside != block.channels else ()) + ("depthwise",)
    ]
    return ("conv1", *inside, "cam")


class InvertedResidualNetwork(CamNetwork):
  """See the module's docstring. A pytree, as every network of the package."""

  def __init__(self, config: InvertedResidualConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.conv1 = layers.MaskedConv(3, config.conv1_channels, rngs=rngs, stride=2, activation=layers.relu6)
    for number, block in enumerate(config.blocks):
      if block.inside != block.channels:
        expand = layers.PointwiseConv(block.channels, block.inside, rngs=rngs, activation=layers.relu6)
        setattr(self, f"block{number}_expand", expand)
      depthwise = layers.DepthwiseConv(
        block.inside, block.inside, rngs=rngs, stride=block.stride, size=block.kernel, activation=layers.relu6
      )
      setattr(self, f"block{number}_depthwise", depthwise)
      project = layers.PointwiseConv(block.inside, block.out, rngs=rngs, activation=layers.identity)
      setattr(self, f"block{number}_project", project)
    self.cam = layers.PointwiseConv(config.widths[-1], config.cam_channels, rngs=rngs, activation=layers.relu6)
    self.classifier = layers.CenteredClassifier(config.cam_channels, config.num_classes, rngs=rngs)

  def compute_maps(self, images: Float[Array, "b h w 3"], masks: Masks) -> ComputedMaps:
    results, stride, mask = {}, 2, masks[2]
    with jax.named_scope("conv1"):
      maps = results["conv1"] = self.conv1(images, mask)
    for number, block in enumerate(self.config.blocks):
      with jax.named_scope(f"block{number}"):
        inside = maps
        if block.inside != block.channels:
          inside = results[f"block{number}_expand"] = getattr(self, f"block{number}_expand")(maps, mask)
        if block.stride != 1:
          stride *= block.stride
          mask = masks[stride]
        inside = results[f"block{number}_depthwise"] = getattr(self, f"block{number}_depthwise")(inside, mask)
        projected = getattr(self, f"block{number}_project")(inside, mask)
        maps = maps + projected if block.stride == 1 and block.channels == block.out else projected
    with jax.named_scope("cam"):
      results["cam"] = self.cam(maps, mask)
    return results, results["cam"], mask
