"""Upright pixels, wherever a format keeps its orientation."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import PngImagePlugin

from cwf_jax.images.decoding import decode_image, read_size
from tests.images.samples import (
  HEIGHT,
  WIDTH,
  encode,
  encode_heic,
  encode_png,
  encode_tiff,
  exif_of,
  make_photograph,
  mean_difference,
  needs_avif,
  reason_of,
)


def lay_down(upright, orientation):
  """The pixels as a camera stores them, from the standard's table: where row 0 and column 0 of the file lie."""
  stored = {
    1: upright,
    2: upright[:, ::-1],
    3: upright[::-1, ::-1],
    4: upright[::-1],
    5: upright.transpose(1, 0, 2),
    6: upright.transpose(1, 0, 2)[::-1],
    7: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: upright.transpose(1, 0, 2)[:, ::-1],
  }[orientation]
  return np.ascontiguousarray(stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF LZW", pytest.param("AVIF", marks=needs_avif), "HEIF"])
def test_orientation(kind, orientation):
  upright = make_photograph()
  stored = lay_down(upright, orientation)
  if kind.startswith("TIFF"):
    data = encode(stored, "TIFF", tiffinfo={274: orientation}, compression="tiff_lzw" if kind == "TIFF LZW" else None)
  elif kind == "HEIF":
    data = encode_heic(stored, exif=exif_of(orientation), quality=98)
  else:
    settings = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}, "AVIF": {"quality": 95}}.get(kind, {})
    data = encode(stored, kind, exif=exif_of(orientation), **settings)
  assert read_size(data) == (HEIGHT, WIDTH)
  found = decode_image(data)
  assert found.shape == upright.shape
  assert mean_difference(found, upright) <= 3


XMP = (
  '<x:xmpmeta><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>',
  "<x:xmpmeta><rdf:Description tiff:Orientation = '{}'/></x:xmpmeta>",
  "<x:xmpmeta><tiff:Orientation>{}</tiff:Orientation></x:xmpmeta>",
)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("xmp", XMP)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG zTXt", "WEBP", "TIFF", "TIFF of 16 bits"])
def test_orientation_in_xmp(kind, xmp, orientation):
  upright = make_photograph()
  stored = lay_down(upright, orientation)
  xmp = xmp.format(orientation)
  if kind.startswith("PNG"):
    information = PngImagePlugin.PngInfo()
    information.add_itxt("XML:com.adobe.xmp", xmp, zip=kind == "PNG zTXt")
    data = encode(stored, "PNG", pnginfo=information)
  elif kind == "TIFF":
    data = encode(stored, "TIFF", tiffinfo={700: xmp.encode()})
  elif kind == "TIFF of 16 bits":
    file = io.BytesIO()
    tifffile.imwrite(file, stored.astype(np.uint16) << 8, extratags=[(700, 1, len(xmp), xmp.encode(), True)])
    data = file.getvalue()
  else:
    data = encode(stored, kind, xmp=xmp.encode(), quality=98)
  assert read_size(data) == (HEIGHT, WIDTH)
  assert mean_difference(decode_image(data), upright) <= 3


def exif_of_type(code, order, orientation=6):
  """An EXIF block whose orientation is of the type BYTE (1), SHORT (3), LONG (4), SBYTE (6), SSHORT (8) or SLONG (9)."""
  value = orientation.to_bytes({1: 1, 6: 1, 3: 2, 8: 2}.get(code, 4), {"<": "little", ">": "big"}[order])
  head = b"II*\0" if order == "<" else b"MM\0*"
  return head + struct.pack(order + "IHHHI", 8, 1, 274, code, 1) + value.ljust(4, b"\0") + bytes(4)


@pytest.mark.parametrize("code", [1, 3, 4, 6, 8, 9])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF of 16 bits", "HEIF"])
def test_orientation_of_any_integer_type(kind, order, code):
  upright = make_photograph()
  stored = lay_down(upright, 6)
  block = exif_of_type(code, order)
  if kind.startswith("TIFF"):
    samples = stored if kind == "TIFF" else (stored.astype(np.uint16) << 8).astype(order + "u2")
    data = encode_tiff(samples, 2, order=order, more_tags={274: [6]})
    entry = struct.pack(order + "HHII", 274, 4, 1, 6)
    assert data.count(entry) == 1
    data = data.replace(entry, block[10:22])
  elif kind == "HEIF":
    data = encode_heic(stored, quality=98, exif=exif_of_type(code, order, 1))
    assert data.count(exif_of_type(code, order, 1)) == 1
    data = data.replace(exif_of_type(code, order, 1), block)
  else:
    settings = {"JPEG": {"quality": 98}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(stored, kind, exif=b"Exif\0\0" + block, **settings)
  assert read_size(data) == (HEIGHT, WIDTH)
  assert mean_difference(decode_image(data), upright) <= 3


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_container_of_a_heic_counts_before_its_exif(orientation):
  """libheif turns by irot and imir, which its own encoder writes; EXIF that says otherwise is left over."""
  upright = make_photograph()
  data = encode_heic(lay_down(upright, orientation), exif=exif_of(orientation), quality=98)
  for stale in (exif_of(1), exif_of(6)):
    marks = [exif_of(number)[6:] for number in range(1, 9)]
    (mark,) = [mark for mark in marks if mark in data]
    changed = data.replace(mark, stale[6:])
    assert read_size(changed) == (HEIGHT, WIDTH)
    assert mean_difference(decode_image(changed), upright) <= 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_mean_upright(orientation):
  data = encode(make_photograph(), "PNG", exif=exif_of(orientation))
  np.testing.assert_array_equal(decode_image(data), make_photograph())
  assert read_size(data) == (HEIGHT, WIDTH)


def test_exif_behind_the_pixels_of_a_png():
  rows = b"".join(b"\0" + row.tobytes() for row in lay_down(make_photograph(), 6))
  exif = exif_of(6).removeprefix(b"Exif\0\0")
  data = encode_png((HEIGHT, WIDTH, 8, 2, 0, 0, 0), (b"IDAT", zlib.compress(rows)), (b"eXIf", exif))
  np.testing.assert_array_equal(decode_image(data), make_photograph())
  assert read_size(data) == (HEIGHT, WIDTH)


def test_read_size_does_not_decode(tmp_path):
  """Half a file has its size."""
  for kind in ("JPEG", "PNG", "BMP", "GIF", "TIFF"):
    data = encode(make_photograph(300, 200), kind)
    path = tmp_path / kind
    path.write_bytes(data[: len(data) // 2])
    assert read_size(path) == (300, 200)
    assert reason_of(path) == "truncated"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_counts_as_none(capfd):
  whole = exif_of(6)
  for damaged in (whole[:9], whole[:16], whole[:-4], b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", whole * 3):
    data = encode(make_photograph(), "JPEG", exif=damaged)
    assert decode_image(data).shape in ((HEIGHT, WIDTH, 3), (WIDTH, HEIGHT, 3))
    assert read_size(data) == decode_image(data).shape[:2]
  assert capfd.readouterr() == ("", "")
