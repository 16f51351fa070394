"""The vectors that forward passes gave, kept as they come: whatever stops a run, the next one takes up where it was.

    store = VectorStore("results/vectors/toy_oxford-0f3a")
    for names in batches(store.missing(signatures, ["raw", "rmac"])):
      store.add(names, [signatures[name] for name in names], {"raw": ..., "rmac": ...})
    for rows, vectors in store.read("rmac", signatures):
      ...

A part holds some images, and the columns that were computed of them; it is written in one step. An image counts as there
while its file is what it was: of the same length, last changed at the same time.
"""

import errno
import os
import struct
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cwf_jax.errors import InputError, printable
from cwf_jax.files import write_whole
from cwf_jax.images.image_set import Signature
from cwf_jax.problems import count_of

BYTES_A_PART, SECONDS_A_PART = 1 << 25, 30.0
"""A part is written when it holds so much, or when the last one was written so long ago."""

Chosen = slice | Sequence[int]
ALL = slice(None)

_IDS, _SIGNATURES = "ids", "signatures"
DAMAGED = (
  *(OSError, ValueError, KeyError, IndexError, EOFError, TypeError, RuntimeError),
  *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What NumPy and `zipfile` raise on damaged files; of the latter also RuntimeError, on flags and methods it does not know."""

_OF_CONTENT = (None, errno.ENOENT, errno.EINVAL)
"""Of an OSError that tells of damage: the file is gone, or its content sends the reader before its start. Any other, such as
too many open files, says nothing of the file."""


class DamagedVectorsError(InputError):
  """Kept vectors were damaged, and are removed: their images are missing now, and can be computed again."""


class _Part(NamedTuple):
  path: Path
  ids: tuple[str, ...]
  signatures: tuple[Signature, ...]
  columns: frozenset[str]


class VectorStore:
  """A folder of parts."""

  def __init__(self, folder: str | os.PathLike):
    """Opens it, or makes it; a part that is damaged is left aside, and its images are computed again."""
    self._folder = Path(folder)
    self._folder.mkdir(parents=True, exist_ok=True)
    found = [_open_part(path) for path in sorted(self._folder.glob("part-*.npz"))]
    self._parts = [part for part in found if part is not None]
    self._waiting: list[tuple[Sequence[str], Sequence[Signature], dict[str, np.ndarray]]] = []
    self._written = time.monotonic()

  def missing(self, signatures: Mapping[str, Signature], columns: Iterable[str]) -> tuple[str, ...]:
    """The images of which a column is not there, in the order given."""
    wanted, whole, partly = frozenset(columns), set(), {}
    for part in self._parts:
      there = wanted & part.columns
      names = (name for name, one in zip(part.ids, part.signatures, strict=True) if signatures.get(name) == one)
      if there == wanted:
        whole.update(names)
      elif there:
        for name in names:
          partly[name] = partly.get(name, frozenset()) | there
    return tuple(name for name in signatures if name not in whole and partly.get(name, frozenset()) != wanted)

  def add(self, ids: Sequence[str], signatures: Sequence[Signature], columns: Mapping[str, np.ndarray]) -> None:
    """Takes the vectors of some images, [n ...] of each column; they are written with others, at last by `flush`."""
    self._waiting.append((tuple(ids), tuple(signatures), dict(columns)))
    waiting = sum(column.nbytes for _, _, columns in self._waiting for column in columns.values())
    if waiting >= BYTES_A_PART or time.monotonic() - self._written > SECONDS_A_PART:
      self.flush()

  def flush(self) -> None:
    """Writes what waits.

    Raises:
      OSError: there is no room for it; what was written before is there.
    """
    if not self._waiting:
      return
    waiting, self._waiting = self._waiting, []
    ids = tuple(name for names, _, _ in waiting for name in names)
    signatures = tuple(one for _, some, _ in waiting for one in some)
    columns = {name: np.concatenate([columns[name] for _, _, columns in waiting]) for name in waiting[0][2]}
    content = BytesIO()
    np.savez(content, **{_IDS: np.asarray(ids), _SIGNATURES: np.asarray(signatures, np.int64)}, **columns)
    path = self._folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex}.npz"  # sorted by name, the newest is the last
    write_whole(path, content.getbuffer())
    self._parts.append(_Part(path, ids, signatures, frozenset(columns)))
    self._written = time.monotonic()

  def read(
    self, column: str, signatures: Mapping[str, Signature], chosen: Chosen = ALL
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A column part by part: rows, places in the order of `signatures`, and their vectors [n ...].

    Args:
      column: which.
      signatures: of the images wanted, all of which are there.
      chosen: which of the vectors that an image has.

    Raises:
      DamagedVectorsError: a part is damaged; all such parts are removed.
      OSError: a part cannot be read for another reason; none is removed.
    """
    place = {name: row for row, name in enumerate(signatures)}
    by_part: dict[int, list[tuple[int, int]]] = {}
    for name, (part, row) in self._find(column, signatures).items():
      by_part.setdefault(part, []).append((place[name], row))
    for part, pairs in sorted(by_part.items()):
      vectors = self._read_part(self._parts[part].path, column)
      places, rows = (np.asarray(numbers) for numbers in zip(*pairs, strict=True))
      yield places, vectors[rows] if chosen == ALL else vectors[rows][:, chosen]

  def _read_part(self, path: Path, column: str) -> np.ndarray:
    try:
      with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays[column]
    except DAMAGED as error:
      _raise_others(error)
      damaged = {part.path for part in self._parts if not _is_whole(part.path)} | {path}
      self._parts = [part for part in self._parts if part.path not in damaged]
      for one in damaged:
        one.unlink(missing_ok=True)
      files = count_of(damaged, "file was", "files were")
      raise DamagedVectorsError(
        f"{files} damaged in {printable(self._folder)} and removed; the images in it are computed again"
      ) from None

  def _find(self, column: str, signatures: Mapping[str, Signature]) -> dict[str, tuple[int, int]]:
    """Where each image is, (part, row); the newest part counts."""
    found = {}
    for number, part in enumerate(self._parts):
      if column in part.columns:
        pairs = zip(part.ids, part.signatures, strict=True)
        found.update((name, (number, row)) for row, (name, one) in enumerate(pairs) if signatures.get(name) == one)
    return found


def _is_whole(path: Path) -> bool:
  """Whether every checksum of a part is right."""
  try:
    with zipfile.ZipFile(path) as file:
      return file.testzip() is None
  except DAMAGED as error:
    _raise_others(error)
    return False


def _raise_others(error: Exception) -> None:
  """Raises what says nothing of a file's content."""
  if isinstance(error, OSError) and error.errno not in _OF_CONTENT:
    raise error


def _open_part(path: Path) -> _Part | None:
  try:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
      ids, signatures = arrays[_IDS], arrays[_SIGNATURES]
      columns = frozenset(arrays.files) - {_IDS, _SIGNATURES}
      return _Part(path, tuple(ids.tolist()), tuple(map(tuple, signatures.tolist())), columns)
  except DAMAGED as error:
    _raise_others(error)
    return None
