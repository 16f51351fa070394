"""Small photographs in every format, made here, and what is asked of a file that is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from cwf_jax.images.decoding import UnreadableImageError, decode_image

HEIGHT, WIDTH = 40, 56
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def make_photograph(height=HEIGHT, width=WIDTH, seed=0):
  """Smooth, so that lossy formats keep it, with some noise, so that it does not compress to nothing; nowhere black."""
  rows, columns = np.mgrid[:height, :width]
  smooth = np.stack([50 + 150 * rows / height, 60 + 150 * columns / width, 230 - 150 * rows * columns / height / width], -1)
  return (smooth + np.random.default_rng(seed).integers(0, 8, smooth.shape)).astype(np.uint8)


def encode(image, kind, **settings):
  file = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **settings)
  return file.getvalue()


def encode_tiff(values, photometric=1, planar=1, bits=None, deflate=False, order=None, more_tags=None):
  """A TIFF by hand, of one strip or of one for each plane, for sample types that Pillow does not write.

  The byte order is that of `values` [h w] or [h w s], or `order` where they are of bytes. Unsigned integers are packed
  into `bits`, row by row.
  """
  order = order or ("<" if values.dtype.newbyteorder("=") == values.dtype else ">")
  height, width = values.shape[:2]
  samples = values.reshape(height, width, -1)
  count, full = samples.shape[2], values.dtype.itemsize * 8
  strips = []
  for plane in np.split(samples, count, axis=2) if planar == 2 else [samples]:
    strip = plane.tobytes()
    if bits:
      each = np.unpackbits(plane.astype(f">u{full // 8}").reshape(height, -1, 1).view(np.uint8), axis=2)[..., full - bits :]
      strip = np.packbits(each.reshape(height, -1), axis=1).tobytes()
    strips.append(zlib.compress(strip) if deflate else strip)
  tags = {256: [width], 257: [height], 258: [bits or full] * count, 259: [8 if deflate else 1], 262: [photometric]}
  tags |= {277: [count], 278: [height], 284: [planar], 339: [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * count}
  tags |= {279: [len(strip) for strip in strips], 273: np.cumsum([1000, *map(len, strips[:-1])]).tolist(), **(more_tags or {})}
  entries, rest = b"", b""
  for tag, numbers in sorted(tags.items()):
    packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
    if len(numbers) > 1:
      rest, packed = rest + packed, struct.pack(order + "I", 400 + len(rest))
    entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + packed
  header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
  return ((header + entries + bytes(4)).ljust(400, b"\0") + rest).ljust(1000, b"\0") + b"".join(strips)


def encode_heic(image, **settings):
  pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
  pillow_heif.register_heif_opener()
  return encode(image, "HEIF", **settings)


def png_chunk(name, content):
  return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encode_png(header, *chunks):
  parts = [png_chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), *(png_chunk(*chunk) for chunk in chunks)]
  return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def reason_of(source):
  """Why the source is refused; the size is refused too, or is sound."""
  with pytest.raises(UnreadableImageError) as caught:
    decode_image(source)
  reason = caught.value.reason
  assert reason
  assert reason.isprintable()
  assert len(reason) <= 120
  return reason


def assert_refused_or(source, expected):
  """The source decodes to exactly `expected`, or is refused with a reason."""
  try:
    found = decode_image(source)
  except UnreadableImageError as error:
    assert error.reason.isprintable() and error.reason, repr(error.reason)
    return False
  np.testing.assert_array_equal(found, expected)
  return True


def mean_difference(found, expected):
  return np.abs(found.astype(float) - expected).mean()


def exif_of(orientation):
  exif = Image.Exif()
  exif[274] = orientation
  return exif.tobytes()


def damageable():
  """(name, file) of every format, 100x80, large enough to be cut in many places."""
  photograph = make_photograph(100, 80)
  palette = Image.fromarray(photograph).quantize(64)
  kinds = [
    ("jpeg", photograph, "JPEG", {"exif": exif_of(1)}),
    ("progressive", photograph, "JPEG", {"progressive": True}),
    ("png", photograph, "PNG", {}),
    ("palette", palette, "PNG", {}),
    ("gif", palette, "GIF", {}),
    ("webp", photograph, "WEBP", {}),
    ("lossless", photograph, "WEBP", {"lossless": True}),
    ("tiff", photograph, "TIFF", {}),
    ("lzw", photograph, "TIFF", {"compression": "tiff_lzw"}),
    ("bmp", photograph, "BMP", {}),
  ]
  if features.check("avif"):
    kinds.append(("avif", photograph, "AVIF", {}))
  return [(name, encode(image, kind, **settings)) for name, image, kind, settings in kinds]
