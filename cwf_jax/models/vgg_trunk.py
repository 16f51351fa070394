"""The convolutions of a VGG, which VGG-16-CAM, VGG-16 and VGG-19 have in common.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015: five blocks of 3x3
convolutions with ReLU, with the maximum of each 2x2 block after them. Layers are named conv1_1, conv1_2 ... conv5_3, as in the
published files.
"""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Float

from cwf_jax.models import layers
from cwf_jax.models.network import CamNetwork, Masks


@dataclasses.dataclass(frozen=True)
class VGGTrunkConfig:
  """The shape of the convolutions.

  Attributes:
    widths: channels of the five blocks of convolutions.
    depths: convolutions in each block.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512, 512)
  depths: tuple[int, ...] = (2, 2, 3, 3, 3)

  stride = 16
  feature_tap = "conv5_1"

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""
    return self.widths[-1]

  @property
  def last_tap(self) -> str:
    """The last convolution's map, before the last pool."""
    return f"conv{len(self.depths)}_{self.depths[-1]}"

  @property
  def pooled_tap(self) -> str:
    """The last pooled map, of stride 32."""
    return f"pool{len(self.depths)}"

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Every map that a forward pass can return: each convolution after its ReLU, and each pooled map."""
    names = []
    for block, depth in enumerate(self.depths, 1):
      names += [f"conv{block}_{layer}" for layer in range(1, depth + 1)] + [f"pool{block}"]
    return tuple(names)


class VGGTrunk(CamNetwork):
  """The convolutions alone; a subclass adds what comes after them."""

  def __init__(self, config: VGGTrunkConfig, *, rngs: nnx.Rngs):
    self.config = config
    channels = 3
    for block, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True), 1):
      for layer in range(1, depth + 1):
        setattr(self, f"conv{block}_{layer}", layers.MaskedConv(channels, width, rngs=rngs))
        channels = width

  def run_trunk(self, images: Float[Array, "b h w 3"], masks: Masks) -> dict[str, Float[Array, "b i j c"]]:
    """Computes every map of `VGGTrunkConfig.tap_names`; one that nobody uses is not part of a compiled program."""
    results, maps = {}, images
    for block, depth in enumerate(self.config.depths, 1):
      for layer in range(1, depth + 1):
        name = f"conv{block}_{layer}"
        with jax.named_scope(name):
          maps = results[name] = getattr(self, name)(maps, masks[2 ** (block - 1)])
      maps = results[f"pool{block}"] = layers.mask_cells(layers.max_pool_2x2(maps), masks[2**block])
    return results
