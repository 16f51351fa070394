"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, as Keras publishes it.

The features are those of block 13's expansion; see `inverted_residuals` for the layers and their names.
"""

import dataclasses

from cwf_jax.models.inverted_residuals import InvertedResidualConfig, InvertedResidualNetwork
from cwf_jax.models.network import Preprocessing


@dataclasses.dataclass(frozen=True)
class MobileNetV2Config(InvertedResidualConfig):
  """Table 2 of the paper: MobileNetV2 1.0 for images of 224 pixels."""

  conv1_channels: int = 32
  widths: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)
  depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
  strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
  expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
  cam_channels: int = 1280
  num_classes: int = 1000
  image_size: int = 224
  preprocessing: Preprocessing = Preprocessing.symmetric()


class MobileNetV2(InvertedResidualNetwork):
  """An `InvertedResidualNetwork` of a `MobileNetV2Config`."""
