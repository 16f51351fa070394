"""Formats, modes and orientations against NumPy; damage, odd files and threads against "a reason or the pixels"."""

import concurrent.futures
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from cwf_jax.images import decoding, files
from cwf_jax.images.decoding import UnreadableImageError, crop_image, decode_image, read_file, read_size, resize_image
from cwf_jax.protocol import BoxError

HEIGHT, WIDTH = 40, 56
PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "images"
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


# Formats and modes.


@pytest.mark.parametrize(
  ("kind", "settings", "tolerance"),
  [
    ("PNG", {}, 0),
    ("BMP", {}, 0),
    ("WEBP", {"lossless": True}, 0),
    ("TIFF", {}, 0),
    ("TIFF", {"compression": "tiff_lzw"}, 0),
    ("TIFF", {"compression": "tiff_deflate"}, 0),
    ("TIFF", {"compression": "packbits"}, 0),
    # Lossy: chroma at half the resolution and quantized coefficients; a gray level or three on a smooth image.
    ("TIFF", {"compression": "jpeg", "quality": 95}, 3),
    ("JPEG", {"quality": 95}, 3),
    ("JPEG", {"quality": 95, "progressive": True}, 3),
    ("WEBP", {"quality": 95}, 3),
    pytest.param("AVIF", {"quality": 95}, 3, marks=needs_avif),
    ("MPO", {"quality": 95}, 3),
  ],
)
def test_formats_decode(kind, settings, tolerance, tmp_path):
  photograph = make_photograph()
  data = encode(photograph, kind, **settings)
  found = decode_image(data)
  assert found.dtype == np.uint8
  assert found.shape == photograph.shape
  assert mean_difference(found, photograph) <= tolerance
  assert read_size(data) == (HEIGHT, WIDTH)
  path = tmp_path / "photograph.anything"
  path.write_bytes(data)
  for name in (path, str(path)):
    np.testing.assert_array_equal(decode_image(name), found)
    assert read_size(name) == (HEIGHT, WIDTH)
  assert read_file(path) == data


def test_heic_decodes():
  photograph = make_photograph()
  data = encode_heic(photograph, quality=95)
  assert mean_difference(decode_image(data), photograph) <= 3
  assert read_size(data) == (HEIGHT, WIDTH)


def test_heic_without_its_extra_is_refused_by_name(monkeypatch):
  monkeypatch.setitem(sys.modules, "pillow_heif", None)
  monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
  data = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(100)
  assert reason_of(data) == "HEIC needs the extra heif: pip install 'cwf_jax[heif]'"
  with pytest.raises(UnreadableImageError, match="extra heif"):
    read_size(data)


def test_heic_is_registered_on_first_need():
  """In a fresh process on eight threads at once, as the program would."""
  pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
  program = """
import sys, concurrent.futures
from PIL import Image
from cwf_jax.images.decoding import decode_image
assert "pillow_heif" not in sys.modules
data = sys.stdin.buffer.read()
with concurrent.futures.ThreadPoolExecutor(8) as threads:
  print({image.shape for image in threads.map(decode_image, [data] * 16)})
"""
  ran = subprocess.run(
    [sys.executable, "-W", "error", "-c", program],
    input=encode_heic(make_photograph()),
    capture_output=True,
    cwd=Path(__file__).parents[2],
    check=False,
  )
  assert (ran.stdout.strip(), ran.stderr) == (f"{{({HEIGHT}, {WIDTH}, 3)}}".encode(), b"")


def test_gray_and_bilevel():
  gray = make_photograph()[..., 0]
  for kind in ("PNG", "BMP", "TIFF", "GIF"):
    np.testing.assert_array_equal(decode_image(encode(gray, kind)), np.repeat(gray[..., None], 3, 2))
  bilevel = gray > 120
  for kind in ("PNG", "BMP", "TIFF"):
    expected = np.repeat(bilevel[..., None], 3, 2) * 255
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(bilevel), kind)), expected)


def lay_over_white(rgb, alpha):
  alpha = alpha[..., None] / 255
  return rgb * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_alpha_lies_over_white(kind):
  rgb = make_photograph()
  alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
  settings = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 95}}.get(kind, {})
  found = decode_image(encode(np.dstack([rgb, alpha]), kind, **settings))
  # Compositing rounds by at most one; AVIF is lossy.
  assert np.abs(found - lay_over_white(rgb, alpha)).max() <= (20 if kind == "AVIF" else 1)


