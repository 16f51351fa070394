"""Labelled images: one folder a class, in a folder, in a tar, or prepared by tensorflow-datasets.

    pool = open_pool("flowers.tar", extensions=(".jpg", ".png"))
    pool.classes  # ("rose", "tulip")
    pool.read(0), pool.labels[0]  # the bytes of an image file, 0

The class folders lie in the source itself, or in its folder `train/` beside `val/` (or `validation/`, or `test/`). Images
anywhere below a class folder are its images. Names that begin with a dot are left alone.
"""

import collections
import dataclasses
import os
import posixpath
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.images.tar import list_tar
from cwf_jax.labelled.pool import SPLITS, Pool, PoolError, check_classes

_SPLIT_FOLDERS = {folder for folders in SPLITS.values() for folder in folders}


@dataclasses.dataclass(frozen=True)
class _Listing:
  """What a source holds: `names` of its image files, in the order that `reader` counts them; all its `folders`."""

  names: Sequence[str]
  folders: Collection[str]
  skipped: Sequence[tuple[str, str]]
  reader: Callable[[int], bytes]


def open_pool(
  source: str | os.PathLike, extensions: Collection[str], split: str = "train", optional: bool = False
) -> Pool | None:
  """Finds the images of a split and their classes; no image is read, but those of tensorflow-datasets (their labels).

  Args:
    source: a folder, an uncompressed tar, `tfds:NAME` (also `tfds:NAME/CONFIG:VERSION`), or a folder that
      tensorflow-datasets prepared.
    extensions: lower-case endings of the files that are images.
    split: "train" or "val"; class folders that lie in the source itself are "train".
    optional: a split that is not there gives None.

  Raises:
    InputError: a `PoolError` or `TarError`: there is no such source or split, it cannot be read or is damaged, it holds no
      image, fewer than two classes for training, or a class folder without an image.
  """
  name, path = os.fspath(source), Path(source)
  if not name:
    raise PoolError("a pool of images is a folder, a tar or tfds:NAME; found an empty name")
  try:
    if name.startswith("tfds:") or (path / "dataset_info.json").is_file():
      from cwf_jax.labelled.tfds_pools import open_tfds_pool

      return open_tfds_pool(name, split, optional)
    if path.is_dir():
      return _make_pool(name, _list_folder(path, extensions), extensions, split, optional, wrapped=False)
    if path.is_file():
      return _make_pool(name, _Listing(*list_tar(path, extensions)), extensions, split, optional, wrapped=True)
    if path.exists():
      raise PoolError(f"{printable(name)} is neither a folder of class folders nor a tar of them")
  except (OSError, ValueError) as error:  # a zero byte is a ValueError
    if isinstance(error, InputError):
      raise
    raise PoolError(f"{printable(name)[:200]} cannot be read: {reason_of(error)}") from None
  raise PoolError(f"there is no file or folder {printable(name)}")


