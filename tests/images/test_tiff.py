"""TIFFs of more than 8 bits against NumPy."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from cwf_jax.images.decoding import UnreadableImageError, convert_image, decode_image, read_size
from tests.images.samples import assert_refused_or, encode, encode_tiff, make_photograph, reason_of

RGB = make_photograph()
GRAY = RGB[..., 0]
NOISE = np.random.default_rng(0).integers(0, 256, RGB.shape).astype(np.uint16)
RGB16 = RGB.astype(np.uint16) << 8 | NOISE
CMYK16 = np.dstack([65535 - RGB16, np.zeros_like(RGB16[..., 0])])
"""Without black: each color is what its ink leaves."""


def gray3(gray):
  return np.repeat(gray[..., None], 3, 2)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
  ("values", "photometric", "expected"),
  [(65535 - RGB16[..., 0], 0, gray3(GRAY)), (RGB16[..., 0], 1, gray3(GRAY)), (RGB16, 2, RGB), (CMYK16, 5, RGB)],
)
def test_16_bits_of_any_color_and_layout(values, photometric, expected, deflate, order):
  values = values.astype(f"{order}u2")
  for planar in (1, 2):
    np.testing.assert_array_equal(decode_image(encode_tiff(values, photometric, planar, deflate=deflate)), expected)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_packed_bits(bits, deflate, dtype):
  values = (RGB16 >> 16 - bits).astype(dtype)
  np.testing.assert_array_equal(decode_image(encode_tiff(values, 2, bits=bits, deflate=deflate)), RGB)
  np.testing.assert_array_equal(decode_image(encode_tiff(values, 2, planar=2, bits=bits)), RGB)
  inverted = (2**bits - 1 - values[..., 0]).astype(dtype)
  np.testing.assert_array_equal(decode_image(encode_tiff(inverted, 0, bits=bits)), gray3(GRAY))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_floats_from_0_to_1(dtype):
  for values, photometric, expected in ((RGB, 2, RGB), (255 - GRAY, 0, gray3(GRAY))):
    for planar in (1, 2):
      data = encode_tiff((values / 255).astype(dtype), photometric, planar)
      np.testing.assert_array_equal(decode_image(data), expected)
  overshot = np.linspace(-0.02, 1.02, GRAY.size).reshape(GRAY.shape)  # what resampling leaves
  expected = np.round(255 * np.clip(overshot.astype(dtype), 0, 1)).astype(np.uint8)
  np.testing.assert_array_equal(decode_image(encode_tiff(overshot.astype(dtype))), gray3(expected))


@pytest.mark.parametrize("dtype", ["<u4", ">u4", "<i4", ">i2", "<i2", "i1"])
def test_integers_without_a_range(dtype):
  """As they are, as 16 bits, or stretched, as far as their type allows."""
  low = np.clip(GRAY.astype(np.int64), 0, np.iinfo(dtype).max)
  np.testing.assert_array_equal(decode_image(encode_tiff(low.astype(dtype))), gray3(low))
  if np.dtype(dtype).itemsize == 4:
    np.testing.assert_array_equal(decode_image(encode_tiff(RGB16.astype(dtype), 2)), RGB)
  limits = np.iinfo(dtype)
  steps = np.linspace(limits.min, limits.max, 56).round().astype(np.int64)
  stretched = np.tile(np.round((steps - limits.min) * (255 / (limits.max - limits.min))).astype(np.uint8), (40, 1))
  data = encode_tiff(np.tile(steps, (40, 1)).astype(dtype))
  if limits.max > 65535 or limits.min < 0:
    np.testing.assert_array_equal(decode_image(data), gray3(stretched))
  np.testing.assert_array_equal(decode_image(encode_tiff(np.tile(steps, (40, 1)).astype(dtype), 0)), 255 - decode_image(data))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_alpha_lies_over_white(photometric, dtype):
  colors = RGB if photometric == 2 else GRAY[..., None]
  stored = 255 - colors if photometric == 0 else colors
  alpha = np.tile(np.arange(0, 224, 4), (40, 1))[..., None]
  expected = colors * (alpha / 255) + 255 - alpha

  def encode_extra(colors, extra):
    values = np.dstack([colors, alpha])
    values = (values.astype(int) * 257 if dtype == np.uint16 else values / 255).astype(dtype)
    return encode_tiff(values, photometric, more_tags=extra)

  # The alpha of Pillow's compositing is exact; dividing by it and multiplying again rounds twice.
  assert np.abs(decode_image(encode_extra(stored, {338: [2]})) - expected).max() <= 1
  assert (decode_image(encode_extra(stored, {338: [0]})) == colors).all()
  premultiplied = encode_extra(stored * alpha // 255, {338: [1]})
  if photometric == 0:
    assert reason_of(premultiplied).startswith("not supported: TIFF of L with alpha")
  else:
    shown = alpha[..., 0] >= 128  # where it is more opaque than not; 8 bits of dark colors say little
    assert np.abs(decode_image(premultiplied) - expected)[shown].max() <= 2
  if photometric == 2:
    assert np.abs(decode_image(encode_extra(stored, {})) - expected).max() <= 1


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "lzma"])
def test_compressed_strips_and_tiles(compression):
  for settings in ({"rowsperstrip": 7}, {"tile": (16, 32)}, {"rowsperstrip": 9, "planarconfig": "separate"}):
    values = RGB16.transpose(2, 0, 1) if "planarconfig" in settings else RGB16
    for predictor in (False,) if compression == "packbits" else (False, True):
      file = io.BytesIO()
      tifffile.imwrite(file, values, photometric="rgb", compression=compression, predictor=predictor, **settings)
      np.testing.assert_array_equal(decode_image(file.getvalue()), RGB)
      for cut in range(8, len(file.getvalue()), 1001):
        assert not assert_refused_or(file.getvalue()[:cut], RGB)


@pytest.mark.parametrize("planar", [1, 2])
def test_truncated_and_missing_strips_are_refused(planar):
  data = encode_tiff(RGB16, 2, planar)
  for cut in (*range(8, 1100, 97), *range(1100, len(data), 487), len(data) - 1):
    assert not assert_refused_or(data[:cut], RGB)
  assert reason_of(data[: len(data) // 2]) == "truncated"
  empty = {279: [0]} if planar == 1 else {279: [GRAY.size * 2, 0, GRAY.size * 2]}
  reason_of(encode_tiff(RGB16, 2, planar, more_tags=empty))
  reason_of(encode_tiff(RGB16, 2, planar, deflate=True, more_tags=empty))
  if planar == 1:
    assert reason_of(encode_tiff(RGB16, 2, more_tags={279: [RGB16.nbytes - 6]})) == "truncated"


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (encode_tiff(RGB16[..., 0], 3), "photometric interpretation 3"),
    (encode_tiff(RGB16, 8), "photometric interpretation 8"),
    (encode_tiff(np.dstack([RGB16, RGB16[..., :2]]), 2), "RGB in 5 samples"),
    (encode_tiff(RGB16[..., :2], 1), "L in 2 samples"),
    (encode_tiff(RGB16, 2, more_tags={258: [16, 12, 16]}), "several sizes"),
    (encode_tiff(RGB16, 2, more_tags={339: [1, 2, 1]}), "several types"),
    (encode_tiff(RGB16, 2, more_tags={259: [65535]}), "65535"),
    (encode_tiff(np.dstack([RGB, RGB[..., :2]]), 2), "unknown pixel mode"),
  ],
)
def test_what_is_only_unsupported_is_not_called_damaged(data, words):
  reason = reason_of(data)
  assert reason.startswith("not supported: ")
  assert words in reason


def test_orientation():
  data = encode_tiff(np.rot90(RGB16), 2, more_tags={274: [6]})
  assert read_size(data) == RGB.shape[:2]
  np.testing.assert_array_equal(decode_image(data), RGB)


def test_an_image_that_pillow_opened_is_refused_rather_than_misread():
  with pytest.raises(UnreadableImageError, match="give the path or the bytes"):
    convert_image(Image.open(io.BytesIO(encode_tiff(65535 - RGB16[..., 0], 0))))
  np.testing.assert_array_equal(convert_image(Image.open(io.BytesIO(encode(RGB, "TIFF")))), RGB)
