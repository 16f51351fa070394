"""A pool of labelled images, encoded as they were found, and what makes one unusable."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int32

from cwf_jax.errors import InputError, printable

SPLITS = {"train": ("train",), "val": ("val", "validation", "test")}
"""The folders that may hold a split, the first that is there."""


class PoolError(InputError):
  """A source of labelled images that cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
  """Encoded images with labels.

  Attributes:
    source: as it was given.
    classes: names of the class folders, sorted; each has an image.
    names: path of each image within the source, sorted.
    labels: of each image, into `classes`.
    skipped: (name, reason) of what was found and is no part of the pool.
    rows: of each image, what `reader` takes.
    reader: gives an image's bytes, from any thread.
  """

  source: str
  classes: tuple[str, ...]
  names: tuple[str, ...]
  labels: Int32[np.ndarray, "n"]
  skipped: tuple[tuple[str, str], ...]
  rows: np.ndarray = dataclasses.field(repr=False)
  reader: Callable[[int], bytes] = dataclasses.field(repr=False)

  def __len__(self) -> int:
    return len(self.names)

  def read(self, index: int) -> bytes:
    """The contents of an image file; may be called from many threads at once.

    Raises:
      OSError: it can no longer be read.
    """
    return self.reader(int(self.rows[index]))

  def keep(self, indices: Sequence[int]) -> "Pool":
    """The pool of some of its images, in their order; a class that has none left is left out."""
    indices = np.sort(np.asarray(indices, np.int64))
    present, labels = np.unique(self.labels[indices], return_inverse=True)
    return dataclasses.replace(
      self,
      classes=tuple(self.classes[label] for label in present),
      names=tuple(self.names[index] for index in indices),
      labels=labels.astype(np.int32),
      rows=self.rows[indices],
    )


def check_classes(source: str, classes: Sequence[str]) -> None:
  """Refuses classes that leave nothing to tell apart.

  Raises:
    PoolError: there are fewer than two.
  """
  if len(classes) < 2:
    found = f"1: {printable(classes[0])}" if classes else "none"
    raise PoolError(f"a network learns to tell classes apart: at least 2 class folders, found {found} (in {printable(source)})")
