"""Formats and modes against NumPy."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from cwf_jax.images.decoding import UnreadableImageError, convert_image, decode_image, read_file, read_size
from tests.images.samples import (
  HEIGHT,
  WIDTH,
  encode,
  encode_heic,
  encode_png,
  encode_tiff,
  make_photograph,
  mean_difference,
  needs_avif,
  reason_of,
)

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "images"


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


def encode_bmp(bgra, header, masks, compression=3):
  """A BMP of 32 bits by hand, with a header of 40 to 124 bytes."""
  height, width = bgra.shape[:2]
  data = np.ascontiguousarray(bgra[::-1]).tobytes()
  information = struct.pack("<IiiHHIIiiII", header, width, height, 1, 32, compression, len(data), 2835, 2835, 0, 0)
  packed = struct.pack(f"<{len(masks)}I", *masks)
  information += packed if header == 40 else packed.ljust(header - 40, b"\0")
  return b"BM" + struct.pack("<IHHI", 14 + len(information) + len(data), 0, 0, 14 + len(information)) + information + data


@pytest.mark.parametrize("header", [56, 108, 124])
@pytest.mark.parametrize("masks", [(0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF000000, 0xFF0000, 0xFF00, 0xFF)])
def test_alpha_of_bmp(masks, header):
  """Nobody paints an invisible picture: where all is transparent, the program left the fourth byte empty."""
  rgb = make_photograph()
  for value in (0, 1, 128, 255):
    alpha = np.full((HEIGHT, WIDTH), value, np.uint8)
    pixels = np.dstack([rgb[..., ::-1], alpha] if masks[3] > masks[0] else [alpha, rgb[..., ::-1]])
    expected = lay_over_white(rgb, alpha) if value else rgb
    assert np.abs(decode_image(encode_bmp(pixels, header, masks)) - expected).max() <= 1
    assert np.abs(convert_image(Image.open(io.BytesIO(encode_bmp(pixels, header, masks)))) - expected).max() <= 1


@pytest.mark.parametrize(("masks", "compression"), [((0x3FF00000, 0xFFC00, 0x3FF), 3), ((0xFF0000, 0xFF00, 0xFF), 6)])
def test_bmp_that_is_only_unsupported_is_not_called_damaged(masks, compression):
  data = encode_bmp(np.zeros((HEIGHT, WIDTH, 4), np.uint8), 108, masks, compression)
  assert reason_of(data).startswith("not supported: BMP ")


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


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the project's data pack (shared/data/images) is not here")
def test_photographs_of_the_data_pack():
  paths = sorted(PHOTOGRAPHS.iterdir())
  assert paths
  for path in paths:
    image = decode_image(path)
    assert image.shape == (*read_size(path), 3)
    assert image.std() > 5
