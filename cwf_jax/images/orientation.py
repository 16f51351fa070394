"""The orientation in EXIF or XMP, by which an image is turned upright."""

import re
from collections.abc import Mapping

from PIL import ExifTags, Image

_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each orientation upright."""

FIRST_SIDEWAYS = 5
"""From this orientation on, height and width are swapped."""

_IN_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])")
"""As an attribute in either quotes, or as an element."""


def find_orientation(exif: Mapping | bytes | None, xmp: bytes | str | None = None) -> int:
  """The orientation, 1 to 8; 1 (upright) if none is stated, if it is not in 1 to 8, or if EXIF is damaged.

  Args:
    exif: an EXIF block or its tags. Its orientation may be of any integer type, and counts before the one in `xmp`.
    xmp: an XMP packet.
  """
  try:
    if isinstance(exif, bytes):
      block, exif = exif, Image.Exif()
      exif.load(block)
    orientation = (exif or {}).get(ExifTags.Base.Orientation)
  except Exception:  # a damaged block raises as many kinds as a damaged image; it says nothing about the pixels
    return 1
  if isinstance(orientation, bytes):  # of the type BYTE
    orientation = int.from_bytes(orientation, "little")
  if orientation is None and isinstance(xmp, bytes | str):
    match = _IN_XMP.search(xmp.encode() if isinstance(xmp, str) else xmp)
    orientation = match and int(match[1])
  return int(orientation) if orientation in _UPRIGHT else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
  """Turns the image, unless it is upright already."""
  return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
