"""Pipes, names, limits and links; threads and warnings."""

import concurrent.futures
import os
import pickle
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cwf_jax import errors
from cwf_jax.images import decoding, files
from cwf_jax.images.decoding import UnreadableImageError, decode_image, read_file, read_size
from tests.images.samples import (
  damageable,
  encode,
  encode_png,
  make_photograph,
  reason_of,
)


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
  """Between Pillow's warning and its error."""
  data = encode_png((9500, 9500, 1, 0, 0, 0, 0), (b"IDAT", zlib.compress(bytes(100))))
  assert read_size(data) == (9500, 9500)
  assert reason_of(data) == "truncated"


def test_large_files_are_refused(tmp_path, monkeypatch):
  path = tmp_path / "large.png"
  path.write_bytes(encode(make_photograph(), "PNG"))
  monkeypatch.setattr(files, "MAX_BYTES", 1000)
  assert reason_of(path) == "0 MB, the limit is 0 MB"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_eight_threads_at_once(capfd):
  """Files of all formats, some of which make Pillow warn."""
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


def test_warnings_of_pillow_are_the_callers_to_filter():
  data = encode(make_photograph(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
  with pytest.warns(UserWarning, match="Corrupt EXIF data"):
    image = decode_image(data)
  assert image.shape == make_photograph().shape
  with warnings.catch_warnings(action="error"):
    assert "Corrupt EXIF data" in reason_of(data)


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("plain name's \"é\" ☃ \\ $x$.jpg", "plain name's \"é\" ☃ \\ $x$.jpg"),
    ("two\nlines\t\r\0.jpg", "two\\nlines\\t\\r\\x00.jpg"),
    ("\x1b[31m\x7f\x85", "\\x1b[31m\\x7f\\x85"),
    ("\u2028\u200b\U000e0001", "\\u2028\\u200b\\U000e0001"),
    ("caf\udce9", "caf\\udce9"),
    (Path("a\nb") / "c", "a\\nb/c"),
    ("", ""),
  ],
)
def test_names_in_messages_are_on_one_line(name, shown):
  assert errors.printable(name) == shown
  assert shown.isprintable()
  shown.encode()


def test_reasons_of_errors():
  assert errors.reason_of(FileNotFoundError(2, "No such file or directory", "/a")) == "No such file or directory"
  assert errors.reason_of(OSError("some text")) == "some text"
  assert errors.reason_of(ValueError("embedded null byte")) == "embedded null byte"