def test_gray_alpha_lies_over_white():
  gray = make_photograph()[..., 0]
  alpha = np.tile(np.arange(0, WIDTH * 4, 4, dtype=np.uint8), (HEIGHT, 1))
  found = decode_image(encode(np.dstack([gray, alpha]), "PNG"))
  assert np.abs(found - lay_over_white(np.repeat(gray[..., None], 3, 2), alpha)).max() <= 1


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 128, 255, 64])])
def test_palettes(transparency):
  indices = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 5).astype(np.uint8)
  palette = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 0], [90, 80, 70], [1, 2, 250]], np.uint8)
  image = Image.fromarray(indices)
  image.putpalette(palette.tobytes())
  alphas = np.full(5, 255, np.uint8)
  if isinstance(transparency, bytes):
    alphas[:4] = list(transparency)
  elif transparency is not None:
    alphas[transparency] = 0
  settings = {} if transparency is None else {"transparency": transparency}
  expected = lay_over_white(palette[indices], alphas[indices])
  assert np.abs(decode_image(encode(image, "PNG", **settings)) - expected).max() <= 1
  if not isinstance(transparency, bytes):
    assert np.abs(decode_image(encode(image, "GIF", **settings)) - expected).max() <= 1


def test_transparent_colors_of_png():
  rgb = make_photograph()
  rgb[3, 4] = rgb[30, 50] = (9, 8, 7)
  expected = rgb.copy()
  expected[3, 4] = expected[30, 50] = 255
  np.testing.assert_array_equal(decode_image(encode(rgb, "PNG", transparency=(9, 8, 7))), expected)
  gray = rgb[..., 1] | 1
  gray[5, 6] = 44
  expected = np.repeat(gray[..., None], 3, 2)
  expected[5, 6] = 255
  np.testing.assert_array_equal(decode_image(encode(gray, "PNG", transparency=44)), expected)


def test_16_bit_gray_keeps_its_upper_bits():
  values = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
  expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, 2)
  for data in (
    encode(values, "PNG"),
    encode(values, "TIFF"),
    encode_tiff(values),
    encode_tiff(values.astype(">u2")),
    encode_tiff(values.astype(np.int32)),
    encode_tiff(values.astype(np.float32)),
  ):
    np.testing.assert_array_equal(decode_image(data), expected)


def test_16_bit_gray_with_a_transparent_value():
  values = np.full((HEIGHT, WIDTH), 1000, np.uint16)
  values[7, 8] = 1001
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
  data = encode_png((WIDTH, HEIGHT, 16, 0, 0, 0, 0), (b"tRNS", struct.pack(">H", 1001)), (b"IDAT", zlib.compress(rows)))
  found = decode_image(data)
  assert (found == 3).sum() == found.size - 3
  assert found[7, 8].tolist() == [255, 255, 255]


@pytest.mark.parametrize("key", [(), (b"tRNS", struct.pack(">HHH", 40000, 3, 3))])
def test_16_bit_rgb_keeps_its_upper_bits(key):
  values = np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
  data = encode_png((WIDTH, HEIGHT, 16, 2, 0, 0, 0), *([key] if key else []), (b"IDAT", zlib.compress(rows)))
  np.testing.assert_array_equal(decode_image(data), values >> 8)


