"""Truncated, altered and random bytes: a reason or the pixels, never anything else."""

import struct
import zlib

import numpy as np
import pytest

from cwf_jax.images.decoding import UnreadableImageError, decode_image, read_size
from tests.images.samples import (
  HEIGHT,
  WIDTH,
  assert_refused_or,
  damageable,
  encode,
  encode_heic,
  encode_png,
  encode_tiff,
  make_photograph,
  reason_of,
)


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
  deep = make_photograph().astype(np.uint16) << 8
  files += [encode_tiff(deep, 2, 2, deflate=True), encode_tiff(deep, 2, bits=12), encode(make_photograph()[..., 0], "PNG")]
  assert 0 < fuzz(files, 5000, seed=1) < 5000
