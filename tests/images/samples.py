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


def encode_tiff(values, photometric=1):
  """A TIFF of one strip by hand, for sample types that Pillow reads but does not write."""
  height, width = values.shape
  bits = values.dtype.itemsize * 8
  order = "<" if values.dtype.newbyteorder("=") == values.dtype else ">"
  sample_format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
  tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 200, 277: 1, 278: height}
  tags |= {279: values.nbytes, 339: sample_format}
  entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
  header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
  return (header + struct.pack(order + "H", len(tags)) + entries + bytes(4)).ljust(200, b"\0") + values.tobytes()


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
