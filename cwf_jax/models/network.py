"""What every network of the package provides: its settings, its preprocessing and the shape of its answer."""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, DTypeLike, Float, Int, Real

from cwf_jax.errors import InputError
from cwf_jax.models import layers


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """Pixels in, the network's input out: `(pixels in channel_order - mean) * scale`.

  Attributes:
    channel_order: "rgb" or "bgr".
    mean: subtracted from each channel, in the order of `channel_order`, in gray levels of 0 to 255.
    scale: multiplied with each channel after that.
  """

  channel_order: str
  mean: tuple[float, float, float]
  scale: tuple[float, float, float]

  def __post_init__(self):
    if self.channel_order not in ("rgb", "bgr"):
      raise ValueError(f"channel_order is 'rgb' or 'bgr', not {self.channel_order!r}")

  @classmethod
  def caffe(cls) -> "Preprocessing":
    """The published VGG networks: BGR less the means of ImageNet, no scale."""
    return cls("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

  @classmethod
  def rgb_means(cls) -> "Preprocessing":
    """VGG-16 as published for TensorFlow, with kernels "conv1_1_W": RGB less the means of ImageNet, no scale."""
    return cls("rgb", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0))

  @classmethod
  def symmetric(cls) -> "Preprocessing":
    """RGB from -1 to 1: MobileNetV2 as Keras publishes it, and the networks that are trained here."""
    return cls("rgb", (127.5, 127.5, 127.5), (1 / 127.5, 1 / 127.5, 1 / 127.5))

  @classmethod
  def torchvision(cls) -> "Preprocessing":
    """The networks of torchvision and Keras's DenseNet: RGB less ImageNet's mean, over its standard deviation."""
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return cls("rgb", tuple(255 * mean for mean in means), tuple(1 / (255 * deviation) for deviation in deviations))

  def with_means_reversed(self) -> "Preprocessing":
    """The means in the wrong order, as the published code subtracts them (METHOD 7.1)."""
    return dataclasses.replace(self, mean=self.mean[::-1])

  def apply(self, images: Real[Array, "b h w 3"], dtype: DTypeLike = jnp.float32) -> Float[Array, "b h w 3"]:
    """RGB pixels, 0 to 255, as the network's input in `dtype`; computed in float32."""
    pixels = images.astype(jnp.float32)
    if self.channel_order == "bgr":
      pixels = pixels[..., ::-1]
    return ((pixels - jnp.asarray(self.mean)) * jnp.asarray(self.scale)).astype(dtype)


class NetworkOutput(NamedTuple):
  """The result of a forward pass.

  Attributes:
    logits: [b c], float32; softmax gives the probabilities.
    cam_features: [b i j d], the map that the classifier averages, after its ReLU; zero where it does not average it.
    mask: [b i j], the cells of `cam_features` inside the image.
    taps: named intermediate maps after their ReLU, each zero outside the image.
  """

  logits: Float[Array, "b c"]
  cam_features: Float[Array, "b i j d"]
  mask: Bool[Array, "b i j"]
  taps: dict[str, Array]


class CamConfig(Protocol):
  """The settings of a `CamNetwork`: a frozen dataclass, hashable, whose fields `registry.config_to_json` can write."""

  @property
  def image_size(self) -> int:
    """The default shorter side of images, in pixels."""

  @property
  def num_classes(self) -> int:
    """C; 0 for a network without classes, which has taps only."""

  @property
  def preprocessing(self) -> Preprocessing:
    """From pixels to the network's input."""

  @property
  def stride(self) -> int:
    """The stride of the feature tap, in pixels."""

  @property
  def cam_stride(self) -> int:
    """The stride of the CAM features, a multiple of `stride`: the encoder resizes them to the features' cells."""

  @property
  def size_multiple(self) -> int:
    """The sides of images and canvases are multiples of it, in pixels."""

  @property
  def tap_names(self) -> tuple[str, ...]:
    """The maps that a forward pass can return, all after a ReLU."""

  @property
  def feature_tap(self) -> str:
    """The map that class vectors are pooled from."""

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature tap."""

  @property
  def last_tap(self) -> str:
    """The network's last map, which systems without classes pool from."""

  @property
  def pooled_tap(self) -> str:
    """The same after the last pooling layer; `last_tap` again where there is none."""


Masks = dict[int, Bool[Array, "b i j"]]
"""The valid cells of maps, by the maps' stride."""

ComputedMaps = tuple[dict[str, Float[Array, "b i j k"]], Float[Array, "b i j d"], Bool[Array, "b i j"]]
"""Every tap by its name, the CAM features, and the cells of them that the classifier averages."""


class CamNetwork(nnx.Module):
  """A network whose classes are a linear layer over the mean of one map, so that its class activation maps are exact.

  A pytree of float32 parameters, which `registry.build` makes; batch norm is folded into them. What lies on a canvas outside
  an image has no influence on the image's results. A subclass computes the maps, and has a `classifier` if it has classes.

  Attributes:
    config: its settings.
  """

  config: CamConfig

  @property
  def class_weights(self) -> Float[Array, "d c"]:
    """W of METHOD eq. 1: the classifier's weights, one column a class, without the bias.

    Raises:
      InputError: the network has no classes.
    """
    if not self.config.num_classes:
      raise InputError("this network has no classifier, so it has no classes and no class activation maps; use its taps")
    return self.classifier.kernel.get_value()

  def compute_maps(self, images: Float[Array, "b h w 3"], masks: Masks) -> ComputedMaps:
    """Computes the maps of images; see `ComputedMaps`.

    Args:
      images: as in `__call__`, zero outside the image.
      masks: by the stride of a map.
    """
    raise TypeError(f"{type(self).__name__} does not say how its maps are computed: it defines compute_maps")

  def __call__(
    self, images: Float[Array, "b h w 3"], sizes: Int[Array, "b 2"], taps: tuple[str, ...] = ()
  ) -> NetworkOutput:
    """One forward pass.

    Args:
      images: preprocessed, each at the upper left of its canvas; what lies outside is ignored.
      sizes: (height, width) of each image, in pixels, multiples of `config.size_multiple` as the canvas's sides are.
      taps: names of `config.tap_names` to return.

    Returns:
      The CAM features and the named taps, zero outside the images, in the dtype of `images`, and the logits in float32. A map
      of stride s has floor(size / s) valid cells.

    Raises:
      ValueError: an unknown tap, or a canvas whose sides are not multiples of `config.size_multiple`.
    """
    unknown = set(taps) - set(self.config.tap_names)
    if unknown:
      raise ValueError(f"no tap named {sorted(unknown)}; there are {', '.join(self.config.tap_names)}")
    layers.check_canvas(images.shape[1:3], self.config.size_multiple)
    masks = layers.masks_by_stride(sizes, images.shape[1:3])
    maps, cam_features, averaged = self.compute_maps(layers.mask_cells(images, masks[1]), masks)
    logits = jnp.zeros((images.shape[0], 0), jnp.float32)
    if self.config.num_classes:
      with jax.named_scope("classifier"):
        logits = self.classifier(layers.average_valid(cam_features, averaged))
    return NetworkOutput(logits, cam_features, masks[self.config.cam_stride], {name: maps[name] for name in taps})