def test_32_bit_gray():
  gray = make_photograph()[..., 0]
  expected = np.repeat(gray[..., None], 3, 2)
  np.testing.assert_array_equal(decode_image(encode_tiff(gray.astype(np.int32))), expected)
  np.testing.assert_array_equal(decode_image(encode_tiff(gray.astype(np.float32))), expected)
  np.testing.assert_array_equal(decode_image(encode_tiff((gray / 255).astype(np.float32))), expected)
  stretched = gray.astype(np.float32) * 1e6 - 7e7
  low, high = gray.min(), gray.max()
  found = decode_image(encode_tiff(stretched))
  assert np.abs(found[..., 0] - (gray - float(low)) * 255 / (high - low)).max() <= 0.51  # rounding, and float32's own
  np.testing.assert_array_equal(decode_image(encode_tiff(np.full((20, 20), -5, np.float32))), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_refused(value):
  values = np.ones((HEIGHT, WIDTH), np.float32)
  values[3, 3] = value
  assert reason_of(encode_tiff(values)) == "pixels that are not finite numbers"


def test_cmyk_jpeg():
  """Pillow writes CMYK inverted, with Adobe's marker, as Photoshop does."""
  cmyk = Image.fromarray(make_photograph()).convert("CMYK")
  data = encode(cmyk, "JPEG", quality=98)
  assert b"Adobe" in data
  assert mean_difference(decode_image(data), make_photograph()) <= 3
  np.testing.assert_array_equal(decode_image(encode(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))


def test_ycbcr_and_lab_tiff():
  ycbcr = Image.fromarray(make_photograph()).convert("YCbCr")
  assert mean_difference(decode_image(encode(ycbcr, "TIFF")), make_photograph()) <= 2
  srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
  image = ImageCms.profileToProfile(Image.fromarray(make_photograph()), srgb, lab, outputMode="LAB")
  assert mean_difference(decode_image(encode(image, "TIFF")), make_photograph()) <= 3  # 8 bits of L, a and b


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", pytest.param("AVIF", marks=needs_avif)])
def test_first_frame(kind):
  colors = [(200, 40, 30), (30, 200, 40), (40, 30, 200)]
  frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in colors]
  data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
  assert np.abs(decode_image(data) - np.array(colors[0])).max() <= 4  # lossy WebP and AVIF


# Orientation.


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


def exif_of(orientation):
  exif = Image.Exif()
  exif[274] = orientation
  return exif.tobytes()


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


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_in_xmp(kind, orientation):
  upright = make_photograph()
  stored = lay_down(upright, orientation)
  xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
  if kind == "PNG":
    information = PngImagePlugin.PngInfo()
    information.add_itxt("XML:com.adobe.xmp", xmp)
    settings = {"pnginfo": information}
  elif kind == "TIFF":
    settings = {"tiffinfo": {700: xmp.encode()}}
  else:
    settings = {"xmp": xmp.encode(), "quality": 98}
  data = encode(stored, kind, **settings)
  assert read_size(data) == (HEIGHT, WIDTH)
  assert mean_difference(decode_image(data), upright) <= 3


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


def test_damaged_exif_counts_as_none(capfd):
  whole = exif_of(6)
  for damaged in (whole[:9], whole[:16], whole[:-4], b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", whole * 3):
    data = encode(make_photograph(), "JPEG", exif=damaged)
    assert decode_image(data).shape in ((HEIGHT, WIDTH, 3), (WIDTH, HEIGHT, 3))
    assert read_size(data) == decode_image(data).shape[:2]
  assert capfd.readouterr() == ("", "")


# Damage.


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


@pytest.mark.parametrize(("name", "data"), damageable(), ids=[name for name, _ in damageable()])
def test_truncated_files_are_refused_or_whole(name, data):
  expected = decode_image(data)
  length = len(data)
  cuts = {*range(min(length, 64)), *range(0, length, max(1, length // 80)), *range(length - 24, length)}
  whole = [cut for cut in sorted(cuts) if assert_refused_or(data[:cut], expected)]
  assert all(cut >= length - 12 for cut in whole), f"{name} of {length} bytes decodes when cut at {whole}"
  assert "truncated" in reason_of(data[: length // 2])


def test_heic_of_another_size_than_its_header_says():
  """The encoder pads to 64x64 and names the crop, which is damaged here."""
  data = encode_heic(make_photograph())
  crop = b"clap" + struct.pack(">IIII", WIDTH, 1, HEIGHT, 1)
  if crop not in data:
    pytest.skip("this version of libheif does not pad")
  damaged = data.replace(crop, b"clap" + struct.pack(">IIII", WIDTH, 1, 20000, 1))
  assert reason_of(damaged) == "damaged (the header says 56x20000, there are 56x64 pixels)"


def test_truncated_heic_is_refused():
  data = encode_heic(make_photograph(100, 80))
  for cut in (20, 100, len(data) // 2, len(data) - 1):
    reason_of(data[:cut])


def split_into_passes(pixels):
  """Adam7: the eight by eight pattern, pass by pass, from the standard's figure."""
  figure = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
  order = np.array([[int(number) for number in row] for row in figure])
  order = np.tile(order, (pixels.shape[0] // 8 + 1, pixels.shape[1] // 8 + 1))[: pixels.shape[0], : pixels.shape[1]]
  for number in range(1, 8):
    rows, columns = np.any(order == number, 1), np.any(order == number, 0)
    yield pixels[rows][:, columns]


def filter_rows(pixels, depth=8):
  """A PNG's rows, each behind its filter type of 0."""
  flat = pixels.reshape(len(pixels), -1)
  bits = np.unpackbits(flat[..., None], axis=-1)[..., 8 - depth :].reshape(len(flat), -1)
  return b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (17, 19)])
def test_png_that_ends_early_in_good_order_is_refused(size, interlaced):
  """Sound checksums and a properly closed stream, but too few rows: Pillow alone leaves the rest black."""
  photograph = make_photograph(*size)
  rows = [filter_rows(row[None]) for part in (split_into_passes(photograph) if interlaced else [photograph]) for row in part]
  header = (size[1], size[0], 8, 2, 0, 0, interlaced)
  for kept in range(len(rows)):
    assert reason_of(encode_png(header, (b"IDAT", zlib.compress(b"".join(rows[:kept]))))) == "truncated"
  stream = b"".join(rows)
  np.testing.assert_array_equal(decode_image(encode_png(header, (b"IDAT", zlib.compress(stream)))), photograph)
  assert reason_of(encode_png(header, (b"IDAT", zlib.compress(stream[:-1])))) == "truncated"


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(16, 16), (17, 19), (40, 33)])
def test_black_png_is_no_truncated_one(size, depth):
  """A picture that is black at the bottom for good reasons, of every depth, also interlaced."""
  pixels = np.zeros(size, np.uint8)
  pixels[0] = 1
  expected = np.repeat(pixels[..., None] * np.uint8(255 // (2**depth - 1)), 3, 2)
  header = (size[1], size[0], depth, 0, 0, 0)
  plain = filter_rows(pixels, depth)
  np.testing.assert_array_equal(decode_image(encode_png((*header, 0), (b"IDAT", zlib.compress(plain)))), expected)
  passes = b"".join(filter_rows(part, depth) for part in split_into_passes(pixels))
  found = decode_image(encode_png((*header, 1), (b"IDAT", zlib.compress(passes))))
  np.testing.assert_array_equal(found, expected)
  last_row = 1 + (size[1] * depth + 7) // 8
  for missing in (1, last_row):
    assert reason_of(encode_png((*header, 1), (b"IDAT", zlib.compress(passes[:-missing])))) == "truncated"


def test_png_of_many_chunks():
  """The stream of pixels runs on from chunk to chunk, and is larger than the steps in which it is counted."""
  pixels = np.zeros((1500, 1000), np.uint8)
  pixels[0] = 200
  stream = zlib.compress(filter_rows(pixels))
  chunks = [(b"IDAT", stream[start : start + 100]) for start in range(0, len(stream), 100)]
  data = encode_png((1000, 1500, 8, 0, 0, 0, 0), *chunks)
  np.testing.assert_array_equal(decode_image(data)[..., 0], pixels)


def test_png_checksums_are_compared():
  data = bytearray(encode(make_photograph(), "PNG"))
  data[-14] ^= 1  # of the last IDAT; IEND has 12 bytes
  assert reason_of(bytes(data)).startswith("damaged")


def flip_bytes(data, rng):
  damaged = bytearray(data)
  # The header decides most; half of the flips go there.
  span = len(data) if rng.random() < 0.5 else min(len(data), 400)
  for at in rng.integers(0, span, rng.integers(1, 12)):
    damaged[at] = rng.integers(0, 256)
  return bytes(damaged)


def fuzz(files, count, seed):
  rng = np.random.default_rng(seed)
  decoded = 0
  for turn in range(count):
    damaged = flip_bytes(files[turn % len(files)], rng)
    try:
      height, width = read_size(damaged)
    except UnreadableImageError as error:
      height = width = None
      assert error.reason.isprintable()
    try:
      found = decode_image(damaged)
    except UnreadableImageError as error:
      assert error.reason.isprintable()
    else:
      decoded += 1
      assert found.dtype == np.uint8
      assert found.shape == (height, width, 3)
  return decoded


def test_flipped_bytes():
  files = [data for _, data in damageable()]
  decoded = fuzz(files, 220, seed=0)
  assert 0 < decoded < 220


@pytest.mark.long
def test_flipped_bytes_at_length():
  files = [data for _, data in damageable()]
  files += [encode(make_photograph(), "TIFF", compression="packbits"), encode(make_photograph(), "MPO")]
  files += [encode_tiff(make_photograph()[..., 0].astype(np.float32)), encode_heic(make_photograph())]
  assert 0 < fuzz(files, 5000, seed=1) < 5000


# Odd files.


def test_reasons(tmp_path):
  (tmp_path / "text.jpg").write_text("This is no photograph.\n")
  (tmp_path / "empty.jpg").write_bytes(b"")
  (tmp_path / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n")
  (tmp_path / "folder.jpg").mkdir()
  (tmp_path / "loop.jpg").symlink_to("loop.jpg")
  expected = {
    "text.jpg": "not an image",
    "empty.jpg": "empty file",
    "drawing.jpg": "not an image",
    "folder.jpg": "a directory",
    "missing.jpg": "no such file",
    "text.jpg/below.jpg": "not a directory",
  }
  for name, reason in expected.items():
    path = tmp_path / name
    assert reason_of(path) == reason
    with pytest.raises(UnreadableImageError) as caught:
      read_size(path)
    assert (caught.value.path, caught.value.reason, str(caught.value)) == (str(path), reason, f"{path}: {reason}")
  assert "symbolic links" in reason_of(tmp_path / "loop.jpg")
  assert reason_of(str(tmp_path / "a\0b.jpg")) == "the path holds a zero byte"
  assert reason_of(b"") == "empty file"


@pytest.mark.parametrize("read", [read_file, read_size, decode_image])
def test_pipes_and_devices_do_not_block(tmp_path, read):
  pipe = tmp_path / "pipe.jpg"
  os.mkfifo(pipe)
  reasons = []

  def collect():
    for path in (pipe, "/dev/zero"):
      try:
        read(path)
      except UnreadableImageError as error:
        reasons.append(error.reason)

  reader = threading.Thread(target=collect, daemon=True)
  reader.start()
  reader.join(timeout=20)
  assert reasons == ["not a regular file"] * 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_permission_denied(tmp_path):
  path = tmp_path / "secret.png"
  path.write_bytes(encode(make_photograph(), "PNG"))
  path.chmod(0)
  assert reason_of(path) == "permission denied"


def test_permission_denied_is_reported(monkeypatch, tmp_path):
  """The same for root, who may read every file."""
  path = tmp_path / "secret.png"
  path.write_bytes(encode(make_photograph(), "PNG"))

  def refuse(*_):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(decoding.os, "open", refuse)
  assert reason_of(path) == "permission denied"


def test_links_are_followed(tmp_path):
  (tmp_path / "a.png").write_bytes(encode(make_photograph(), "PNG"))
  (tmp_path / "link.png").symlink_to("a.png")
  np.testing.assert_array_equal(decode_image(tmp_path / "link.png"), make_photograph())


def test_names_of_any_characters(tmp_path):
  for name in (b"n\xff\xfe.png", b"two\nlines.png", "dvořák ☃.png".encode()):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    with open(path, "wb") as file:
      file.write(encode(make_photograph(), "PNG"))
    np.testing.assert_array_equal(decode_image(path), make_photograph())
    with open(path, "wb") as file:
      file.write(b"text")
    with pytest.raises(UnreadableImageError) as caught:
      decode_image(path)
    assert caught.value.path == path
    assert str(caught.value).isprintable()
    assert str(caught.value).encode()  # no half characters: it can be printed
    assert str(caught.value).endswith(": not an image")


def test_contents_are_named_by_their_path():
  with pytest.raises(UnreadableImageError, match=r"^folder/a\.jpg: not an image$"):
    decode_image(b"text", path="folder/a.jpg")
  with pytest.raises(UnreadableImageError, match=r"^<bytes>: not an image$"):
    read_size(b"text")


def test_errors_travel_between_processes():
  error = pickle.loads(pickle.dumps(UnreadableImageError("a.jpg", "truncated")))
  assert (error.path, error.reason, str(error)) == ("a.jpg", "truncated", "a.jpg: truncated")
  assert isinstance(error, ValueError)


@pytest.mark.parametrize(
  ("width", "height", "reason"),
  [
    (50000, 50000, "2500 million pixels, the limit is 178 million"),
    (13400, 13300, "179 million pixels, the limit is 178 million"),
    (1, 1, "1x1 pixels, the least is 16x16"),
    (15, 200, "15x200 pixels, the least is 16x16"),
    (200, 15, "200x15 pixels, the least is 16x16"),
  ],
)
def test_sizes_beyond_the_limits_are_refused_by_the_header(width, height, reason):
  data = encode_png((width, height, 8, 2, 0, 0, 0), (b"IDAT", zlib.compress(bytes(100))))
  assert reason_of(data) == reason
  with pytest.raises(UnreadableImageError, match=reason):
    read_size(data)


def test_the_least_size_is_read():
  image = make_photograph(16, 16)
  np.testing.assert_array_equal(decode_image(encode(image, "PNG")), image)


def test_a_large_header_with_few_pixels_is_truncated():
  """Between Pillow's warning and its error; the warning stays inside."""
  data = encode_png((9500, 9500, 1, 0, 0, 0, 0), (b"IDAT", zlib.compress(bytes(100))))
  assert read_size(data) == (9500, 9500)
  assert reason_of(data) == "truncated"


def test_large_files_are_refused(tmp_path, monkeypatch):
  path = tmp_path / "large.png"
  path.write_bytes(encode(make_photograph(), "PNG"))
  monkeypatch.setattr(files, "MAX_BYTES", 1000)
  assert reason_of(path) == "0 MB, the limit is 0 MB"


# Threads and warnings.


def test_eight_threads_at_once_without_a_warning(capfd):
  """Files of all formats, some of which make Pillow warn, with warnings as errors."""
  files = [data for _, data in damageable()]
  files.append(encode(make_photograph(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
  palette = Image.fromarray(make_photograph()).quantize(16)
  files.append(encode(palette, "PNG", transparency=bytes(range(16))))
  alone = [decode_image(data) for data in files]
  with concurrent.futures.ThreadPoolExecutor(8) as threads:
    together = list(threads.map(decode_image, files * 8))
  for found, expected in zip(together, alone * 8, strict=True):
    np.testing.assert_array_equal(found, expected)
  assert capfd.readouterr() == ("", "")


def test_pillows_log_is_quiet(caplog, capfd):
  """Pillow logs an error before it refuses a TIFF of too many samples."""
  values = make_photograph()[..., 0]
  data = encode_tiff(values).replace(struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 500))
  assert reason_of(data) == "damaged, truncated or unsupported TIFF"
  assert not caplog.records
  assert capfd.readouterr() == ("", "")
  with pytest.raises(Image.UnidentifiedImageError), warnings.catch_warnings(action="ignore"):
    Image.open(io.BytesIO(data))
  assert len(caplog.records) == 1


def test_only_decoding_is_quiet():
  """A program's own warnings, and its own use of Pillow, warn as ever."""
  decode_image(encode(make_photograph(), "PNG"))
  with pytest.warns(Image.DecompressionBombWarning):
    Image.open(io.BytesIO(encode_png((9500, 9500, 1, 0, 0, 0, 0), (b"IDAT", zlib.compress(bytes(100))))))
  with pytest.raises(UserWarning, match="loud"):
    warnings.warn("loud", stacklevel=1)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert read_size(encode_png((9500, 9500, 1, 0, 0, 0, 0), (b"IDAT", zlib.compress(bytes(100))))) == (9500, 9500)
  assert not caught


# Resizing and cropping.


@pytest.mark.parametrize("size", [(20, 28), (33, 100), (80, 112), (16, 16)])
def test_resize_is_pillows_bilinear(size):
  photograph = make_photograph()
  expected = Image.fromarray(photograph).resize(size[::-1], Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(resize_image(photograph, *size), np.asarray(expected))


def test_resize_averages_when_it_shrinks():
  """A fine checkerboard becomes gray, not black or white."""
  board = np.repeat((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
  found = resize_image(board, 16, 16)
  assert np.abs(found.astype(int) - 127).max() <= 16


def test_resize_to_the_same_size_is_the_image():
  photograph = make_photograph()
  assert resize_image(photograph, HEIGHT, WIDTH) is photograph


@pytest.mark.parametrize(
  ("box", "expected"),
  [
    ((0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT)),
    ((3, 4, 20, 30), (3, 4, 20, 30)),
    ((3.9, 4.1, 19.2, 29.0), (3, 4, 20, 29)),
    ((-5, -0.5, 900, 41.0), (0, 0, WIDTH, HEIGHT)),
  ],
)
def test_crop(box, expected):
  left, top, right, bottom = expected
  photograph = make_photograph()
  np.testing.assert_array_equal(crop_image(photograph, box), photograph[top:bottom, left:right])


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (60, 0, 70, 9), (9, 9, 3, 20), (0, 0, float("nan"), 9), (0, 0, float("inf"), 9)])
def test_crop_of_nothing_is_refused(box):
  with pytest.raises(BoxError, match="holds no pixel of the image of 56x40"):
    crop_image(make_photograph(), box)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the project's data pack (shared/data/images) is not here")
def test_photographs_of_the_data_pack():
  paths = sorted(PHOTOGRAPHS.iterdir())
  assert paths
  for path in paths:
    image = decode_image(path)
    assert image.shape == (*read_size(path), 3)
    assert image.std() > 5
