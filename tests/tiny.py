"""A network that several rooms' tests take for a teacher."""

from cwf_jax.models.mobilenet_v2 import MobileNetV2Config

TEACHER = MobileNetV2Config(
  conv1_channels=8,
  widths=(4, 4, 8, 8, 8, 8, 16),
  depths=(1, 2, 3, 4, 3, 1, 1),
  expansions=(1, 2, 2, 2, 2, 2, 2),
  cam_channels=32,
  num_classes=5,
  image_size=64,
)
"""A MobileNetV2 of the fewest blocks that have the feature tap among them."""
