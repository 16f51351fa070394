"""Decodes image files of any mode into upright RGB pixels, and says in a few words why a file cannot be read.

    >>> image = decode_image("photograph.heic")                       # doctest: +SKIP
    >>> image.shape, image.dtype                                      # doctest: +SKIP
    ((3024, 4032, 3), dtype('uint8'))

A file that is truncated is refused, in every format: never half a picture, never a black one. A PNG's checksums are
compared too. What no decoder can notice is accepted: a JPEG of full length whose bytes were altered inside, or whose
end was replaced by an end marker, decodes with gray or shifted blocks, as it does everywhere else.

Everything here is pure and may be called from many threads at once; Pillow lets the others run while it decodes. Files
are parsed by the one plugin of Pillow's that their first bytes name; plugins that start other programs (EPS) or that
were not promised are never asked. Pillow's warnings are kept from the caller; on a damaged compressed TIFF the library
libtiff still writes a line of its own to standard error.
"""

import contextlib
import io
import math
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

# Imported by name, so that no thread ever waits for Pillow to import all of its plugins.
from PIL import (
  AvifImagePlugin,  # noqa: F401
  BmpImagePlugin,  # noqa: F401
  ExifTags,
  GifImagePlugin,  # noqa: F401
  Image,
  JpegImagePlugin,  # noqa: F401
  MpoImagePlugin,  # noqa: F401
  PngImagePlugin,  # noqa: F401
  TiffImagePlugin,  # noqa: F401
  WebPImagePlugin,  # noqa: F401
)

from cwf_jax.images import png
from cwf_jax.images.files import (
  MAX_BYTES,
  MAX_PIXELS,
  RefusalError,
  UnreadableImageError,
  describe,
  open_file,
  read_file,
  too_many_pixels,
)
from cwf_jax.images.quiet import quiet
from cwf_jax.protocol import CELL, Box, BoxError, Size

__all__ = [
  "EXTENSIONS",
  "MAX_BYTES",
  "MAX_PIXELS",
  "MIN_SIDE",
  "UnreadableImageError",
  "convert_image",
  "crop_image",
  "decode_image",
  "read_file",
  "read_size",
  "resize_image",
]

EXTENSIONS = frozenset(
  (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp"),
    *(".avif", ".heic", ".heif", ".hif"),
  )
)
"""Suffixes, in lower case, of the files that a walk takes for images. The contents decide how a file is read."""

MIN_SIDE = CELL
"""The least height and width of an image: one cell of the feature map."""

Source = str | os.PathLike | bytes
"""A path, or the contents of a file."""

