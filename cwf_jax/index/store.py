"""The index on disk: a Lance data set of the images, versioned, with atomic commits, and the whitening's arrays beside it.

    INDEX/images.lance           one row an image; the settings are the schema's metadata
    INDEX/whitening-HASH.npz     mean and projection
    INDEX/snapshots/v42-HASH/    descriptors of version 42 in the order of the ids, memory-mapped by searches
    INDEX/.lock                  held by the one run that writes

A reader sees whole versions only: rows, settings and the name of the whitening's file change in one commit.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cwf_jax.errors import InputError, printable
from cwf_jax.index import arrays, rewriting, schema, snapshot
from cwf_jax.index.folder import (
  DATA,
  IndexFolderError,
  check_name,
  check_place,
  is_index,
  reading_from,
  writing,
  writing_to,
)
from cwf_jax.index.schema import IndexSettings

__all__ = ["Index", "IndexFolderError", "Moved", "StoredFile", "check_place", "is_index", "open_index", "writing"]

_GRACE = datetime.timedelta(hours=1)
"""How long the files of an earlier version stay for those who have it open."""

_BLOCK = 2**24
"""Bytes of descriptors that are copied into a snapshot at a time."""


_ROWS_MOVED = 1024
"""Rows that are held in memory while they are moved."""


class StoredFile(NamedTuple):
  """What the index knows of an image's file, to distinguish new, changed, unchanged and removed files."""

  bytes: int
  mtime_ns: int
  sha256: str


class Moved(NamedTuple):
  """Where the file of a row is now.

  Attributes:
    id: the row's new id.
    path: absolute.
    root: the folder that ids are relative to.
    mtime_ns: when the file was last changed.
  """

  id: str
  path: str
  root: str
  mtime_ns: int


