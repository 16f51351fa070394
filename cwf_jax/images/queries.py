"""A photograph, or a box in one, made ready to be encoded (METHOD section 3)."""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from cwf_jax.errors import InputError
from cwf_jax.images.canvases import Fitted, fit_crop, fit_image
from cwf_jax.images.decoding import MIN_SIDE, crop_image, decode_image
from cwf_jax.protocol import Box, Protocol, check_box


class FittedQuery(NamedTuple):
  """A query's pixels at the sizes at which they are computed.

  Attributes:
    pixels: [h w 3], the upright photograph.
    box: in its pixels, or None.
    whole: the photograph, whose features and CAMs are used.
    crop: the box alone, whose classes are used; None without a box.
    cells: (left, top, right, bottom) of the box on the map of `whole`; without a box all of the canvas and more.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  box: Box | None
  whole: Fitted
  crop: Fitted | None
  cells: tuple[int, int, int, int]


def fit_query(image: str | os.PathLike | np.ndarray, box: Box | None, protocol: Protocol) -> FittedQuery:
  """Reads, cuts and resizes.

  Args:
    image: a file, or RGB pixels [h w 3] uint8.
    box: (left, top, right, bottom) in pixels of the upright image.
    protocol: which sizes, and how a box is laid on cells.

  Raises:
    UnreadableImageError: the image cannot be read, or is under 16 pixels a side.
    BoxError: see `check_box`.
  """
  pixels = read_pixels(image)
  whole = fit_image(pixels, protocol)
  if box is None:
    return FittedQuery(pixels, None, whole, None, (0, 0, whole.canvas[1], whole.canvas[0]))
  box = check_box(box, pixels.shape[:2])
  cells = protocol.box_to_cells(box, pixels.shape[:2], whole.size)
  return FittedQuery(pixels, box, whole, fit_crop(crop_image(pixels, box), protocol), cells)


def read_pixels(image: str | os.PathLike | np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
  """A file's pixels, or pixels as they are if they can be an image's.

  Raises:
    InputError: they cannot; UnreadableImageError: the file cannot be read.
  """
  if not isinstance(image, np.ndarray):
    return decode_image(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise InputError(f"an image is uint8 of shape [h w 3]; found {image.dtype} of shape {image.shape}")
  if min(image.shape[:2]) < MIN_SIDE:
    raise InputError(f"an image has at least {MIN_SIDE}x{MIN_SIDE} pixels; found {image.shape[1]}x{image.shape[0]}")
  return image
