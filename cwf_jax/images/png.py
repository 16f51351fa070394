"""What Pillow does not tell of a PNG: whether its pixels are all there, and whether EXIF stands behind them."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from cwf_jax.images.files import RefusalError


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
  """The (name, offset, length) of a PNG's chunks, as far as there are any; leaves the file where it was."""
  start, offset = file.tell(), 8
  try:
    while len(header := (file.seek(offset), file.read(8))[1]) == 8:
      length, name = struct.unpack(">I4s", header)
      yield name, offset + 8, length
      offset += 12 + length
  finally:
    file.seek(start)


def has_late_metadata(file: BinaryIO) -> bool:
  """Whether EXIF or text stands behind a PNG's first pixels."""
  names = [name for name, _, _ in _chunks(file)]
  return b"IDAT" in names and not {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}.isdisjoint(names[names.index(b"IDAT") :])


def check_is_whole(image: Image.Image, data: bytes) -> None:
  """Refuses a PNG whose stream of pixels ends early, properly closed: Pillow leaves the rest black and says nothing.

  The rows are counted only where one of the last two (of the last pass, if interlaced) is all zero, which is rare.

  Raises:
    RefusalError: it is truncated.
  """
  width, height = image.size
  last_rows = np.asarray(image.crop((0, height - 2, width, height)))
  if last_rows.reshape(2, -1).any(axis=1).all():
    return
  depth, color_type, _, _, interlaced = data[24:29]
  bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
  # (left, top, step right, step down) of Adam7's passes.
  adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
  missing = 0
  for left, top, right, down in adam7 if interlaced else ((0, 0, 1, 1),):
    columns, rows = -(-(width - left) // right), -(-(height - top) // down)
    missing += rows * (1 + (columns * bits + 7) // 8)
  inflater = zlib.decompressobj()
  for name, offset, length in _chunks(io.BytesIO(data)):
    compressed = data[offset : offset + length] if name == b"IDAT" else b""
    while compressed and missing > 0 and not inflater.eof:
      missing -= len(inflater.decompress(compressed, 2**20))
      compressed = inflater.unconsumed_tail
  if missing > len(inflater.flush() if missing > 0 else b""):
    raise RefusalError("truncated")
