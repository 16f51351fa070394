"""A photograph, or a box in one, made ready to be encoded (METHOD 3)."""

import os
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.images.canvases import Fitted, fit_crop, fit_image
from cwf_jax.images.decoding import MIN_SIDE, convert_image, crop_image, decode_image
from cwf_jax.protocol import Box, Protocol, check_box, check_pixel_range

ImageLike = str | os.PathLike | bytes | Image.Image | np.ndarray | jax.Array
"""What a caller has: a path, the bytes of an image file, a Pillow image, or RGB pixels [h w 3] uint8."""


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


def fit_query(image: ImageLike, box: Box | None, protocol: Protocol) -> FittedQuery:
  """Reads, cuts and resizes.

  Args:
    image: see `read_pixels`.
    box: (left, top, right, bottom) in pixels of the upright image.
    protocol: which sizes, and how a box is laid on cells.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  pixels = read_pixels(image)
  whole = fit_image(pixels, protocol)
  if box is None:
    return FittedQuery(pixels, None, whole, None, (0, 0, whole.canvas[1], whole.canvas[0]))
  box = check_box(box, pixels.shape[:2])
  cells = protocol.box_to_cells(box, pixels.shape[:2], whole.size)
  return FittedQuery(pixels, box, whole, fit_crop(crop_image(pixels, box), protocol), cells)


def read_pixels(image: ImageLike) -> UInt8[np.ndarray, "h w 3"]:
  """Returns an image as upright RGB pixels; an array is returned as it is.

  Args:
    image: a path, the bytes of an image file, a Pillow image of any mode, or RGB pixels [h w 3] uint8. An orientation in
      EXIF is applied, and transparency is laid over white, in a file and in a Pillow image alike.

  Raises:
    UnreadableImageError: a file or a Pillow image that cannot be decoded, or is under 16 pixels a side.
    InputError: an array of another shape or type, or under 16 pixels a side; something else than an image.
  """
  if isinstance(image, (str, os.PathLike, bytes)):
    return decode_image(image)
  if isinstance(image, Image.Image):
    return convert_image(image)
  if isinstance(image, (np.ndarray, jax.Array)):
    return _check_pixels(np.asarray(image))
  raise InputError(f"an image is a path, the bytes of a file, a PIL image or an array; found {type(image).__name__}")


def _check_pixels(pixels: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
  check_pixel_range(pixels)
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
    found = f"found {pixels.dtype} of shape {pixels.shape}"
    raise InputError(f"an image array is uint8 of shape [h w 3]; {found}: {_suggest_fix(pixels)}")
  if min(pixels.shape[:2]) < MIN_SIDE:
    raise InputError(f"an image has at least {MIN_SIDE}x{MIN_SIDE} pixels; found {pixels.shape[1]}x{pixels.shape[0]}")
  return pixels


def _suggest_fix(pixels: np.ndarray) -> str:
  """What makes an array an image, in a few words."""
  if pixels.dtype != np.uint8:
    return "convert the values to uint8, 0 to 255"
  match pixels.shape:
    case (_, _):
      return "repeat the gray channel, np.stack([image] * 3, axis=-1)"
    case (_, _, 1):
      return "repeat the gray channel, np.repeat(image, 3, axis=-1)"
    case (_, _, 4):
      return "pass PIL.Image.fromarray(image), whose alpha is laid over white, or image[..., :3]"
    case (3, _, _):
      return "move the channels to the end, np.moveaxis(image, 0, -1)"
    case (_, _, _, 3):
      return "pass the images of a batch one by one, image[0]"
  return "the axes are height, width and RGB"
