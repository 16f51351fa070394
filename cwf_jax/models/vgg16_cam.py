"""VGG-16-CAM: the convolutions of VGG-16 without pool5, the CAM convolution, global average pooling, one linear layer.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, on Simonyan and Zisserman's VGG-16; the
network of Jimenez et al. 2017. Parameters carry the names of the published files: conv1_1 ... conv5_3, cam, classifier.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from cwf_jax.models import layers
from cwf_jax.models.network import NetworkOutput, Preprocessing, check_taps


@dataclasses.dataclass(frozen=True)
class VGG16CAMConfig:
  """The shape of a VGG-16-CAM.

  Attributes:
    widths: channels of the five blocks of convolutions.
    depths: convolutions in each block.
    cam_channels: D, channels of the CAM convolution.
    num_classes: C.
    image_size: the shorter side, in pixels, that the network is meant for; a protocol's size when none is given.
    preprocessing: what turns pixels into the network's input.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512, 512)
  depths: tuple[int, ...] = (2, 2, 3, 3, 3)
  cam_channels: int = 1024
  num_classes: int = 1000
  image_size: int = 720
  preprocessing: Preprocessing = Preprocessing.caffe()

  stride = 16
  cam_stride = 16
  size_multiple = 1
  feature_tap = "conv5_1"

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

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""
    return self.widths[-1]

  @property
  def last_tap(self) -> str:
    """The last map of VGG-16 itself, before its last pool."""
    return f"conv{len(self.depths)}_{self.depths[-1]}"

  @property
  def pooled_tap(self) -> str:
    """The last map of VGG-16 after its last pool, of stride 32."""
    return f"pool{len(self.depths)}"

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Every map that a pass can return: each convolution after its ReLU, and each pooled map."""
    names = []
    for block, depth in enumerate(self.depths, 1):
      names += [f"conv{block}_{layer}" for layer in range(1, depth + 1)] + [f"pool{block}"]
    return tuple(names)


class VGG16CAM(nnx.Module):
  """See the module's docstring. A pytree: `jax.jit(lambda network, x, sizes: network(x, sizes))` works as it is."""

  def __init__(self, config: VGG16CAMConfig, *, rngs: nnx.Rngs):
    self.config = config
    channels = 3
    for block, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True), 1):
      for layer in range(1, depth + 1):
        setattr(self, f"conv{block}_{layer}", layers.MaskedConv(channels, width, rngs=rngs))
        channels = width
    self.cam = layers.MaskedConv(channels, config.cam_channels, rngs=rngs)
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
      images: preprocessed; the canvas may be larger than the image, what lies outside is ignored. The dtype of the
        convolutions is that of `images`.
      sizes: (height, width) of each image, at the upper left of the canvas, at least 16 pixels a side.
      taps: names of `config.tap_names` to return.

    Returns:
      The CAM features and the named taps, zero outside the images, in the dtype of `images`, and the logits in float32.
      A map of stride s has floor(size / s) valid cells.
    """
    check_taps(taps, self.config.tap_names)
    kept = {}
    mask = layers.valid_mask(sizes, images.shape[1:3])
    maps = jnp.where(mask[..., None], images, jnp.zeros((), images.dtype))
    last = len(self.config.depths)
    for block, depth in enumerate(self.config.depths, 1):
      for layer in range(1, depth + 1):
        name = f"conv{block}_{layer}"
        with jax.named_scope(name):
          maps = kept[name] = getattr(self, name)(maps, mask)
      if block < last or f"pool{block}" in taps:
        sizes_pooled = sizes // 2**block
        pooled = layers.max_pool_2x2(maps)
        mask_pooled = layers.valid_mask(sizes_pooled, pooled.shape[1:3])
        kept[f"pool{block}"] = jnp.where(mask_pooled[..., None], pooled, jnp.zeros((), pooled.dtype))
      if block < last:
        maps, mask = kept[f"pool{block}"], mask_pooled
    with jax.named_scope("cam"):
      cam_features = self.cam(maps, mask)
    with jax.named_scope("classifier"):
      logits = self.classifier(layers.average_valid(cam_features, mask))
    return NetworkOutput(
      logits=logits, cam_features=cam_features, mask=mask, taps={name: kept[name] for name in taps}
    )
