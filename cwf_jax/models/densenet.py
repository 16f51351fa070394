"""DenseNet-121 and -161: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, as Keras and torchvision do.

A first 7x7 convolution of stride 2, a 3x3 maximum of stride 2, four dense blocks with transitions between them that halve map
and channels, a last batch norm with ReLU, global average pooling and one linear layer. A dense layer reads all maps of its
block so far (batch norm, ReLU, 1x1, batch norm, ReLU, 3x3) and adds `growth` channels to them.

A batch norm right after a convolution is folded into it. One that reads several maps stays a factor and an offset for each
channel (`layers.ChannelScale`): every reader of a map has its own. Every convolution has a bias; it is zero where no batch norm
was folded, in a dense layer's 3x3 and in transitions. The last map, of stride 32, gives exact CAMs. The features are the last
map of stride 16: what the third transition reads, after its batch norm and ReLU. Layers are named conv1, block1_0_norm,
block1_0_conv1, block1_0_conv2 ... transition1_norm, transition1_conv ... norm5, classifier.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from cwf_jax.models import layers
from cwf_jax.models.network import CamNetwork, ComputedMaps, Masks, Preprocessing


@dataclasses.dataclass(frozen=True)
class DenseNetConfig:
  """The shape of a DenseNet.

  Attributes:
    growth: channels that each dense layer adds.
    depths: dense layers in each block.
    conv1_channels: output channels of the first convolution.
    bottleneck: channels between a dense layer's two convolutions, in multiples of `growth`.
    num_classes: C.
    image_size: the default shorter side of images, in pixels.
    preprocessing: from pixels to the network's input.
  """

  growth: int
  depths: tuple[int, int, int, int]
  conv1_channels: int
  bottleneck: int = 4
  num_classes: int = 1000
  image_size: int = 224
  preprocessing: Preprocessing = Preprocessing.torchvision()

  stride = 16
  cam_stride = 32
  size_multiple = 32
  feature_tap = "transition3_norm"
  last_tap = "norm5"
  pooled_tap = "norm5"

  @classmethod
  def densenet121(cls) -> "DenseNetConfig":
    """32 channels a layer, of Keras and of torchvision."""
    return cls(growth=32, depths=(6, 12, 24, 16), conv1_channels=64)

  @classmethod
  def densenet161(cls) -> "DenseNetConfig":
    """48 channels a layer, of torchvision."""
    return cls(growth=48, depths=(6, 12, 36, 24), conv1_channels=96)

  @property
  def block_channels(self) -> tuple[tuple[int, int], ...]:
    """Channels that each block reads and returns; a transition halves what is returned."""
    channels, blocks = self.conv1_channels, []
    for depth in self.depths:
      blocks.append((channels, channels + depth * self.growth))
      channels = blocks[-1][1] // 2
    return tuple(blocks)

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""
    return self.block_channels[2][1]

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Every map after a ReLU that a forward pass can return."""
    names = ["conv1", "pool1"]
    for block, depth in enumerate(self.depths, 1):
      names += [f"block{block}_{layer}_{part}" for layer in range(depth) for part in ("norm", "conv1")]
      names.append(f"transition{block}_norm" if block < 4 else "norm5")
    return tuple(names)


class DenseNet(CamNetwork):
  """See the module's docstring. A pytree, as every network of the package."""

  def __init__(self, config: DenseNetConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.conv1 = layers.PaddedConv(3, config.conv1_channels, rngs=rngs, size=7, stride=2)
    inside = config.bottleneck * config.growth
    for block, (depth, (first, last)) in enumerate(zip(config.depths, config.block_channels, strict=True), 1):
      for layer in range(depth):
        name, channels = f"block{block}_{layer}", first + layer * config.growth
        setattr(self, f"{name}_norm", layers.ChannelScale(channels))
        setattr(self, f"{name}_conv1", layers.PointwiseConv(channels, inside, rngs=rngs))
        setattr(self, f"{name}_conv2", layers.MaskedConv(inside, config.growth, rngs=rngs, activation=layers.identity))
      if block < 4:
        setattr(self, f"transition{block}_norm", layers.ChannelScale(last))
        conv = layers.PointwiseConv(last, last // 2, rngs=rngs, activation=layers.identity)
        setattr(self, f"transition{block}_conv", conv)
    self.norm5 = layers.ChannelScale(last)
    self.classifier = layers.CenteredClassifier(last, config.num_classes, rngs=rngs)

  def compute_maps(self, images: Float[Array, "b h w 3"], masks: Masks) -> ComputedMaps:
    results = {}
    with jax.named_scope("conv1"):
      maps = results["conv1"] = self.conv1(images, masks[2])
      maps = results["pool1"] = layers.mask_cells(layers.max_pool_3x3(maps), masks[4])
    for block, depth in enumerate(self.config.depths, 1):
      mask, channels = masks[2 ** (block + 1)], maps.shape[-1]
      # Room for what the layers add, so that it is written in place: a concatenation would copy all maps in each layer.
      maps = jnp.pad(maps, ((0, 0), (0, 0), (0, 0), (0, depth * self.config.growth)))
      for layer in range(depth):
        name = f"block{block}_{layer}"
        with jax.named_scope(name):
          inside = results[f"{name}_norm"] = getattr(self, f"{name}_norm")(maps[..., :channels], mask)
          inside = results[f"{name}_conv1"] = getattr(self, f"{name}_conv1")(inside, mask)
          added = getattr(self, f"{name}_conv2")(inside, mask)
          maps, channels = maps.at[..., channels : channels + added.shape[-1]].set(added), channels + added.shape[-1]
      if block < 4:
        with jax.named_scope(f"transition{block}"):
          maps = results[f"transition{block}_norm"] = getattr(self, f"transition{block}_norm")(maps, mask)
          # The mean comes before the convolution, which is linear: the same result from a quarter of the products.
          maps = getattr(self, f"transition{block}_conv")(layers.average_pool_2x2(maps), masks[2 ** (block + 2)])
    maps = results["norm5"] = self.norm5(maps, mask)
    return results, maps, mask
