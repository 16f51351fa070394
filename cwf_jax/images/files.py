"""Regular files as bytes, and why a file is refused, in a few words on one line."""

import contextlib
import math
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from cwf_jax.errors import InputError, printable

MAX_PIXELS = 178_000_000
"""The most pixels of an image, just under the number at which Pillow refuses a decompression bomb. Decoding so many
takes about 2 GB."""

MAX_BYTES = 2**30
"""The largest file that is read."""


class UnreadableImageError(InputError):
  """A file that holds no image that can be read.

  Attributes:
    path: of the file, as it was given; `"<bytes>"` for contents without a path.
    reason: a few words on one line, without the path.
  """

  def __init__(self, path: str, reason: str):
    super().__init__(path, reason)
    self.path, self.reason = path, reason

  def __str__(self) -> str:
    """The path and the reason on one line, whatever characters the path holds."""
    return f"{printable(self.path)}: {self.reason}"


class RefusalError(Exception):
  """Carries the reason of an `UnreadableImageError` up to where the path is known."""


def read_file(path: str | os.PathLike) -> bytes:
  """The contents of a regular file of at most `MAX_BYTES`: what is hashed is what is decoded.

  Raises:
    UnreadableImageError: there is no such file, it may not be read, is too large, or is no regular file; a pipe or a
      device is refused without being opened.
  """
  with open_file(path) as file:
    return file.read(os.fstat(file.fileno()).st_size)


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a regular file. A pipe would block and a tape would rewind: they are refused by their status.

  Raises:
    UnreadableImageError: there is no such file, it is no regular one, or is larger than `MAX_BYTES`; reading it fails.
  """
  try:
    _check_status(os.stat(path))
    # Not to block all the same, should a pipe have taken the file's place in between.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
      _check_status(os.fstat(file.fileno()))
      yield file
  except UnreadableImageError:
    raise
  except ValueError as error:
    raise UnreadableImageError(os.fsdecode(path), "the path holds a zero byte") from error
  except (OSError, RefusalError) as error:
    raise UnreadableImageError(os.fsdecode(path), describe(error)) from error


def _check_status(status: os.stat_result) -> None:
  if not stat.S_ISREG(status.st_mode):
    raise RefusalError("a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file")
  if status.st_size > MAX_BYTES:
    raise RefusalError(f"{status.st_size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB")


def too_many_pixels(pixels: int) -> str:
  """The reason why an image of so many pixels is refused."""
  return f"{math.ceil(pixels / 1e6)} million pixels, the limit is {MAX_PIXELS // 10**6} million"


def describe(error: Exception) -> str:
  """A few words for whatever reading or Pillow raised."""
  message = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
  match error:
    case RefusalError():
      return message
    case FileNotFoundError():
      return "no such file"
    case OSError(strerror=str(words)):
      return words.lower()
    case Image.DecompressionBombError():
      pixels = re.search(r"\((\d+) pixels\)", message)
      return too_many_pixels(int(pixels[1])) if pixels else "too many pixels"
    case MemoryError():
      return "not enough memory to decode it"
  if _TRUNCATED.search(message):
    return "truncated"
  if _UNSUPPORTED.search(message) and not isinstance(error, TypeError):
    return f"not supported: {re.sub('^unsupported ', '', message, flags=re.IGNORECASE)[:80]}"
  return f"damaged or truncated ({message[:80] or type(error).__name__})"


_TRUNCATED = re.compile("truncated|not enough image data|unexpected end|buffer is not large enough", re.IGNORECASE)
_UNSUPPORTED = re.compile(
  "unsupported|not supported|unknown pixel mode|cannot handle|requires the|not installed|not a known", re.IGNORECASE
)
"""How the libraries put it."""
