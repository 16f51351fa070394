"""What stands in a PNG beside its pixels."""

import struct
import zlib

import numpy as np
import pytest

from cwf_jax.images.decoding import decode_image, read_size
from tests.images.samples import HEIGHT, WIDTH, encode, encode_png, exif_of, make_photograph, png_chunk, reason_of

RGB = make_photograph()
GRAY = RGB[..., 0]
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def encode_samples(samples, *chunks, depth=16):
  """A PNG of samples [h w c] of `depth` bits."""
  wide = samples.astype(">u2").view(np.uint8).reshape(*samples.shape[:2], -1, 2)
  bits = np.unpackbits(wide, axis=-1)[..., 16 - depth :].reshape(len(samples), -1)
  rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
  header = (samples.shape[1], samples.shape[0], depth, COLOR_TYPES[samples.shape[2]], 0, 0, 0)
  return encode_png(header, *chunks, (b"IDAT", zlib.compress(rows)))


def insert(*chunks):
  """The photograph with these chunks behind its header of 33 bytes."""
  data = encode(RGB, "PNG")
  return data[:33] + b"".join(chunks) + data[33:]


def spoil(chunk):
  return chunk[:-1] + bytes((chunk[-1] ^ 1,))


LONG = b'{"a":1}' * 220_000
AROUND = {
  "zTXt of 1.5 MB": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
  "iTXt of 1.5 MB": png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(LONG)),
  "iCCP of 1.5 MB": png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(LONG)),
  "tEXt of 1.5 MB": png_chunk(b"tEXt", b"prompt\0" + LONG),
  "unknown compression": png_chunk(b"zTXt", b"a\0\7abc") + png_chunk(b"iCCP", b"a\0\7abc"),
  "damaged XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0abc"),
  "damaged profile": png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nwxyz"),
  **{f"short {name}": png_chunk(name.encode(), b"12") for name in ("gAMA", "pHYs", "cHRM", "eXIf", "tIME", "acTL")},
  **{
    f"checksum of {name}": spoil(png_chunk(name.encode(), content))
    for name, content in (
      *(("tEXt", b"a\0abc"), ("zTXt", b"a\0\0abc"), ("iTXt", b"a\0\0\0\0\0abc"), ("iCCP", b"a\0\0abc"), ("pHYs", bytes(9))),
      *(("gAMA", bytes(4)), ("cHRM", bytes(32)), ("sRGB", b"\0"), ("tIME", bytes(7)), ("bKGD", bytes(6))),
      *(("eXIf", exif_of(6)), ("sBIT", b"\1\1\1")),
    )
  },
}


@pytest.mark.parametrize("name", AROUND)
def test_chunks_beside_the_pixels_do_not_matter(name, capfd):
  data = insert(AROUND[name])
  np.testing.assert_array_equal(decode_image(data), RGB)
  assert read_size(data) == (HEIGHT, WIDTH)
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["IHDR", "PLTE", "tRNS", "IDAT"])
def test_checksums_of_the_pixels_must_be_right(name):
  data = bytearray(insert(png_chunk(b"PLTE", bytes(6)), png_chunk(b"tRNS", bytes(6))))
  place = data.index(name.encode())
  data[place + 4 + int.from_bytes(data[place - 4 : place], "big")] ^= 1
  assert name in reason_of(bytes(data))


def test_a_png_of_apple_s_own_kind():
  data = encode(RGB, "PNG")
  assert reason_of(data[:8] + png_chunk(b"CgBI", b"1234") + data[8:]) == "not supported: PNG that begins with the chunk CgBI"


def test_a_missing_end_is_read_and_missing_pixels_are_not():
  data = encode(RGB, "PNG")
  for cut in range(len(data) - 12, len(data)):
    np.testing.assert_array_equal(decode_image(data[:cut]), RGB)
  for cut in range(len(data) - 40, len(data) - 12):
    assert "truncated" in reason_of(data[:cut])


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_gray_of_any_depth(depth):
  values = (np.arange(HEIGHT * WIDTH) % min(2**depth, 1000)).reshape(HEIGHT, WIDTH, 1).astype(np.uint16)
  found = decode_image(encode_samples(values, (b"tRNS", struct.pack(">H", 1)), depth=depth))
  scaled = values >> 8 if depth == 16 else values * (255 // (2**depth - 1))
  expected = np.where(values == 1, 255, scaled)
  np.testing.assert_array_equal(found, np.repeat(expected, 3, 2))


def test_a_transparent_color_of_16_bits_is_compared_in_all_of_them():
  values = np.repeat(RGB[..., :1].astype(np.uint16), 3, 2) << 8
  values[3, 4] |= 7
  found = decode_image(encode_samples(values, (b"tRNS", struct.pack(">HHH", *values[3, 4].tolist()))))
  expected = (values >> 8).astype(np.uint8)
  expected[3, 4] = 255
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_fewer_bits_in_16(bits, channels):
  """At the lower end, as some programs write them, and at the upper, as the standard has it."""
  colors = (RGB if channels > 2 else RGB[..., :1]).astype(np.uint16)
  fine = np.random.default_rng(3).integers(0, 2**bits >> 8, colors.shape)
  low = colors << bits - 8 | fine.astype(np.uint16)
  alpha = [np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)] if channels in (2, 4) else []
  chunk = (b"sBIT", bytes([bits] * colors.shape[2] + [16] * len(alpha)))
  expected = RGB if channels > 2 else np.repeat(RGB[..., :1], 3, 2)
  for stored in (low, low << 16 - bits, low << 16 - bits | low >> 2 * bits - 16):
    np.testing.assert_array_equal(decode_image(encode_samples(np.dstack([stored, *alpha]), chunk)), expected)
  np.testing.assert_array_equal(decode_image(encode_samples(np.dstack([low << 16 - bits, *alpha]))), expected)


def test_the_orientation_in_a_raw_profile():
  """As ImageMagick wrote it before there was eXIf."""
  exif = exif_of(6)
  profile = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
  for chunk in (png_chunk(b"tEXt", b"Raw profile type exif\0" + profile),
                png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))):  # fmt: skip
    np.testing.assert_array_equal(decode_image(insert(chunk)), np.rot90(RGB, -1))
    assert read_size(insert(chunk)) == (WIDTH, HEIGHT)
