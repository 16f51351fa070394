"""Files that are there whole or not at all."""

import os
import uuid
from pathlib import Path


def write_whole(target: Path, content: bytes | memoryview) -> None:
  """Writes a file in one step: whatever happens, what was there before or the new content is there, never a part of it."""
  temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")  # no longer than any name that a folder takes
  try:
    with open(temporary, "xb") as file:
      file.write(content)
    os.replace(temporary, target)
  finally:
    temporary.unlink(missing_ok=True)


def write_if_changed(target: Path, content: bytes) -> None:
  """As `write_whole`; a file that holds these bytes already is left alone."""
  try:
    if target.read_bytes() == content:
      return
  except FileNotFoundError:
    pass
  write_whole(target, content)
