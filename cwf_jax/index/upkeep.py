"""What an index is and what it holds.

    info = describe_index(open_index("my.index"))
    print(info.images, info.bytes["rows"], info.folders)
"""

import collections
import dataclasses
import os
from pathlib import Path

from cwf_jax.index.folder import DATA
from cwf_jax.index.store import Index
from cwf_jax.protocol import Protocol


@dataclasses.dataclass(frozen=True)
class FolderInfo:
  """One folder of photographs in an index.

  Attributes:
    root: the folder's absolute path.
    prefix: of its ids.
    images: rows.
    gone: rows whose files are not there any more.
  """

  root: str
  prefix: str
  images: int
  gone: int


@dataclasses.dataclass(frozen=True)
class IndexInfo:
  """What an index is and what it holds.

  Attributes:
    folder: where it lies.
    images: rows.
    version: the newest, which is described.
    versions: that are still on the disk.
    system: how a descriptor is made: "ofa".
    weights: the name under which they were loaded.
    weights_sha256: their hash.
    fingerprint: of weights, preprocessing, protocol and system.
    protocol: "paper" or "reference".
    image_size: the shorter side in pixels.
    feature_map: that descriptors are pooled from: "stride16" or "last".
    num_classes: summed into a descriptor.
    dimensions: of a descriptor.
    whitening: "bundled", "self", "none", or the index that it was taken from.
    stored_classes: whose vectors are stored for online and fixed search.
    made_with: the versions and devices that encoded rows, with the number of rows.
    bytes: by part: "rows", "earlier versions", "snapshots", "whitening".
    folders: where the photographs lie.
  """

  folder: str
  images: int
  version: int
  versions: int
  system: str
  weights: str
  weights_sha256: str
  fingerprint: str
  protocol: str
  image_size: int
  feature_map: str
  num_classes: int
  dimensions: int
  whitening: str
  stored_classes: str
  made_with: dict[str, int]
  bytes: dict[str, int]
  folders: tuple[FolderInfo, ...]


def describe_index(index: Index) -> IndexInfo:
  """Describes an index; every file of a photograph is looked for, none is opened."""
  settings = index.settings
  images, gone, makers = (collections.Counter() for _ in range(3))
  for batch in index.scan(["root", "prefix", "path", "made_with"]):
    for row in batch.to_pylist():
      place = row["root"], row["prefix"]
      images[place] += 1
      gone[place] += is_gone(row["path"])
      makers[row["made_with"]] += 1
  whole, rows = _count_bytes(index.folder / DATA), index.count_bytes()
  return IndexInfo(
    folder=str(index.folder),
    images=len(index),
    version=index.version,
    versions=index.count_versions(),
    system=settings.system,
    weights=settings.weights,
    weights_sha256=settings.weights_sha256,
    fingerprint=settings.fingerprint,
    protocol=settings.protocol["name"],
    image_size=settings.protocol["image_size"],
    feature_map=Protocol.from_json(settings.protocol).feature_map,
    num_classes=settings.num_classes,
    dimensions=settings.dimensions,
    whitening=settings.whitening.source + (", not fitted yet" if settings.whitening.pending else ""),
    stored_classes=f"{settings.stored}, {settings.vector_type}" + (", and raw ones" if settings.keep_raw else ""),
    made_with=dict(makers.most_common()),
    bytes={
      "rows": rows,
      "earlier versions": max(0, whole - rows),
      "snapshots": _count_bytes(index.folder / "snapshots"),
      "whitening": sum(path.stat().st_size for path in index.folder.glob("whitening-*")),
    },
    folders=tuple(FolderInfo(*place, images[place], gone[place]) for place in sorted(images)),
  )


def is_gone(path: str) -> bool:
  """Whether there is no such file; one on a disk that cannot be read just now is not gone."""
  try:
    os.stat(path)
  except (FileNotFoundError, NotADirectoryError):
    return True
  except OSError:
    return False
  return False


def _count_bytes(folder: Path) -> int:
  return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
