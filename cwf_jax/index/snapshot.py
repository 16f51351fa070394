"""The descriptors of one version as memory-mapped arrays, in the order of the ids.

The order depends on the ids alone, so that equal scores are ranked alike whatever the index went through. A snapshot is
written into a folder of its own that is renamed when it is whole; its name holds the version's number and the hash of the
files that the version's rows lie in, so that it is never taken for the snapshot of other rows.
"""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

_WRITING = ".writing-"


class Snapshot(NamedTuple):
  """What a search needs in memory.

  Attributes:
    descriptors: [n d] float32, unit rows, memory-mapped.
    rows: [n] int64, the position of each in the stored order.
  """

  descriptors: np.ndarray
  rows: np.ndarray


def path_of(folder: Path, name: str) -> Path:
  """Where the snapshot of a version, which `name` names, lies in an index's folder."""
  return folder / "snapshots" / name


def load(target: Path, shape: tuple[int, int]) -> Snapshot | None:
  """Maps a snapshot of [n d] descriptors; None where there is none, or one that was cut off."""
  try:
    rows = np.load(target / "rows.npy")
    # An empty file cannot be mapped.
    descriptors = np.load(target / "descriptors.npy", mmap_mode="r" if shape[0] else None)
  except (OSError, ValueError, EOFError):
    return None
  whole = rows.shape == shape[:1] and descriptors.shape == shape and descriptors.dtype == np.float32
  return Snapshot(descriptors, rows) if whole else None


def write(target: Path, rows: np.ndarray, blocks: Iterable[np.ndarray], dimensions: int) -> None:
  """Writes a snapshot; another process that writes the same one at the same time does no harm.

  Args:
    target: its folder.
    rows: of the snapshot.
    blocks: its descriptors, one block after the other.
    dimensions: of the descriptors.

  Raises:
    OSError: there is no room for it, or it may not be written.
  """
  # Not `mkdtemp`: its folders are for one user alone, and an index may have many readers.
  temporary = target.parent / f"{_WRITING}{uuid.uuid4().hex}"
  try:
    target.parent.mkdir(exist_ok=True)
    temporary.mkdir()
    _write_array(temporary / "rows.npy", [rows], rows.shape, "<i8")
    _write_array(temporary / "descriptors.npy", blocks, (len(rows), dimensions), "<f4")
    try:
      os.rename(temporary, target)
    except OSError:
      if load(target, (len(rows), dimensions)) is None:  # else another process was quicker
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)
  except OSError as error:
    raise OSError(f"the snapshot {target} cannot be written: {error.strerror or error}") from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _write_array(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: str) -> None:
  """Block by block, and not through a map of the file: on a full disk that would end the process by a signal."""
  with open(path, "wb") as file:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    for block in blocks:
      file.write(np.ascontiguousarray(block, dtype).data)


def make_temporary() -> Path:
  """A folder that goes with the process, for the snapshot of an index that cannot be written."""
  folder = tempfile.TemporaryDirectory(prefix="cwf_jax-snapshot-", ignore_cleanup_errors=True)
  _kept.append(folder)
  return Path(folder.name) / "snapshot"


_kept: list[tempfile.TemporaryDirectory] = []


def remove_others(folder: Path, name: str, grace: float) -> None:
  """Removes the snapshots of other versions, and unfinished ones that are older than `grace` seconds.

  Whoever has one open keeps it until it is closed.
  """
  parent = folder / "snapshots"
  for path in parent.iterdir() if parent.is_dir() else ():
    if path.name.startswith(_WRITING):
      try:
        is_old = time.time() - path.stat().st_mtime > grace
      except OSError:  # it was finished a moment ago
        continue
    else:
      is_old = path.name != name
    if is_old:
      shutil.rmtree(path, ignore_errors=True)
