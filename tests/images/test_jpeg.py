"""JPEGs without their end marker."""

import numpy as np
import pytest
from PIL import Image

from cwf_jax.images.decoding import decode_image
from tests.images.samples import assert_refused_or, encode, make_photograph, reason_of

TWO_TONES = np.full((40, 56, 3), 200, np.uint8)
TWO_TONES[32:, 48:] = 30
"""Nothing but its last block differs, and the codes are short: what is made up is easily what it should be."""


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restarts", ["none", "restart_marker_blocks", "restart_marker_rows"])
@pytest.mark.parametrize(
  ("picture", "mode"), [("photograph", "RGB"), ("photograph", "CMYK"), ("two tones", "RGB"), ("black", "L")]
)
def test_only_a_missing_end_is_read(picture, mode, restarts, progressive):
  """Wherever it is cut: around its markers, at every byte of its last 20, and in between.

  Where it is read, every pixel is right: bits may be missing that no pixel needs.
  """
  pixels = {"photograph": make_photograph(37, 51), "two tones": TWO_TONES, "black": 0 * TWO_TONES}[picture]
  image = Image.fromarray(pixels).convert(mode)
  data = encode(
    image, "JPEG", quality=90, optimize=True, progressive=progressive, **({} if restarts == "none" else {restarts: 1})
  )
  expected = decode_image(data)
  length = len(data)
  markers = [place for place in range(length - 1) if data[place] == 0xFF and data[place + 1]]
  markers = [place for place in markers[:-5] if not 0xD0 <= data[place + 1] < 0xD8] + markers[-5:]
  cuts = {*range(3, length, length // 20), *range(length - 20, length)}
  cuts |= {place + step for place in markers for step in range(3)}
  whole = {cut for cut in cuts if cut < length and assert_refused_or(data[:cut], expected)}
  assert {length - 2, length - 1} <= whole
  if (picture, mode) == ("photograph", "RGB"):
    assert whole <= {*range(length - 4, length)}
    assert reason_of(data[: length // 2]) == "truncated"


def test_missing_scans_are_truncated():
  """The first scans of a progressive JPEG show everything, only coarsely."""
  data = encode(make_photograph(), "JPEG", progressive=True)
  scans = [place for place in range(len(data) - 1) if data[place : place + 2] in (b"\xff\xda", b"\xff\xc4")]
  for place in scans[2:]:
    assert "truncated" in reason_of(data[:place])


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC7, 0xCB, 0xCF])
def test_lossless_and_hierarchical_ones_are_not_called_damaged(kind):
  data = encode(make_photograph(), "JPEG").replace(b"\xff\xc0", bytes((0xFF, kind)), 1)
  assert reason_of(data) == "not supported: JPEG of the lossless or hierarchical kind"


def test_12_bits_are_not_called_damaged():
  data = encode(make_photograph(), "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1)
  assert reason_of(data) == "not supported: cannot handle 12-bit layers"