_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright."""

_SIDEWAYS = tuple(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))
"""Those that swap height and width."""


def read_size(source: Source, *, path: str | os.PathLike | None = None) -> Size:
  """The (height, width) of the upright image, from the file's header; the pixels are not decoded.

  Args:
    source: a path, or the contents of a file.
    path: names the file in errors, where `source` is its contents.

  Raises:
    UnreadableImageError: as `decode_image`, apart from what only the pixels show.
  """
  name = _name(source, path)
  opened = io.BytesIO(source) if isinstance(source, bytes) else open_file(source)
  with opened as file, _open_image(file, name) as (_, _, size):
    return size


def decode_image(source: Source, *, path: str | os.PathLike | None = None) -> UInt8[np.ndarray, "h w 3"]:
  """Decodes JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC into upright RGB pixels.

  The first frame or page of several. Transparency is laid over white. 16 bit values keep their upper 8 bits; 32 bit
  integers and floats are scaled by the range they fill (`_gray_to_bytes`). The orientation is the one in EXIF, or in
  XMP where EXIF has none; a damaged EXIF block counts as none. Color profiles are not applied.

  Args:
    source: a path, or the contents of a file.
    path: names the file in errors, where `source` is its contents.

  Returns:
    Pixels, not writeable.

  Raises:
    UnreadableImageError: not an image, damaged, truncated, over `MAX_PIXELS`, under `MIN_SIDE`, or of a kind that needs
      an extra that is not installed.
  """
  name = _name(source, path)
  data = source if isinstance(source, bytes) else read_file(source)
  with _open_image(io.BytesIO(data), name) as (image, turn, size):
    if image.format == "PNG":
      with Image.open(io.BytesIO(data), formats=("PNG",)) as twin:
        twin.verify()  # the checksums; an image that was verified cannot be decoded any more
    image.load()
    if image.format == "PNG":
      png.check_is_whole(image, data)
    pixels = _to_upright_rgb(image, turn)
    if pixels.shape[:2] != size:  # seen in HEIC
      height, width = pixels.shape[:2]
      raise RefusalError(f"damaged (the header says {size[1]}x{size[0]}, there are {width}x{height} pixels)")
    return pixels


def convert_image(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
  """Converts a Pillow image of any mode to upright RGB pixels, as `decode_image` does with a file.

  An image that Pillow has opened but not decoded yet is decoded: the current frame of several.

  Returns:
    Pixels, not writeable.

  Raises:
    UnreadableImageError: it cannot be decoded, is over `MAX_PIXELS`, or under `MIN_SIDE`.
  """
  with quiet:
    try:
      _check_dimensions(image.height, image.width)
      image.load()  # a TIFF turns itself here, and removes its orientation
      return _to_upright_rgb(image, _read_turn(image))
    except Exception as error:  # as in `_open_image`
      raise UnreadableImageError("<PIL image>", describe(error)) from error


def resize_image(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
  """Resizes with Pillow's bilinear filter, widened when it shrinks: every pixel counts. No copy at the same size."""
  if image.shape[:2] == (height, width):
    return image
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def crop_image(image: UInt8[np.ndarray, "h w 3"], box: Box) -> UInt8[np.ndarray, "H W 3"]:
  """Cuts out the whole pixels that a box touches: left and top down, right and bottom up, clipped; a view of `image`.

  Raises:
    BoxError: the box is not finite, or holds no pixel of the image.
  """
  height, width = image.shape[:2]
  if all(math.isfinite(side) for side in box):
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if left < right and top < bottom:
      return image[top:bottom, left:right]
  shown = ",".join(f"{side:g}" for side in box)
  raise BoxError(f"the box {shown} holds no pixel of the image of {width}x{height} pixels (width x height)")


_heif_lock = threading.Lock()


def _name(source: Source, path: str | os.PathLike | None) -> str:
  if path is None and isinstance(source, bytes):
    return "<bytes>"
  return os.fsdecode(source if path is None else path)


@contextlib.contextmanager
def _open_image(file: BinaryIO, name: str) -> Iterator[tuple[Image.Image, Image.Transpose | None, Size]]:
  """Opens an image by its header; whatever goes wrong then or in the `with` block becomes an `UnreadableImageError`.

  Yields:
    The image, not yet decoded; what makes it upright once it is; the (height, width) that it has then.
  """
  with quiet:
    try:
      kind = _find_kind(file.read(256))
      if kind == "HEIF":
        _register_heif()
      with _open_as(kind, file) as image:
        turn, size = _find_turn(image, file)
        _check_dimensions(*size)
        yield image, turn, size
    except Exception as error:  # on damaged files Pillow's plugins raise struct.error, KeyError, MemoryError and more
      raise UnreadableImageError(name, describe(error)) from error


def _find_kind(head: bytes) -> str:
  """The name of Pillow's plugin for a file that begins with these bytes."""
  if not head:
    raise RefusalError("empty file")
  signatures = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
  }
  for kind, starts in signatures.items():
    if head.startswith(starts):
      return kind
  if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
    return "WEBP"
  if head[4:8] == b"ftyp":
    end = int.from_bytes(head[:4], "big")
    brands = {head[start : start + 4] for start in range(8, min(end, len(head)), 4)}
    if brands & {b"avif", b"avis"}:
      return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
      return "HEIF"
  raise RefusalError("not an image")


