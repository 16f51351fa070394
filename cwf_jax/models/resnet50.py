"""ResNet-50: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, as Keras and as torchvision publish it.

A first 7x7 convolution of stride 2, a 3x3 maximum of stride 2, four stages of bottleneck blocks (1x1, 3x3, a linear 1x1, the
shortcut, ReLU), global average pooling and one linear layer. The first block of stages 2 to 4 halves the map: by its first
1x1 in the paper and in Keras, by its 3x3 in torchvision. Batch norm is folded into the convolutions.

The last map, of stride 32, gives exact CAMs. The features are the output of stage 3, of stride 16 (1024 channels), which DELF
(Noh et al., ICCV 2017) searches by, too: it is the last map of stride 16 in both variants. The 1x1 after it has stride 32 in
Keras's, and half of its channels in torchvision's. Layers are named conv1, layer1_0_conv1, layer1_0_conv2, layer1_0_conv3,
layer1_0_downsample ... layer4_2_conv3, classifier.
"""

import dataclasses
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from cwf_jax.models import layers
from cwf_jax.models.network import CamNetwork, ComputedMaps, Masks, Preprocessing


class Block(NamedTuple):
  """One bottleneck block: its name, its channels in, inside and out, and its stride."""

  name: str
  channels: int
  inside: int
  out: int
  stride: int


@dataclasses.dataclass(frozen=True)
class ResNet50Config:
  """The shape of a ResNet-50; `keras()` and `torchvision()` are the two published ones.

  Attributes:
    stride_in_1x1: a block of stride 2 has its stride in the first 1x1 convolution (Keras), not in the 3x3 (torchvision).
    preprocessing: from pixels to the network's input.
    conv1_channels: output channels of the first convolution.
    widths: channels of the 3x3 convolutions of each stage.
    depths: blocks in each stage.
    expansion: factor by which a block's output is wider than its inside.
    num_classes: C.
    image_size: the default shorter side of images, in pixels.
  """

  stride_in_1x1: bool
  preprocessing: Preprocessing
  conv1_channels: int = 64
  widths: tuple[int, int, int, int] = (64, 128, 256, 512)
  depths: tuple[int, int, int, int] = (3, 4, 6, 3)
  expansion: int = 4
  num_classes: int = 1000
  image_size: int = 224

  stride = 16
  cam_stride = 32
  size_multiple = 32

  @classmethod
  def keras(cls) -> "ResNet50Config":
    """The stride in the 1x1, and BGR less ImageNet's means."""
    return cls(stride_in_1x1=True, preprocessing=Preprocessing.caffe())

  @classmethod
  def torchvision(cls) -> "ResNet50Config":
    """The stride in the 3x3 ("ResNet v1.5"), and RGB over ImageNet's standard deviation."""
    return cls(stride_in_1x1=False, preprocessing=Preprocessing.torchvision())

  @property
  def blocks(self) -> tuple[Block, ...]:
    """Every block in order."""
    blocks, channels = [], self.conv1_channels
    for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True), 1):
      for position in range(depth):
        stride = 2 if stage > 1 and position == 0 else 1
        blocks.append(Block(f"layer{stage}_{position}", channels, width, self.expansion * width, stride))
        channels = self.expansion * width
    return tuple(blocks)

  @property
  def feature_tap(self) -> str:
    """The output of stage 3."""
    return f"layer3_{self.depths[2] - 1}"

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""
    return self.expansion * self.widths[2]

  @property
  def last_tap(self) -> str:
    """The last map, which the classifier averages."""
    return f"layer4_{self.depths[3] - 1}"

  @property
  def pooled_tap(self) -> str:
    """The last map: no pooling follows it."""
    return self.last_tap

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Every map after a ReLU that a forward pass can return; a block's output has the block's name."""
    maps = [f"{block.name}{suffix}" for block in self.blocks for suffix in ("_conv1", "_conv2", "")]
    return ("conv1", "pool1", *maps)


class ResNet50(CamNetwork):
  """See the module's docstring. A pytree, as every network of the package."""

  def __init__(self, config: ResNet50Config, *, rngs: nnx.Rngs):
    self.config = config
    self.conv1 = layers.PaddedConv(3, config.conv1_channels, rngs=rngs, size=7, stride=2)
    for name, channels, inside, out, stride in config.blocks:
      first, second = (stride, 1) if config.stride_in_1x1 else (1, stride)
      setattr(self, f"{name}_conv1", layers.PointwiseConv(channels, inside, rngs=rngs, stride=first))
      conv_3x3 = layers.MaskedConv if second == 1 else layers.PaddedConv
      setattr(self, f"{name}_conv2", conv_3x3(inside, inside, rngs=rngs, stride=second))
      setattr(self, f"{name}_conv3", layers.PointwiseConv(inside, out, rngs=rngs, activation=layers.identity))
      if channels != out or stride != 1:
        downsample = layers.PointwiseConv(channels, out, rngs=rngs, stride=stride, activation=layers.identity)
        setattr(self, f"{name}_downsample", downsample)
    self.classifier = layers.CenteredClassifier(config.blocks[-1].out, config.num_classes, rngs=rngs)

  def compute_maps(self, images: Float[Array, "b h w 3"], masks: Masks) -> ComputedMaps:
    results = {}
    with jax.named_scope("conv1"):
      maps = results["conv1"] = self.conv1(images, masks[2])
      maps = results["pool1"] = layers.mask_cells(layers.max_pool_3x3(maps), masks[4])
    stride = 4
    for block in self.config.blocks:
      with jax.named_scope(block.name):
        coarse = stride * block.stride
        inside_mask = masks[coarse if self.config.stride_in_1x1 else stride]
        stride, mask = coarse, masks[coarse]
        inside = results[f"{block.name}_conv1"] = getattr(self, f"{block.name}_conv1")(maps, inside_mask)
        inside = results[f"{block.name}_conv2"] = getattr(self, f"{block.name}_conv2")(inside, mask)
        projected = getattr(self, f"{block.name}_conv3")(inside, mask)
        downsample = getattr(self, f"{block.name}_downsample", None)
        shortcut = maps if downsample is None else downsample(maps, mask)
        maps = results[block.name] = layers.relu(shortcut + projected)
    return results, maps, mask
