"""Decodes image files of any mode into upright RGB pixels, and says in a few words why a file cannot be read.

    >>> image = decode_image("photograph.heic")                       # doctest: +SKIP
    >>> image.shape, image.dtype                                      # doctest: +SKIP
    ((3024, 4032, 3), dtype('uint8'))

A file that is truncated is refused, in every format: never half a picture, never a black one. A JPEG or PNG that lacks
no more than its end marker is read. Checksums of a PNG are checked for the chunks that hold its pixels. What no decoder can
notice is accepted: a JPEG of full length whose bytes were altered inside, or whose end was replaced by an end marker,
decodes with gray or shifted blocks, as it does everywhere else.

Everything here is pure and may be called from many threads at once; the libraries let the others run while they decode.
PNG of 16 bits is read by libpng, TIFF of more than 8 by tifffile, HEIC by pillow-heif, and the rest by the one plugin
of Pillow's that the first bytes name. Other plugins are never called: some start other programs (EPS), and the others
are not supported.
Pillow and tifffile warn and log as the caller's filters and loggers let them; a warning that is made an error refuses its
file. The command line silences both. On a damaged compressed TIFF libtiff writes a line of its own to standard error.
"""

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

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
  TiffImagePlugin,
  WebPImagePlugin,  # noqa: F401
)

from cwf_jax.images import heif, jpeg, png, tiff
from cwf_jax.images.depth import to_bytes
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
from cwf_jax.images.orientation import FIRST_SIDEWAYS, find_orientation, turn_upright
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
  with opened as file, _refusals(name):
    return _open(file).size


def decode_image(source: Source, *, path: str | os.PathLike | None = None) -> UInt8[np.ndarray, "h w 3"]:
  """Decodes JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC into upright RGB pixels.

  The first frame or page of several. Transparency is laid over white; a BMP that is transparent everywhere counts as
  opaque. Samples of more than 8 bits keep the upper 8 of the bits that the file states; 32 bit integers and floats are
  scaled by the range that they fill (`depth.to_bytes`). The orientation is the one in EXIF, or in XMP where EXIF has
  none; a damaged EXIF block counts as none. HEIC and AVIF are turned by the container's properties instead; EXIF and XMP
  count in a HEIC that has none. Color profiles are not applied.

  Args:
    source: a path, or the contents of a file.
    path: names the file in errors, where `source` is its contents.

  Returns:
    Pixels, not writeable.

  Raises:
    UnreadableImageError: not an image, damaged, truncated, not supported, over `MAX_PIXELS`, under `MIN_SIDE`, or of a
      kind that needs an extra that is not installed.
  """
  name = _name(source, path)
  data = source if isinstance(source, bytes) else read_file(source)
  with _refusals(name):
    opened = _open(io.BytesIO(data))
    pixels = _to_upright_rgb(opened.decode(data), opened.orientation)
    if pixels.shape[:2] != opened.size:  # in a damaged HEIC
      (height, width), (rows, columns) = opened.size, pixels.shape[:2]
      raise RefusalError(f"damaged (the header says {width}x{height}, there are {columns}x{rows} pixels)")
    return pixels


