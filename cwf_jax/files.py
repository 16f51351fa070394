"""Atomic file writes, write locks of folders, and the folder for downloads and compiled programs."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock


def write_whole(target: Path, content: bytes | memoryview) -> None:
  """Writes a file in one step: whatever happens, what was there before or the new content is there, never a part of it."""
  temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")  # no longer than any name that a folder takes
  try:
    with open(temporary, "xb") as file:
      file.write(content)
    os.replace(temporary, target)
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def holding(folder: Path, taken: Exception) -> Iterator[None]:
  """Holds the right to write to a folder, which is made if it is not there.

  The lock goes with its process, however that ends.

  Raises:
    Exception: `taken`, where another process holds it.
    OSError: the folder cannot be made.
  """
  lock = filelock.FileLock(folder / ".lock", timeout=0)
  folder.mkdir(parents=True, exist_ok=True)
  try:
    lock.acquire()
  except filelock.Timeout:
    raise taken from None
  try:
    yield
  finally:
    lock.release()


def write_if_changed(target: Path, content: bytes) -> None:
  """As `write_whole`; a file that holds these bytes already is left alone."""
  try:
    if target.read_bytes() == content:
      return
  except FileNotFoundError:
    pass
  write_whole(target, content)


def home_folder() -> Path:
  """`$CWF_JAX_HOME`, by default the user's cache folder, for fetched weights and compiled programs; it need not exist yet."""
  cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cwf_jax"
  return Path(os.environ.get("CWF_JAX_HOME") or cache).expanduser()
