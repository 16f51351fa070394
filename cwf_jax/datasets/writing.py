"""Files that are made anew only where they would change, and whole or not at all."""

import os
from pathlib import Path


def write_if_changed(target: Path, content: bytes) -> None:
  """Writes a file in one step, and leaves one alone that holds these bytes already."""
  try:
    if target.read_bytes() == content:
      return
  except FileNotFoundError:
    pass
  temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
  try:
    temporary.write_bytes(content)
    os.replace(temporary, target)
  finally:
    temporary.unlink(missing_ok=True)
