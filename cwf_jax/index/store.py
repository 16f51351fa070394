"""The index on disk: a Lance data set of the images, versioned, with atomic commits, and the whitening's arrays beside it.

    INDEX/images.lance           one row an image; the settings are the schema's metadata
    INDEX/whitening-HASH.npz     mean and projection
    INDEX/snapshots/v42/         descriptors of version 42 in the order of the ids, memory-mapped by searches
    INDEX/.lock                  held by the one run that writes

A reader sees whole versions only: rows, settings and the name of the whitening's file change in one commit.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock
import lance
import numpy as np
import pyarrow as pa

from cwf_jax.errors import InputError
from cwf_jax.index import schema, snapshot
from cwf_jax.index.schema import IndexSettings

_DATA = "images.lance"
_GRACE = datetime.timedelta(hours=1)


class IndexFolderError(InputError):
  """The folder is not an index, is damaged, or is written by another run."""


@dataclasses.dataclass(frozen=True)
class StoredFile:
  """What the index knows of an image's file, to tell new, changed, unchanged and removed ones apart."""

  id: str
  bytes: int
  mtime_ns: int
  sha256: str


def is_index(folder: str | os.PathLike) -> bool:
  """Whether an index was ever created in this folder."""
  return (Path(folder) / _DATA).is_dir()


