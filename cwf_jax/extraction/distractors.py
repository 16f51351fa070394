"""Images that are only ranked, and never right: there may be a million, so that descriptors alone are kept of them.

    seen = SeenDescriptors(images, encoder, settings, "results/vectors")
    seen.compute({"mac-1f": Maker("mac", column, describe_mac)})
    seen.read("mac", "mac-1f")    # [n d]
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cwf_jax.encoder import Encoder
from cwf_jax.extraction.passes import Column, protocol_of, see_images, with_protocol
from cwf_jax.extraction.seeing import Count, SeenImages
from cwf_jax.images.image_set import ImageSet
from cwf_jax.images.loading import SkippedImage
from cwf_jax.protocol import Protocol
from cwf_jax.systems.settings import Settings


class Maker(NamedTuple):
  """What makes a descriptor.

  Attributes:
    system: whose sizes its pass has.
    column: of the pass.
    make: from vectors [b r k] of the column to descriptors [b d].
  """

  system: str
  column: Column
  make: Callable[[np.ndarray], np.ndarray]


class SeenDescriptors:
  """Images that are only ranked: of distractors, of which there may be a million, descriptors alone are kept.

  Attributes:
    images: which.
    unreadable: why each that could not be read could not; they are left out.
  """

  def __init__(
    self, images: ImageSet, encoder: Encoder, settings: Settings, folder: str | os.PathLike, batch_size: int | None = None
  ):
    """Nothing is computed yet; `folder` keeps the descriptors."""
    self.images = images
    self.unreadable: dict[str, str] = {}
    self._seen = SeenImages(images, encoder, settings, folder, batch_size)
    self._encoder, self._settings, self._batch_size = encoder, settings, batch_size

  def _missing(self, made: Mapping[str, Maker]) -> Iterator[tuple[Protocol, dict[str, Maker], tuple[str, ...]]]:
    by_size: dict[Protocol, dict[str, Maker]] = {}
    for name, maker in made.items():
      by_size.setdefault(protocol_of(maker.system, self._encoder, self._settings), {})[name] = maker
    for protocol, makers in by_size.items():
      store, signatures = self._seen.store(protocol), self.images.signatures
      wanted = {name: maker for name, maker in makers.items() if store.missing(signatures, [name])}
      if wanted:
        yield protocol, wanted, store.missing(signatures, wanted)

  def count_missing(self, made: Mapping[str, Maker]) -> int:
    """Images to be passed, counted once for each pass."""
    return sum(len(missing) for _, _, missing in self._missing(made))

  def compute(self, made: Mapping[str, Maker], count: Count | None = None) -> None:
    """Makes the passes whose descriptors are not there yet.

    Args:
      made: by the names under which the descriptors are kept.
      count: see `Count`.

    Raises:
      OSError: there is no room.
    """
    for protocol, makers, missing in self._missing(made):
      store, signatures = self._seen.store(protocol), self.images.signatures
      columns = tuple(dict.fromkeys(maker.column for maker in makers.values()))
      encoder = with_protocol(self._encoder, protocol)
      skipped: list[SkippedImage] = []
      found = see_images(encoder, self.images, missing, columns, self._settings, self._batch_size, count, skipped)
      try:
        for ids, vectors in found:
          described = {name: maker.make(vectors[maker.column.name]) for name, maker in makers.items()}
          store.add(ids, [signatures[name] for name in ids], described)
      finally:
        store.flush()
        self.unreadable |= {file.id: file.reason for file in skipped}

  def read(self, name: str, column: str) -> tuple[Float[np.ndarray, "n d"], tuple[str, ...]]:
    """The descriptors of that name of all images that could be read, in their order, and the ids of those that could not."""
    there, rows = np.zeros(len(self.images.ids), bool), None
    for places, part in self._seen.read(name, column):
      rows = np.empty((len(there), part.shape[1]), np.float32) if rows is None else rows
      rows[places], there[places] = part, True
    if rows is None:
      return np.zeros((0, 0), np.float32), self.images.ids
    return rows if there.all() else rows[there], tuple(self.images.ids[place] for place in np.flatnonzero(~there))