def _make_pool(
  source: str, listing: _Listing, extensions: Collection[str], split: str, optional: bool, wrapped: bool
) -> Pool | None:
  if not listing.names:
    skipped = f" ({len(listing.skipped)} skipped; {': '.join(listing.skipped[0])})" if listing.skipped else ""
    endings = ", ".join(sorted(extensions))
    raise PoolError(f"there are no images in {printable(source)}: no file in it ends in {endings}{skipped}")
  counts = collections.Counter(map(posixpath.dirname, listing.names))  # of the images right in a folder
  folders = {ancestor for folder in (*counts, *listing.folders) for ancestor in _ancestors(folder)}
  filled = {ancestor for folder in counts for ancestor in _ancestors(folder)}
  root = _find_root(source, filled, counts, split, wrapped)
  if root is None:
    if optional:
      return None
    raise PoolError(f"there is no folder {' or '.join(SPLITS[split])} with images in {printable(source)}")
  start = root + "/" if root else ""
  children = sorted(folder for folder in folders if folder and posixpath.dirname(folder) == root)
  empty = [printable(folder) for folder in children if folder not in filled]
  classes = tuple(folder[len(start) :] for folder in children)
  if not classes and root in filled:
    raise PoolError(
      f"there is no class folder in {printable(posixpath.join(source, root))}: its {counts[root]} images lie right in it; "
      "put the images of each class into a folder of its own"
    )
  if empty:
    raise PoolError(
      f"{len(empty)} class folders of {printable(source)} hold no image (remove them, or fill them): {_first(empty)}"
    )
  if split == "train":
    check_classes(source, classes)
  labels = {name: label for label, name in enumerate(classes)}
  rows = sorted((row for row, name in enumerate(listing.names) if name.startswith(start)), key=listing.names.__getitem__)
  loose = [listing.names[row] for row in rows if posixpath.dirname(listing.names[row]) == root]
  rows = [row for row in rows if posixpath.dirname(listing.names[row]) != root]
  names = tuple(listing.names[row] for row in rows)
  return Pool(
    source=source,
    classes=classes,
    names=names,
    labels=np.array([labels[name[len(start) :].split("/", 1)[0]] for name in names], np.int32),
    skipped=(
      *(one for one in listing.skipped if one[0].startswith(start)),
      *((printable(name), "not in a class folder") for name in loose),
    ),
    rows=np.array(rows, np.int64),
    reader=listing.reader,
  )


def _find_root(source: str, filled: set[str], counts: collections.Counter, split: str, wrapped: bool) -> str | None:
  """The folder whose folders are the classes of the split, "" for the source itself; None: there is no such split."""
  root = ""
  below = _below(filled, root)
  # A tar often holds one folder around everything.
  while wrapped and len(below) == 1 and not counts[root] and not below & _SPLIT_FOLDERS:
    inside = posixpath.join(root, *below)
    if counts[inside] or not _below(filled, inside):
      break
    root, below = inside, _below(filled, inside)
  if below and below <= _SPLIT_FOLDERS:
    return next((posixpath.join(root, folder) for folder in SPLITS[split] if folder in below), None)
  train = posixpath.join(root, "train")
  if "train" in below and not counts[train]:
    others = _first([printable(folder) for folder in sorted(below - _SPLIT_FOLDERS)])
    raise PoolError(
      f"{printable(source)} holds class folders in train/ and images in other folders ({others}); name the folder of the "
      "class folders itself, or leave only train/ and val/ in it"
    )
  return root if split == "train" else None


def _below(folders: set[str], root: str) -> set[str]:
  return {posixpath.basename(folder) for folder in folders if folder and posixpath.dirname(folder) == root}


def _ancestors(folder: str) -> list[str]:
  """The folder, those around it, and the source itself ("")."""
  parts = folder.split("/") if folder else []
  return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]


def _first(names: Sequence[str], most: int = 8) -> str:
  return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _list_folder(root: Path, extensions: Collection[str]) -> _Listing:
  """Links to files are followed, links to folders where classes or splits can be, two deep: so a walk always ends."""
  names, folders, skipped = [], [], []
  waiting = [("", 0)]
  while waiting:
    folder, depth = waiting.pop()
    try:
      entries = list(os.scandir(root / folder))
    except OSError as error:
      if not folder:
        raise
      skipped.append((printable(folder) + "/", f"the folder cannot be read: {reason_of(error)}"))
      continue
    for entry in entries:
      name = posixpath.join(folder, entry.name)
      is_folder = entry.is_dir(follow_symlinks=depth < 2)
      is_image = not is_folder and os.path.splitext(entry.name)[1].lower() in extensions
      if entry.name.startswith(".") or not (is_folder or is_image):
        continue
      try:
        name.encode()
      except UnicodeEncodeError:
        skipped.append((printable(name), "the name is not UTF-8"))
        continue
      if is_folder:
        folders.append(name)
        waiting.append((name, depth + 1))
      elif entry.is_file():
        names.append(name)
      else:
        skipped.append((printable(name), "not a regular file"))

  def read(row: int) -> bytes:
    return (root / names[row]).read_bytes()

  return _Listing(names, folders, sorted(skipped), read)
