"""JPEGs that end without their end marker: whole ones are read, truncated ones are not."""

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

_END = b"\xff\xd9"


def decode_without_end(data: bytes) -> Image.Image | None:
  """The decoded image of a JPEG that holds all its pixels but no end marker; None where pixels are missing.

  libjpeg makes up what is missing, and does not say so. It takes nothing from behind a whole scan, though. So all
  coefficients have to be in the file to their last bit, and the same pixels have to come out whatever follows it: the file
  is decoded with 33 ends, for every start of five bits, which takes half a second for 12 megapixels.
  """
  if not _has_all_scans(data):
    return None
  data = data.rstrip(b"\xff")  # half an end marker, or half of what is missing
  # A decoder that lacks bits takes those of the tail; one that lacks whole restart intervals looks for the next marker.
  restarts = re.findall(rb"\xff([\xd0-\xd7])", data[data.rfind(b"\xff\xda") :])
  first = restarts[-1][0] + 1 if restarts else 0xD0
  markers = [bytes((0xFF, 0xD0 + (first + step) % 8)) for step in range(16)]
  fills = [_make_fill(first_bits) for first_bits in range(32)]
  decoded = None
  for tail in (b"", *(fill + b"".join(marker + fill for marker in markers) for fill in fills)):
    try:
      image = Image.open(io.BytesIO(data + tail + _END), formats=("JPEG",))
      pixels = np.asarray(image)
    except OSError:  # the tail was taken for coefficients
      return None
    if decoded is None:
      decoded, expected = image, pixels
    elif not np.array_equal(pixels, expected):
      return None
  return decoded


def is_unsupported(data: bytes) -> bool:
  """Whether a JPEG is lossless or hierarchical, which libjpeg does not read."""
  return any(marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF) for marker, _ in _segments(data))


def _make_fill(first_bits: int) -> bytes:
  """Noise that begins with these five bits and holds no marker. Common codes are short: some fill has a wrong one."""
  noise = np.random.default_rng(first_bits).integers(0, 255, 1000, np.uint8)
  return bytes((first_bits << 3 | 5,)) + noise.tobytes()


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
  """The (second byte of the marker, content) of the segments of a JPEG, as far as they are whole."""
  offset = 2
  while (at := re.compile(rb"\xff[\x01-\xcf\xda-\xfe]").search(data, offset)) is not None:
    length = int.from_bytes(data[at.end() : at.end() + 2], "big")
    offset = at.end() + length
    if length < 2 or offset > len(data):
      return
    yield at[0][1], data[at.end() + 2 : offset]


def _has_all_scans(data: bytes) -> bool:
  """Whether the headers of the scans cover every coefficient of every component to its last bit."""
  missing = None
  for marker, content in _segments(data):
    if marker in (0xC0, 0xC1, 0xC2):
      missing = {(component, k) for component in content[6::3] for k in range(64)}
    elif marker == 0xDA and missing is not None and len(content) >= 4:
      first, last, bits = content[-3:]
      if bits & 15 == 0:
        missing -= {(component, k) for component in content[1:-3:2] for k in range(first, last + 1)}
  return missing is not None and not missing