def convert_image(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
  """Converts a Pillow image of any mode to upright RGB pixels, as `decode_image` does with a file.

  An image that Pillow has opened but not decoded yet is decoded: the current frame of several.

  Returns:
    Pixels, not writeable.

  Raises:
    UnreadableImageError: it cannot be decoded, is over `MAX_PIXELS`, under `MIN_SIDE`, or is a TIFF of more than 8
      bits that Pillow may have misread.
  """
  with _refusals("<PIL image>"):
    _check_dimensions(image.height, image.width)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and tiff.is_deep(image.tag_v2):
      raise RefusalError("Pillow misreads some TIFFs of more than 8 bits: give the path or the bytes of the file")
    orientation = _read_orientation(image)
    image.load()  # a TIFF turns itself here
    return _to_upright_rgb(image, 1 if image.format == "TIFF" else orientation)


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


def _name(source: Source, path: str | os.PathLike | None) -> str:
  if path is None and isinstance(source, bytes):
    return "<bytes>"
  return os.fsdecode(source if path is None else path)


@contextlib.contextmanager
def _refusals(name: str) -> Iterator[None]:
  """Whatever goes wrong in the `with` block becomes an `UnreadableImageError` of the file `name`."""
  try:
    yield
  except Exception as error:  # on damaged files Pillow's plugins raise struct.error, KeyError, MemoryError and more
    raise UnreadableImageError(name, describe(error)) from error


class _Opened(NamedTuple):
  """A file whose header was read: the upright (height, width), and from its contents the pixels and their orientation."""

  size: Size
  orientation: int
  decode: Callable[[bytes], Image.Image]


def _open(file: BinaryIO) -> _Opened:
  kind = _find_kind(file.read(256))
  file.seek(0)
  match kind:
    case "PNG":
      (height, width), orientation = png.read_header(file)
      decode = png.decode_png
    case "HEIF":
      data = file.read()
      image = heif.open_heif(data)
      (width, height), orientation = image.size, heif.find_heif_orientation(data, image.info)

      def decode(_: bytes) -> Image.Image:
        return image.to_pillow()

    case "TIFF" if tiff.is_deep(tags := tiff.read_tags(file)):
      height, width = tiff.read_size(tags)
      orientation = find_orientation(tags, tags.get(TiffImagePlugin.XMP))
      decode = tiff.decode_deep
    case _:
      return _open_with_pillow(kind, file)
  if orientation >= FIRST_SIDEWAYS:
    height, width = width, height
  _check_dimensions(height, width)
  return _Opened((height, width), orientation, decode)


def _open_with_pillow(kind: str, file: BinaryIO) -> _Opened:
  file.seek(0)
  image = Image.OPEN[kind][0](file, "")  # `Image.open` would not say what is wrong
  orientation = _read_orientation(image)
  width, height = image.size
  is_swapped = kind == "TIFF" and image.tag_v2.get(ExifTags.Base.Orientation) in range(FIRST_SIDEWAYS, 9)
  if orientation >= FIRST_SIDEWAYS and not is_swapped:
    height, width = width, height
  _check_dimensions(height, width)

  def decode(data: bytes) -> Image.Image:
    try:
      image.load()
    except OSError:
      if kind != "JPEG":
        raise
      if jpeg.is_unsupported(data):
        raise RefusalError("not supported: JPEG of the lossless or hierarchical kind") from None
      whole = jpeg.decode_without_end(data)
      if whole is None:
        raise
      return whole
    return image

  return _Opened((height, width), 1 if kind == "TIFF" else orientation, decode)


def _read_orientation(image: Image.Image) -> int:
  """The orientation of an image that Pillow has opened. Pillow itself turns a TIFF, by what this sets."""
  try:
    exif = image.getexif()
  except Exception:  # as in `find_orientation`
    return 1
  orientation = find_orientation(exif, image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))
  if image.format == "TIFF" and (ExifTags.Base.Orientation in exif or orientation != 1):
    exif[ExifTags.Base.Orientation] = orientation
  return orientation


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


def _check_dimensions(height: int, width: int) -> None:
  if min(height, width) < MIN_SIDE:
    raise RefusalError(f"{width}x{height} pixels, the least is {MIN_SIDE}x{MIN_SIDE}")
  if height * width > MAX_PIXELS:
    raise RefusalError(too_many_pixels(height * width))


def _to_upright_rgb(image: Image.Image, orientation: int) -> UInt8[np.ndarray, "h w 3"]:
  return np.asarray(turn_upright(_to_rgb(image), orientation))


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode in ("I", "F") or image.mode.startswith("I;16"):
    values, transparent = np.asarray(image), image.info.get("transparency")
    gray = to_bytes(values)
    if isinstance(transparent, int):
      gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")
  if image.has_transparency_data:
    if image.format == "BMP" and image.getextrema()[3] == (0, 0):
      return image.convert("RGB")  # Many programs leave the fourth byte empty; none paints an invisible picture.
    image = image.convert("LA") if image.mode == "La" else image  # Pillow converts premultiplied gray to nothing else
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
  return image if image.mode == "RGB" else image.convert("RGB")
