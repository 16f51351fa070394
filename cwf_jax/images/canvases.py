"""Resizes images to the sizes of a protocol and batches them inside its declared canvases.

An image lies at the upper left of its canvas, the rest is zero, and its size goes with it: the network masks what lies
beyond. So a handful of compiled programs serves images of every shape.

    >>> fitted = fit_image(np.zeros((1536, 2048, 3), np.uint8), Protocol.paper())
    >>> fitted.size, fitted.canvas
    ((720, 960), (720, 960))
    >>> images, sizes = stack([fitted], fitted.canvas, batch_size=2)
    >>> images.shape, sizes.tolist()
    ((2, 720, 960, 3), [[720, 960], [16, 16]])
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from cwf_jax.errors import InputError
from cwf_jax.images.decoding import resize_image
from cwf_jax.protocol import CELL, Protocol, Size


class Fitted(NamedTuple):
  """An image at the size at which it is computed.

  Attributes:
    pixels: [h w 3], without padding.
    size: (h, w).
    canvas: (H, W), the declared canvas to compute it in.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  size: Size
  canvas: Size


def fit_image(image: UInt8[np.ndarray, "h w 3"], protocol: Protocol) -> Fitted:
  """Resizes an image to be indexed, or a whole image that is a query."""
  size = protocol.resized(*image.shape[:2])
  return Fitted(resize_image(image, *size), size, protocol.canvas(*size))


def fit_crop(image: UInt8[np.ndarray, "h w 3"], protocol: Protocol) -> Fitted:
  """Resizes a query's crop for its classification: to whole cells, never enlarged."""
  size = protocol.resized_crop(*image.shape[:2])
  return Fitted(resize_image(image, *size), size, protocol.crop_canvas(*size))


def stack(
  fitted: Sequence[Fitted], canvas: Size, batch_size: int
) -> tuple[UInt8[np.ndarray, "b H W 3"], Int32[np.ndarray, "b 2"]]:
  """Pads images into one batch for the encoder.

  Args:
    fitted: at most `batch_size`, none larger than the canvas.
    canvas: (H, W).
    batch_size: the batch's declared size; slots left over hold a black image of one cell, which is cheap and never NaN.

  Returns:
    The images, each at the upper left of its canvas, and their (height, width).

  Raises:
    InputError: there are more images than slots, or one is larger than the canvas.
  """
  if len(fitted) > batch_size:
    raise InputError(f"a batch of {batch_size} images cannot hold {len(fitted)}")
  images = np.zeros((batch_size, *canvas, 3), np.uint8)
  sizes = np.full((batch_size, 2), CELL, np.int32)
  for slot, (pixels, size, _) in enumerate(fitted):
    if size[0] > canvas[0] or size[1] > canvas[1]:
      raise InputError(f"an image of {size[1]}x{size[0]} pixels does not fit the canvas of {canvas[1]}x{canvas[0]}")
    images[slot, : size[0], : size[1]] = pixels
    sizes[slot] = size
  return images, sizes