@contextlib.contextmanager
def writing(folder: str | os.PathLike) -> Iterator[None]:
  """Holds the right to write to the index; another run that has it is named as the reason of an error."""
  folder = Path(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    with lock:
      yield
  except filelock.Timeout:
    raise IndexFolderError(f"{folder} is being written by another run; wait for its end and try again") from None
  except (FileExistsError, NotADirectoryError):
    raise IndexFolderError(f"{folder} is a file; --index names a folder") from None


class Index:
  """One version of an index, open for reading; the methods that write return nothing and move it to the new version.

  Attributes:
    folder: where it lies.
    settings: what all rows share.
  """

  def __init__(self, folder: str | os.PathLike):
    """Opens the newest version.

    Raises:
      IndexFolderError: no index there, a damaged one, or one of another format.
    """
    self.folder = Path(folder)
    if not self.folder.exists():
      raise IndexFolderError(f"there is no index at {self.folder}; make one with --mode=index")
    if not is_index(self.folder):
      raise IndexFolderError(f"{self.folder} is not an index of cwf_jax: it holds no {_DATA}")
    with self._reading():
      self._data = lance.dataset(str(self.folder / _DATA))
      self.settings = IndexSettings.from_metadata(self._data.schema.metadata)
      self.whitening  # noqa: B018  (a missing file of arrays is found on opening, not in the middle of a search)

  @classmethod
  def create(cls, folder: str | os.PathLike, settings: IndexSettings, whitening: dict[str, np.ndarray] | None) -> "Index":
    """Makes an empty index; its folder may exist if it is empty but for the lock."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    if others and not all(_is_ours(name) for name in others):
      raise IndexFolderError(f"{folder} is neither empty nor an index of cwf_jax: it holds {', '.join(others[:3])}")
    settings = _with_whitening(folder, settings, whitening)
    empty = schema.arrow_schema(settings).empty_table()
    lance.write_dataset(empty, str(folder / _DATA), mode="create")
    return cls(folder)

  def __len__(self) -> int:
    return self._data.count_rows()

  @property
  def version(self) -> int:
    """The number of this version; every commit raises it."""
    return self._data.version

  @functools.cached_property
  def whitening(self) -> dict[str, np.ndarray] | None:
    """The arrays `mean` [k] and `projection` [k d] that the rows were whitened with, or None."""
    name = self.settings.whitening.file
    if name is None:
      return None
    try:
      content = (self.folder / name).read_bytes()
    except OSError as error:
      raise InputError(f"its whitening {name} cannot be read ({error.strerror})") from None
    if name != _whitening_name(content):
      raise InputError(f"its whitening {name} is damaged: the content does not have the hash in its name")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      return {key: arrays[key] for key in ("mean", "projection")}

  def files(self, root: str, prefix: str) -> dict[str, StoredFile]:
    """The files of one folder and prefix, by id."""
    where = f"root = {_quoted(root)} AND prefix = {_quoted(prefix)}"
    columns = [field.name for field in dataclasses.fields(StoredFile)]
    with self._reading():
      table = self._data.to_table(columns=columns, filter=where)
    return {row["id"]: StoredFile(**row) for row in table.to_pylist()}

  def roots(self) -> dict[str, set[str]]:
    """The folders that were indexed, by prefix."""
    found: dict[str, set[str]] = {}
    with self._reading():
      for batch in self._data.to_batches(columns=["prefix", "root"]):
        for prefix, root in set(zip(batch["prefix"].to_pylist(), batch["root"].to_pylist(), strict=True)):
          found.setdefault(prefix, set()).add(root)
    return found

  def scan(self, columns: list[str], rows: int = 1024) -> Iterator[pa.RecordBatch]:
    """The rows in stored order, in batches of at most `rows`."""
    with self._reading():
      yield from self._data.to_batches(columns=columns, batch_size=rows)

  def take(self, rows: np.ndarray, columns: list[str]) -> pa.Table:
    """The rows at these positions of the stored order, in the order given."""
    with self._reading():
      return self._data.take(np.asarray(rows).tolist(), columns=columns)

  @functools.cached_property
  def snapshot(self) -> snapshot.Snapshot:
    """The descriptors of this version in the order of the ids; written on first use."""
    with self._reading():
      return snapshot.open_snapshot(self.folder, self.version, self._data, self.settings.dimensions)

  def commit(self, table: pa.Table, replaces: bool = False) -> None:
    """Adds rows in one commit; with `replaces`, rows of ids that exist are exchanged in the same commit."""
    if replaces:
      merge = self._data.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
      merge.execute(table)
      self._reopen()
    else:
      lance.write_dataset(table, str(self.folder / _DATA), mode="append")
      self._reopen()

  def delete(self, ids: Iterable[str]) -> None:
    """Removes rows in one commit for each ten thousand ids."""
    ids = list(ids)
    for start in range(0, len(ids), 10_000):
      listed = ", ".join(_quoted(one) for one in ids[start : start + 10_000])
      self._data.delete(f"id IN ({listed})")
    self._reopen()

  def rewrite(
    self, settings: IndexSettings, whitening: dict[str, np.ndarray] | None, tables: Iterable[pa.Table]
  ) -> None:
    """Exchanges all rows and the settings in one commit: the index is the old or the new one, never a mixture."""
    settings = _with_whitening(self.folder, settings, whitening)
    new = schema.arrow_schema(settings)
    batches = (batch for table in tables for batch in table.replace_schema_metadata(new.metadata).to_batches())
    reader = pa.RecordBatchReader.from_batches(new, batches)
    lance.write_dataset(reader, str(self.folder / _DATA), mode="overwrite", schema=new)
    self._reopen()

  def clean(self) -> None:
    """Frees what only versions older than an hour use, and snapshots of other versions."""
    self._data.cleanup_old_versions(older_than=_GRACE)
    snapshot.remove_others(self.folder, self.version)
    used = self.settings.whitening.file
    for path in self.folder.glob("whitening-*.npz"):
      age = datetime.datetime.now().timestamp() - path.stat().st_mtime
      if path.name != used and age > _GRACE.total_seconds():
        path.unlink()

  def _reopen(self) -> None:
    self.__dict__.pop("whitening", None)
    self.__dict__.pop("snapshot", None)
    self._data = lance.dataset(str(self.folder / _DATA))
    self.settings = IndexSettings.from_metadata(self._data.schema.metadata)

  @contextlib.contextmanager
  def _reading(self) -> Iterator[None]:
    try:
      yield
    except IndexFolderError:
      raise
    except InputError as error:
      raise IndexFolderError(f"{self.folder} cannot be used: {error}") from None
    except (OSError, ValueError, RuntimeError, KeyError) as error:
      reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
      raise IndexFolderError(f"the index {self.folder} is damaged: {reason[:200]}") from error


def open_index(path: str | os.PathLike) -> Index:
  """Opens the newest version of an index.

  Raises:
    IndexFolderError: no index there, a damaged one, or one of another format.
  """
  return Index(path)


def _is_ours(name: str) -> bool:
  return name in (_DATA, "snapshots", ".lock") or name.startswith("whitening-")


def _quoted(text: str) -> str:
  return "'" + text.replace("'", "''") + "'"


def _whitening_name(content: bytes) -> str:
  return f"whitening-{hashlib.sha256(content).hexdigest()[:16]}.npz"


def _with_whitening(folder: Path, settings: IndexSettings, arrays: dict[str, np.ndarray] | None) -> IndexSettings:
  """Writes the arrays under the hash of their content, before any version names them."""
  name = None
  if arrays is not None:
    buffer = io.BytesIO()
    np.savez(buffer, mean=np.asarray(arrays["mean"]), projection=np.asarray(arrays["projection"]))
    name = _whitening_name(buffer.getvalue())
    if not (folder / name).exists():
      temporary = folder / f"{name}.{os.getpid()}.tmp"
      temporary.write_bytes(buffer.getvalue())
      os.replace(temporary, folder / name)
  return dataclasses.replace(settings, whitening=dataclasses.replace(settings.whitening, file=name))
