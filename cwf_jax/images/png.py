"""PNG: a chunk that says nothing of the pixels or the orientation is skipped, whatever is wrong with it."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image, PngImagePlugin

from cwf_jax.images.depth import to_bytes
from cwf_jax.images.files import RefusalError
from cwf_jax.images.orientation import find_orientation
from cwf_jax.protocol import Size

_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""The chunks that decide what the pixels are. Their checksums must be right."""

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each color type."""

_RAW_PROFILE = b"Raw profile type exif"
_XMP = b"XML:com.adobe.xmp"


def read_header(file: BinaryIO) -> tuple[Size, int]:
  """The (height, width) of the stored pixels, and their orientation; they are not decoded.

  Raises:
    RefusalError: there is no sound header.
  """
  size = exif = xmp = None
  for name, content, checksum in _chunks(file, (b"IHDR", b"eXIf", b"tEXt", b"zTXt", b"iTXt")):
    if size is None:
      if name != b"IHDR":
        raise RefusalError(f"not supported: PNG that begins with the chunk {name.decode()}")
      if len(content) != 13 or not checksum:
        raise RefusalError("damaged (IHDR)" if len(content) >= 13 else "truncated")
      width, height, depth, color_type, compression, filtering, interlaced = struct.unpack(">IIBBBBB", content)
      if depth not in _DEPTHS.get(color_type, ()) or compression or filtering or interlaced > 1:
        raise RefusalError("damaged (IHDR)")
      size = (height, width)
    elif checksum and name == b"eXIf":
      exif = content
    elif checksum and content.startswith((_RAW_PROFILE + b"\0", _XMP + b"\0")):
      keyword, text = _read_text(name, content)
      if keyword == _XMP:
        xmp = text
      elif exif is None:
        exif = _read_raw_profile(text)
  if size is None:
    raise RefusalError("truncated")
  return size, find_orientation(exif, xmp)


def decode_png(data: bytes) -> Image.Image:
  """Decodes the image, the default one of an animation, to 8 bits; it is not turned.

  16 bit samples keep the upper 8 of the bits that they hold, which the chunk sBIT may say are fewer.

  Raises:
    RefusalError: damaged, truncated, or of a kind that only some programs read.
  """
  depth, color_type = data[24:26]
  parts, bits = [data[:8]], 16
  for name, content, checksum in _chunks(io.BytesIO(data), (*_NEEDED, b"sBIT")):
    if name in _NEEDED:
      if not checksum:
        raise RefusalError(f"damaged (the checksum of {name.decode()})")
      if name == b"tRNS" and color_type == 0 and depth in (2, 4) and len(content) == 2:
        content = bytes((0, (content[1] & 2**depth - 1) * 255 // (2**depth - 1)))  # Pillow compares it with 8 bits
        checksum = _compute_checksum(name, content)
      parts += (struct.pack(">I4s", len(content), name), content, checksum)
    elif name == b"sBIT" and checksum and content:
      bits = max(8, min(16, max(content[:-1] if color_type in (4, 6) else content, default=16)))  # not those of alpha
    elif name[:1].isupper():
      raise RefusalError(f"not supported: PNG with the chunk {name.decode()}")
  data = b"".join((*parts, bytes(4), b"IEND", _compute_checksum(b"IEND", b"")))
  if depth == 16:
    _check_is_whole(data)
    return _decode_16_bits(data, bits)
  image = PngImagePlugin.PngImageFile(io.BytesIO(data))
  image.load()
  # Where the pixels end early in good order, Pillow leaves the rest black. That is rare, so the rows need no counting.
  width, height = image.size
  last_rows = np.asarray(image.crop((0, height - 2, width, height)))  # the last one of the last pass, if interlaced
  if not last_rows.reshape(2, -1).any(axis=1).all():
    _check_is_whole(data)
  return image


def _decode_16_bits(data: bytes, bits: int) -> Image.Image:
  """Decodes with libpng: Pillow keeps the upper 8 bits of colors, whichever hold values, also to find a transparent one."""
  try:
    pixels = imagecodecs.png_decode(data)
  except Exception as error:  # its own class, or another where libpng's words are not text
    raise RefusalError("damaged (libpng cannot decode it)") from error
  has_alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
  colors = pixels[..., :-1] if has_alpha else pixels
  # The standard scales fewer bits up to 16, so that the lowest are empty or repeat the highest. Some programs do not.
  is_scaled = colors.max() >> bits or (colors & (1 << 16 - bits) - 1).max() <= 1
  gray = to_bytes(colors, 16 if is_scaled else bits)
  return Image.fromarray(np.dstack([gray, to_bytes(pixels[..., -1])]) if has_alpha else gray)


def _check_is_whole(data: bytes) -> None:
  """Refuses a PNG whose stream of pixels is damaged or ends early, by the number of its bytes."""
  (width, height), (depth, color_type, _, _, interlaced) = struct.unpack(">II", data[16:24]), data[24:29]
  bits = depth * _CHANNELS[color_type]
  # (left, top, step right, step down) of Adam7's passes.
  adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
  missing = 0
  for left, top, right, down in adam7 if interlaced else ((0, 0, 1, 1),):
    columns, rows = -(-(width - left) // right), -(-(height - top) // down)
    missing += rows * (1 + (columns * bits + 7) // 8)
  inflater = zlib.decompressobj()
  for name, compressed, _ in _chunks(io.BytesIO(data), (b"IDAT",)):
    while name == b"IDAT" and compressed and missing > 0 and not inflater.eof:
      missing -= len(inflater.decompress(compressed, 2**20))
      compressed = inflater.unconsumed_tail
  if missing > len(inflater.flush() if missing > 0 else b""):
    raise RefusalError("truncated")


def _chunks(file: BinaryIO, read: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes, bool]]:
  """The (name, content, checksum) of the chunks before IEND. The checksum is empty where it is wrong.

  Both are empty for names that are not in `read`.

  Raises:
    RefusalError: the file ends inside a chunk that decides what the pixels are, or what follows is no chunk.
  """
  offset, end = 8, file.seek(0, io.SEEK_END)
  while offset + 8 <= end:
    file.seek(offset)
    length, name = struct.unpack(">I4s", file.read(8))
    if name == b"IEND":
      return
    if not name.isalpha():
      raise RefusalError("damaged (no name of a chunk)")
    content, checksum = b"", b""
    if name in read:
      content, checksum = file.read(length), file.read(4)
      if len(checksum) < 4 and name in _NEEDED:
        raise RefusalError("truncated")
    yield name, content, checksum if checksum == _compute_checksum(name, content) else b""
    offset += 12 + length


def _compute_checksum(name: bytes, content: bytes) -> bytes:
  return struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


def _read_text(name: bytes, content: bytes) -> tuple[bytes, bytes]:
  """The keyword and the text of a tEXt, zTXt or iTXt chunk; no text where it is damaged."""
  keyword, _, text = content.partition(b"\0")
  is_compressed = name == b"zTXt" or (name == b"iTXt" and text[:1] == b"\1")
  text = {b"tEXt": text, b"zTXt": text[1:], b"iTXt": text[2:].split(b"\0", 2)[-1]}[name]
  if not is_compressed:
    return keyword, text
  try:
    return keyword, zlib.decompressobj().decompress(text, _MOST_TEXT)
  except zlib.error:
    return keyword, b""


_MOST_TEXT = 2**24
"""The most bytes of an unpacked text that are searched for an orientation."""


def _read_raw_profile(text: bytes) -> bytes | None:
  """EXIF as ImageMagick writes it: an empty line, a name, a length, and hexadecimal digits."""
  try:
    return bytes.fromhex("".join(text.decode().split("\n")[3:]))
  except ValueError:
    return None
