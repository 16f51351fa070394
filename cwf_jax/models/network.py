"""What every network of the package shares: its preprocessing and the shape of its answer."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Real


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
  def symmetric(cls) -> "Preprocessing":
    """RGB from -1 to 1: MobileNetV2 as Keras publishes it, and the networks that are trained here."""
    return cls("rgb", (127.5, 127.5, 127.5), (1 / 127.5, 1 / 127.5, 1 / 127.5))

  @classmethod
  def torchvision(cls) -> "Preprocessing":
    """The networks of torchvision and Keras's DenseNet: RGB less ImageNet's mean, over its standard deviation."""
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return cls("rgb", tuple(255 * mean for mean in means), tuple(1 / (255 * deviation) for deviation in deviations))

  def with_means_reversed(self) -> "Preprocessing":
    """The means in the wrong order, as the published code subtracts them (METHOD section 7, row 1)."""
    return dataclasses.replace(self, mean=self.mean[::-1])

  def apply(self, images: Real[Array, "b h w 3"], dtype: DTypeLike = jnp.float32) -> Float[Array, "b h w 3"]:
    """RGB pixels, 0 to 255, as the network's input in `dtype`; computed in float32."""
    pixels = images.astype(jnp.float32)
    if self.channel_order == "bgr":
      pixels = pixels[..., ::-1]
    return ((pixels - jnp.asarray(self.mean)) * jnp.asarray(self.scale)).astype(dtype)


class NetworkOutput(NamedTuple):
  """The result of a network's pass and what it was asked to keep.

  Attributes:
    logits: [b c], float32; softmax gives the probabilities.
    cam_features: [b i j d], the map that the classifier averages, after its ReLU.
    mask: [b i j], the cells of `cam_features` inside the image.
    taps: named intermediate maps after their ReLU, each zero outside the image.
  """

  logits: Float[Array, "b c"]
  cam_features: Float[Array, "b i j d"]
  mask: Bool[Array, "b i j"]
  taps: dict[str, Array]


def check_taps(taps: tuple[str, ...], known: tuple[str, ...]) -> None:
  """Refuses taps that a network does not have.

  Raises:
    ValueError: names them, and those that it has.
  """
  unknown = set(taps) - set(known)
  if unknown:
    raise ValueError(f"no tap named {sorted(unknown)}; there are {', '.join(known)}")
