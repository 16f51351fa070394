"""An index's descriptors as one file for other programs: ids, paths and float32 vectors, in the order of the ids.

    export_index(open_index("my.index"), "my.npz")

What a file holds depends on nothing but the rows: two indexes of the same photographs export the same bytes.
"""

import os
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwf_jax.errors import InputError, printable, renamed
from cwf_jax.index.store import Index

FORMATS = ("npz", "parquet")
"""What `export_index` writes."""

_ROWS = 65_536
"""Rows that are written at a time."""


def export_index(
  index: Index,
  output: str | os.PathLike,
  format: str | None = None,
  progress: Callable[[int, int], Any] | None = None,
) -> None:
  """Writes `ids` and `paths` (text) and `descriptors` [n d] (float32, unit rows) in one step: never half a file.

  Args:
    index: an open one.
    output: the file; one that is there is replaced.
    format: "npz", which `numpy.load` reads, or "parquet"; the file ends in it.
    progress: called with (rows done, rows in all).

  Raises:
    InputError: the file ends in neither, or in another than the format; a folder is there, or none to write to.
    OSError: the file cannot be written.
  """
  target = Path(output)
  ending = target.suffix.lower().removeprefix(".")
  if ending not in FORMATS or format not in (None, ending):
    wanted = f".{format}" if format in FORMATS else " or ".join(f".{name}" for name in FORMATS)
    raise InputError(f"the file of an export ends in {wanted}; found {printable(target)}")
  if target.is_dir():
    raise InputError(f"{printable(target)} is a folder, not a file")
  if not target.parent.is_dir():
    raise InputError(f"there is no folder {printable(target.parent)} to write {printable(target.name)} to")
  temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
  try:
    (_write_npz if ending == "npz" else _write_parquet)(index, temporary, progress or (lambda done, total: None))
    os.replace(temporary, target)
  except OSError as error:
    raise renamed(error, f"{printable(target)} cannot be written") from error
  finally:
    temporary.unlink(missing_ok=True)


def _write_parquet(index: Index, path: Path, progress: Callable[[int, int], Any]) -> None:
  descriptors, rows = index.snapshot.descriptors, index.snapshot.rows
  vector = pa.list_(pa.float32(), descriptors.shape[1])
  schema = pa.schema([("id", pa.string()), ("path", pa.string()), ("descriptor", vector)])
  with pq.ParquetWriter(path, schema) as writer:
    for start in range(0, len(rows), _ROWS):
      files = index.take(rows[start : start + _ROWS], ["id", "path"])
      part = np.ascontiguousarray(descriptors[start : start + _ROWS]).reshape(-1)
      vectors = pa.FixedSizeListArray.from_arrays(pa.array(part), type=vector)
      columns = [files["id"].combine_chunks(), files["path"].combine_chunks(), vectors]
      writer.write_table(pa.table(columns, schema=schema))
      progress(min(start + _ROWS, len(rows)), len(rows))


def _write_npz(index: Index, path: Path, progress: Callable[[int, int], Any]) -> None:
  """As `numpy.savez` writes it, but the descriptors are never in memory as a whole."""
  descriptors, rows = index.snapshot.descriptors, index.snapshot.rows
  files = index.take(rows, ["id", "path"])
  with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
    for name, column in (("ids", "id"), ("paths", "path")):
      with _member(archive, name) as member:
        np.lib.format.write_array(member, np.asarray(files[column].to_pylist(), np.str_), allow_pickle=False)
    with _member(archive, "descriptors") as member:
      header = {"descr": "<f4", "fortran_order": False, "shape": descriptors.shape}
      np.lib.format.write_array_header_1_0(member, header)
      for start in range(0, len(rows), _ROWS):
        member.write(np.ascontiguousarray(descriptors[start : start + _ROWS], "<f4").data)
        progress(min(start + _ROWS, len(rows)), len(rows))


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
  """Opens an array of the archive for writing; its date is fixed, so that equal rows make equal files."""
  return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
