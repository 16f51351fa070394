"""EfficientNet-Lite0, Lite1 and Lite2: EfficientNets without squeeze-and-excitation, with ReLU6 in place of swish.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, in the Lite form that
Google published in 2020: the first convolution and the last keep their widths, the first group and the last keep their
depths. See `inverted_residuals` for the layers and their names. The features, of stride 16, are block 11's expansion in
Lite0 (672 channels) and block 15's in Lite1 (672) and Lite2 (720).
"""

import dataclasses

from cwf_jax.models.inverted_residuals import InvertedResidualConfig, InvertedResidualNetwork
from cwf_jax.models.network import Preprocessing


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteConfig(InvertedResidualConfig):
  """The shape of an EfficientNet-Lite, by default Lite0; use the named constructors.

  Attributes:
    kernels: sides of the depthwise kernels of each group.
  """

  conv1_channels: int = 32
  widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
  depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
  strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
  expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
  cam_channels: int = 1280
  num_classes: int = 1000
  image_size: int = 256
  preprocessing: Preprocessing = Preprocessing("rgb", (127.0, 127.0, 127.0), (1 / 128, 1 / 128, 1 / 128))
  kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)

  @classmethod
  def lite0(cls) -> "EfficientNetLiteConfig":
    """4.7 million parameters."""
    return cls()

  @classmethod
  def lite1(cls) -> "EfficientNetLiteConfig":
    """5.4 million parameters: Lite0 with depths of 1.1 times, rounded up."""
    return cls(depths=(1, 3, 3, 4, 4, 5, 1))

  @classmethod
  def lite2(cls) -> "EfficientNetLiteConfig":
    """6.1 million parameters: Lite1 with widths of 1.1 times, rounded to multiples of 8."""
    return cls(depths=(1, 3, 3, 4, 4, 5, 1), widths=(16, 24, 48, 88, 120, 208, 352))


class EfficientNetLite(InvertedResidualNetwork):
  """An `InvertedResidualNetwork` of an `EfficientNetLiteConfig`."""