class Index:
  """One version of an index, open for reading; the methods that write return nothing and move it to the new version.

  Those that read raise `IndexFolderError` where the index is damaged; those that write raise `OSError` where the disk is
  full or may not be written, and leave the index as it was. Whoever writes holds `writing(folder)`.

  Attributes:
    folder: where it lies.
    settings: what all rows share.
  """

  def __init__(self, folder: str | os.PathLike):
    """Opens the newest version.

    Raises:
      IndexFolderError: no index there, a damaged one, or one of another format.
    """
    self.folder = check_name(folder)
    if not os.path.lexists(self.folder):
      raise IndexFolderError(f"there is no index at {self.folder}; make one with --mode=index")
    if not is_index(self.folder):
      raise IndexFolderError(f"{self.folder} is not an index of cwf_jax: it holds no {DATA}")
    self._uri = os.path.abspath(self.folder / DATA)
    self._reopen()
    self.whitening  # noqa: B018  (a missing file of arrays is found on opening, not in the middle of a search)

  @classmethod
  def create(cls, folder: str | os.PathLike, settings: IndexSettings, whitening: dict[str, np.ndarray] | None) -> "Index":
    """Makes an empty index; its folder may exist if it is empty but for what an index left."""
    folder = check_place(folder)
    with writing_to(folder):
      folder.mkdir(parents=True, exist_ok=True)
      settings = _with_whitening(folder, settings, whitening)
      lance.write_dataset(schema.arrow_schema(settings).empty_table(), os.path.abspath(folder / DATA), mode="create")
    return cls(folder)

  def __repr__(self) -> str:
    weights, dimensions = self.settings.weights, self.settings.dimensions
    shown = f"Index({str(self.folder)!r}, version={self.version}, images={len(self)}, weights={weights!r}"
    return f"{shown}, dimensions={dimensions}, whitening={self.settings.whitening.source!r})"

  def __len__(self) -> int:
    with self._reading():
      return self._data.count_rows()

  @property
  def columns(self) -> tuple[str, ...]:
    """What `scan` and `take` can give of each row: which file it is, the descriptor, probable classes, stored vectors."""
    return tuple(self._data.schema.names)

  @property
  def version(self) -> int:
    """The number of this version; every commit raises it."""
    return self._data.version

  def count_versions(self) -> int:
    """How many versions are still on the disk."""
    with self._reading():
      return len(self._data.versions())

  def count_bytes(self) -> int:
    """The bytes of the files that this version's rows lie in."""
    with self._reading():
      return sum(file.file_size_bytes or 0 for part in self._data.get_fragments() for file in part.data_files())

  @functools.cached_property
  def whitening(self) -> dict[str, np.ndarray] | None:
    """The arrays `mean` [k] and `projection` [k d] that the rows were whitened with, or None."""
    name = self.settings.whitening.file
    with self._reading():
      return None if name is None else arrays.read_whitening(self.folder, name)

  def files(self, root: str, prefix: str) -> dict[str, StoredFile]:
    """The files of one folder and prefix, by id."""
    found = {}
    columns = ["id", *StoredFile._fields]
    with self._reading():
      for batch in self._data.to_batches(columns=columns, filter=_of_folder(root, prefix)):
        for image_id, *values in zip(*(batch[name].to_pylist() for name in columns), strict=True):
          found[image_id] = StoredFile(*values)
    return found

  def others(self, root: str, prefix: str) -> Iterator[tuple[str, str, str]]:
    """The (id, root, prefix) of every row of another folder or prefix."""
    columns = ["id", "root", "prefix"]
    with self._reading():
      for batch in self._data.to_batches(columns=columns, filter=f"NOT ({_of_folder(root, prefix)})"):
        yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)

  def scan(self, columns: list[str], rows: int = 1024) -> Iterator[pa.RecordBatch]:
    """The rows in stored order, in batches of at most `rows`.

    Raises:
      InputError: there is no such column; see `columns`.
    """
    unknown = [name for name in columns if name not in self.columns]
    if unknown:
      raise InputError(f"an index has no column {printable(unknown[0])}; there are: {', '.join(self.columns)}")
    with self._reading():
      yield from self._data.to_batches(columns=columns, batch_size=rows)

  def scan_by_id(self, columns: list[str], rows: int = 1024) -> Iterator[pa.Table]:
    """The rows in the order of the ids, in tables of `rows`, the last one shorter: nothing that depends on history."""
    order = self.order()
    for start in range(0, len(order), rows):
      yield self.take(order[start : start + rows], columns)

  def order(self) -> np.ndarray:
    """The positions of the stored order, in the order of the ids (of their UTF-8 bytes)."""
    with self._reading():
      ids = self._data.to_table(columns=["id"])
    return pc.sort_indices(ids, sort_keys=[("id", "ascending")]).to_numpy().astype(np.int64)

  def take(self, rows: np.ndarray, columns: list[str]) -> pa.Table:
    """The rows at these positions of the stored order, in the order given."""
    with self._reading():
      return self._data.take(np.asarray(rows).tolist(), columns=columns)

  @functools.cached_property
  def snapshot(self) -> snapshot.Snapshot:
    """The descriptors of this version in the order of the ids; written on first use.

    Where the index cannot be written, its snapshot goes into a temporary folder that goes with the process.
    """
    target, shape = self.snapshot_folder, (len(self), self.settings.dimensions)
    found = snapshot.load(target, shape)
    if found is None:
      try:
        self._write_snapshot(target)
      except OSError:
        target = snapshot.make_temporary()
        self._write_snapshot(target)
      found = snapshot.load(target, shape)
    if found is None:
      raise OSError(f"the descriptors of {self.folder} were written to {target} and cannot be read from there")
    return found

  def prepare(self) -> None:
    """Writes the snapshot of this version if it is not there, so that the first search does not wait for it.

    Raises:
      OSError: it cannot be written.
    """
    target = self.snapshot_folder
    if snapshot.load(target, (len(self), self.settings.dimensions)) is None:
      self._write_snapshot(target)

  def commit(self, table: pa.Table, replaces: bool = False) -> None:
    """Adds rows in one commit; with `replaces`, rows of ids that exist are exchanged in the same commit."""
    with writing_to(self.folder):
      if replaces:
        self._data.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(table)
      else:
        lance.write_dataset(table, self._uri, mode="append")
    self._reopen()

  def delete(self, ids: Iterable[str]) -> None:
    """Removes rows in one commit for each ten thousand ids."""
    ids = list(ids)
    if not ids:
      return
    with writing_to(self.folder):
      for start in range(0, len(ids), 10_000):
        self._data.delete(_with_ids(ids[start : start + 10_000]))
    self._reopen()

  def move(self, moved: Mapping[str, Moved]) -> None:
    """Changes ids, paths and folders of rows, by their ids so far; what was encoded stays.

    In several commits: one that is interrupted leaves each row under its old place or its new one, or under both.
    """
    ids = sorted(moved)
    for start in range(0, len(ids), _ROWS_MOVED):
      names = ids[start : start + _ROWS_MOVED]
      with self._reading():
        table = self._data.to_table(filter=_with_ids(names))
      places = [moved[name] for name in table["id"].to_pylist()]
      for column, values in zip(Moved._fields, zip(*places, strict=True), strict=True):
        position = table.schema.get_field_index(column)
        table = table.set_column(position, table.schema.field(position), pa.array(values, table.schema.field(position).type))
      self.commit(table, replaces=True)
      self.delete(name for name in names if moved[name].id != name)

  def rewrite(self, settings: IndexSettings, whitening: dict[str, np.ndarray] | None, tables: Iterable[pa.Table]) -> None:
    """Exchanges all rows and the settings in one commit: the index is the old or the new one, never a mixture."""
    with writing_to(self.folder):
      settings = _with_whitening(self.folder, settings, whitening)
    rewriting.rewrite(self.folder, self._uri, self._data, schema.arrow_schema(settings), tables)
    self._reopen()

  def clean(self) -> None:
    """Deletes files that killed runs left, versions that were replaced over an hour ago, and old snapshots."""
    with writing_to(self.folder):
      now, versions = datetime.datetime.now(), self._data.versions()
      old = [one["version"] for one, next_one in itertools.pairwise(versions) if now - next_one["timestamp"] > _GRACE]
      which = {"versions": old} if old else {"older_than": datetime.timedelta(days=36500)}
      self._data.cleanup_old_versions(delete_unverified=True, **which)  # nobody else writes: the lock is held
      snapshot.remove_others(self.folder, self.snapshot_folder.name, _GRACE.total_seconds())
      arrays.remove_other_whitenings(self.folder, self.settings.whitening.file, _GRACE.total_seconds())

  @functools.cached_property
  def snapshot_folder(self) -> Path:
    """Named after the files that this version's rows lie in: another data set of the same version number has others."""
    with self._reading():
      files = [fragment.metadata.to_json() for fragment in self._data.get_fragments()]
    content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return snapshot.path_of(self.folder, f"v{self.version}-{content[:16]}")

  def _write_snapshot(self, target: Path) -> None:
    order, dimensions = self.order(), self.settings.dimensions
    rows = max(1, _BLOCK // (4 * dimensions))
    taken = (self.take(order[start : start + rows], ["descriptor"]) for start in range(0, len(order), rows))
    snapshot.write(target, order, (schema.to_array(table["descriptor"]) for table in taken), dimensions)

  def _reopen(self) -> None:
    for derived in ("whitening", "snapshot", "snapshot_folder"):
      self.__dict__.pop(derived, None)
    with self._reading():
      self._data = lance.dataset(self._uri)
      self.settings = IndexSettings.from_metadata(self._data.schema.metadata)

  @contextlib.contextmanager
  def _reading(self) -> Iterator[None]:
    try:
      with reading_from(self.folder):
        yield
    except IndexFolderError as error:
      if not self._is_outdated():
        raise
      message = f"the index {self.folder} was rewritten since it was opened, and the files of then are gone; open it again"
      raise IndexFolderError(message) from error

  def _is_outdated(self) -> bool:
    """Whether the version that is open was removed, and there is a newer one."""
    if "_data" not in self.__dict__:
      return False
    try:
      versions = lance.dataset(self._uri).versions()
    except (OSError, ValueError, RuntimeError):
      return False
    return self.version not in {one["version"] for one in versions}


def open_index(path: str | os.PathLike) -> Index:
  """Opens the newest version of an index.

  Raises:
    IndexFolderError: no index there, a damaged one, or one of another format.
  """
  return Index(path)


def _of_folder(root: str, prefix: str) -> str:
  return f"root = {_quoted(root)} AND prefix = {_quoted(prefix)}"


def _with_ids(ids: Iterable[str]) -> str:
  return f"id IN ({', '.join(_quoted(one) for one in ids)})"


def _quoted(text: str) -> str:
  return "'" + text.replace("'", "''") + "'"


def _with_whitening(folder: Path, settings: IndexSettings, whitening: dict[str, np.ndarray] | None) -> IndexSettings:
  name = None if whitening is None else arrays.write_whitening(folder, whitening)
  return dataclasses.replace(settings, whitening=dataclasses.replace(settings.whitening, file=name))
