"""What a network is trained on, one step at a time."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8


class Batch(NamedTuple):
  """Labelled images on canvases of one size.

  Attributes:
    images: each upright and unscaled in value, at the upper left of its canvas; zero elsewhere.
    sizes: (height, width) of each image; of an empty place 16x16.
    labels: class of each image; -1 where it has none, and in an empty place.
  """

  images: UInt8[np.ndarray, "b S S 3"]
  sizes: Int32[np.ndarray, "b 2"]
  labels: Int32[np.ndarray, "b"]
