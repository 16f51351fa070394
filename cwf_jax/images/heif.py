"""HEIC, by the optional package pillow-heif."""

import struct
from typing import TYPE_CHECKING

from cwf_jax.images.files import RefusalError
from cwf_jax.images.orientation import find_orientation

if TYPE_CHECKING:
  import pillow_heif


def open_heif(data: bytes) -> "pillow_heif.HeifImage":
  """The first picture, by its header; it is decoded when it is used.

  Raises:
    RefusalError: the package is not installed.
  """
  try:
    import pillow_heif
  except ImportError as error:
    raise RefusalError("HEIC needs the extra heif: pip install 'cwf_jax[heif]'") from error
  container = pillow_heif.open_heif(data)
  return container[container.primary_index]


def find_heif_orientation(data: bytes, info: dict) -> int:
  """The orientation of the pixels that libheif decodes.

  It turns them by the container's own properties. Where there are none, the EXIF of some phones says it.
  """
  return 1 if _is_turned_by_container(data) else find_orientation(info.get("exif"), info.get("xmp"))


def _is_turned_by_container(data: bytes) -> bool:
  offset = 0
  while len(header := data[offset : offset + 16]) >= 8:
    length, name = struct.unpack(">I4s", header[:8])
    if length == 1:
      length = int.from_bytes(header[8:], "big")
    if name == b"meta":
      box = data[offset : offset + length]
      return b"irot" in box or b"imir" in box
    offset += max(length, 8) if length else len(data)
  return False
