"""The whitening's arrays in a file beside the rows, named after the hash of its content: what is read is what was written."""

import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np

from cwf_jax.errors import InputError


def write_whitening(folder: Path, arrays: dict[str, np.ndarray]) -> str:
  """Writes `mean` [k] and `projection` [k d] before any version names them, and returns the file's name."""
  buffer = io.BytesIO()
  np.savez(buffer, mean=np.asarray(arrays["mean"]), projection=np.asarray(arrays["projection"]))
  name = _name_of(buffer.getvalue())
  temporary = folder / f"{name}.{os.getpid()}.tmp"
  temporary.write_bytes(buffer.getvalue())
  os.replace(temporary, folder / name)
  return name


def read_whitening(folder: Path, name: str) -> dict[str, np.ndarray]:
  """The arrays of a file.

  Raises:
    InputError: it is not there, or its content is not what its name says.
  """
  try:
    content = (folder / name).read_bytes()
  except OSError as error:
    raise InputError(f"its whitening {name} cannot be read ({error.strerror})") from None
  if name != _name_of(content):
    raise InputError(f"its whitening {name} is damaged: the content does not have the hash in its name")
  with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
    return {key: arrays[key] for key in ("mean", "projection")}


def remove_other_whitenings(folder: Path, name: str | None, grace: float) -> None:
  """Removes the files of other versions, and unfinished ones, that are older than `grace` seconds."""
  for path in folder.glob("whitening-*"):
    if path.name != name and time.time() - path.stat().st_mtime > grace:
      path.unlink()


def _name_of(content: bytes) -> str:
  return f"whitening-{hashlib.sha256(content).hexdigest()[:16]}.npz"
