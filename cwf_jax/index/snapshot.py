"""The descriptors of one version as memory-mapped arrays, in the order of the ids.

The order depends on the ids alone, so that equal scores are ranked alike whatever the index went through. A snapshot is
written into a temporary folder that is renamed when it is whole; its name is the version's.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cwf_jax.index.schema import to_array


class Snapshot(NamedTuple):
  """What a search needs in memory.

  Attributes:
    descriptors: [n d] float32, unit rows, memory-mapped.
    rows: [n] int64, the position of each in the stored order.
  """

  descriptors: np.ndarray
  rows: np.ndarray


def open_snapshot(folder: Path, version: int, data: lance.LanceDataset, dimensions: int) -> Snapshot:
  """Maps the snapshot of a version, after writing it if it is not there yet.

  An index that cannot be written gets its snapshot in a temporary folder that goes with the process.
  """
  target = folder / "snapshots" / f"v{version}"
  if not target.is_dir():
    try:
      target.parent.mkdir(exist_ok=True)
      _write(target, data, dimensions)
    except PermissionError:
      return _load(_write_elsewhere(data, dimensions))
    except OSError as error:
      if "Read-only" not in str(error):
        raise
      return _load(_write_elsewhere(data, dimensions))
  return _load(target)


def remove_others(folder: Path, version: int) -> None:
  """Removes the snapshots of other versions; whoever has one open keeps it until it is closed."""
  parent = folder / "snapshots"
  for path in parent.iterdir() if parent.is_dir() else ():
    if path.name != f"v{version}":
      shutil.rmtree(path, ignore_errors=True)


def _load(target: Path) -> Snapshot:
  rows = np.load(target / "rows.npy")
  descriptors = np.load(target / "descriptors.npy", mmap_mode="r" if len(rows) else None)
  return Snapshot(descriptors, rows)


def _write(target: Path, data: lance.LanceDataset, dimensions: int) -> None:
  temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
  try:
    _fill(temporary, data, dimensions)
    with contextlib.suppress(FileExistsError, OSError):
      os.rename(temporary, target)
  finally:
    if target.is_dir():
      shutil.rmtree(temporary, ignore_errors=True)


def _write_elsewhere(data: lance.LanceDataset, dimensions: int) -> Path:
  folder = tempfile.TemporaryDirectory(prefix="cwf_jax-snapshot-")
  _kept.append(folder)
  _fill(Path(folder.name), data, dimensions)
  return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory] = []


def _fill(folder: Path, data: lance.LanceDataset, dimensions: int) -> None:
  ids = data.to_table(columns=["id"])["id"]
  rows = pc.sort_indices(pa.table({"id": ids}), sort_keys=[("id", "ascending")]).to_numpy().astype(np.int64)
  places = np.empty_like(rows)
  places[rows] = np.arange(len(rows))
  np.save(folder / "rows.npy", rows)
  if not len(rows):
    np.save(folder / "descriptors.npy", np.zeros((0, dimensions), np.float32))
    return
  written = np.lib.format.open_memmap(
    folder / "descriptors.npy", mode="w+", dtype=np.float32, shape=(len(rows), dimensions)
  )
  start = 0
  for batch in data.to_batches(columns=["descriptor"], batch_size=8192):
    block = to_array(batch["descriptor"])
    written[places[start : start + len(block)]] = block
    start += len(block)
  written.flush()