def _register_heif() -> None:
  if "HEIF" in Image.OPEN:
    return
  with _heif_lock:
    try:
      import pillow_heif
    except ImportError as error:
      raise RefusalError("HEIC needs the extra heif: pip install 'cwf_jax[heif]'") from error
    pillow_heif.register_heif_opener()


def _open_as(kind: str, file: BinaryIO) -> Image.Image:
  try:
    return Image.open(file, formats=(kind,))
  except OSError as error:
    if isinstance(error, Image.UnidentifiedImageError) or str(error) == "could not create decoder object":
      raise RefusalError(f"damaged, truncated or unsupported {kind}") from error
    raise


def _check_dimensions(height: int, width: int) -> None:
  if min(height, width) < MIN_SIDE:
    raise RefusalError(f"{width}x{height} pixels, the least is {MIN_SIDE}x{MIN_SIDE}")
  if height * width > MAX_PIXELS:
    raise RefusalError(too_many_pixels(height * width))


def _find_turn(image: Image.Image, file: BinaryIO) -> tuple[Image.Transpose | None, Size]:
  """What makes the decoded image upright, and its (height, width) then."""
  # Pillow would decode a PNG to look for EXIF behind its pixels, where it hardly ever is.
  turn = _read_turn(image, from_header=image.format == "PNG" and not png.has_late_metadata(file))
  is_sideways = turn in _SIDEWAYS
  if image.format == "TIFF":
    # Pillow turns it itself, and has swapped its sides already where the orientation is in a tag and not in XMP.
    turn = None
    is_sideways = is_sideways and ExifTags.Base.Orientation not in image.tag_v2
  width, height = image.size
  return turn, (width, height) if is_sideways else (height, width)


def _read_turn(image: Image.Image, from_header: bool = False) -> Image.Transpose | None:
  """What makes the image upright by its EXIF or XMP orientation; None where it is upright or says nothing."""
  try:
    exif = Image.Image.getexif(image) if from_header else image.getexif()
    return _UPRIGHT.get(exif.get(ExifTags.Base.Orientation))
  except Exception:  # a damaged block raises as many kinds as a damaged image; it says nothing about the pixels
    return None


def _to_upright_rgb(image: Image.Image, turn: Image.Transpose | None) -> UInt8[np.ndarray, "h w 3"]:
  rgb = _to_rgb(image)
  return np.asarray(rgb if turn is None else rgb.transpose(turn))


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode in ("I", "F") or image.mode.startswith("I;16"):
    gray = _gray_to_bytes(np.asarray(image), image.info.get("transparency"))
    return Image.fromarray(gray).convert("RGB")
  if image.has_transparency_data:
    image = image.convert("LA") if image.mode == "La" else image  # Pillow converts premultiplied gray to nothing else
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
  return image if image.mode == "RGB" else image.convert("RGB")


def _gray_to_bytes(values: np.ndarray, transparent: object = None) -> UInt8[np.ndarray, "h w"]:
  """Brings gray values of more than 8 bits to 8.

  16 bit values keep their upper 8 bits. 32 bit integers and floats carry no range of their own; it is taken from the
  values: floats within [0, 1] span the gray scale, values within [0, 255] are kept, values within [0, 65535] are 16 bit
  ones, and any others are stretched from their least to their greatest.

  Args:
    values: uint16, int32 or float32.
    transparent: the one value that means white, if it is an integer.
  """
  if not np.isfinite(values).all():
    raise RefusalError("pixels that are not finite numbers")
  low, high = values.min(), values.max()
  if values.dtype.kind == "u":
    gray = values >> 8
  elif low >= 0 and high <= 1 and values.dtype.kind == "f":
    gray = np.round(values * 255)
  elif low >= 0 and high <= 255:
    gray = np.round(values)
  elif low >= 0 and high <= 65535:
    gray = values.astype(np.uint16) >> 8
  else:
    span = float(high) - float(low)
    gray = np.round((values.astype(np.float64) - float(low)) * (255 / span)) if span else np.zeros_like(values)
  gray = gray.astype(np.uint8)
  if isinstance(transparent, int):
    gray[values == transparent] = 255
  return gray
