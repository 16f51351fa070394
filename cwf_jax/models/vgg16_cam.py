"""VGG-16-CAM: the convolutions of VGG-16 without pool5, the CAM convolution, global average pooling, one linear layer.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, on Simonyan and Zisserman's VGG-16; the
network of Jimenez et al. 2017. Parameters carry the names of the published files: conv1_1 ... conv5_3, cam, classifier.
"""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Float

from cwf_jax.models import layers
from cwf_jax.models.network import ComputedMaps, Masks, Preprocessing
from cwf_jax.models.vgg_trunk import VGGTrunk, VGGTrunkConfig


@dataclasses.dataclass(frozen=True)
class VGG16CAMConfig(VGGTrunkConfig):
  """The shape of a VGG-16-CAM: its trunk's, and these.

  Attributes:
    cam_channels: D, channels of the CAM convolution.
    num_classes: C.
    image_size: the shorter side, in pixels, that the network is meant for; a protocol's size when none is given.
    preprocessing: what turns pixels into the network's input.
  """

  cam_channels: int = 1024
  num_classes: int = 1000
  image_size: int = 720
  preprocessing: Preprocessing = Preprocessing.caffe()

  cam_stride = 16
  size_multiple = 1

  @classmethod
  def vgg16(cls) -> "VGG16CAMConfig":
    """The published width, at the paper's size."""
    return cls()

  @classmethod
  def narrow(cls, width: float, image_size: int = 320, num_classes: int = 1000) -> "VGG16CAMConfig":
    """All channels multiplied by `width`, for machines without an accelerator; cost falls with its square."""
    full = cls()
    return cls(
      widths=tuple(max(1, round(width * channels)) for channels in full.widths),
      cam_channels=max(1, round(width * full.cam_channels)),
      num_classes=num_classes,
      image_size=image_size,
    )

  @classmethod
  def small(cls, image_size: int = 256, num_classes: int = 1000) -> "VGG16CAMConfig":
    """A quarter of the width up to block 4, half of it from block 5 on: features and CAMs are wide where cells are few."""
    return cls(
      widths=(16, 32, 64, 128, 256),
      cam_channels=512,
      num_classes=num_classes,
      image_size=image_size,
      preprocessing=Preprocessing.symmetric(),
    )


class VGG16CAM(VGGTrunk):
  """See the module's docstring. A pytree: `jax.jit(lambda network, x, sizes: network(x, sizes))` works as it is."""

  def __init__(self, config: VGG16CAMConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.cam = layers.MaskedConv(config.widths[-1], config.cam_channels, rngs=rngs)
    self.classifier = layers.CenteredClassifier(config.cam_channels, config.num_classes, rngs=rngs)

  def compute_maps(self, images: Float[Array, "b h w 3"], masks: Masks) -> ComputedMaps:
    maps, mask = self.run_trunk(images, masks), masks[self.config.cam_stride]
    with jax.named_scope("cam"):
      return maps, self.cam(maps[self.config.last_tap], mask), mask
