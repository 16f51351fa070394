"""Pools of labelled images mixed into the batches that a network is trained on.

    pool = check_pool(open_pool("flowers.tar", EXTENSIONS)).pool
    classes = choose_classes([pool])
    mixture = Mixture([pool], [map_labels(pool, classes)], side=320)
    for batch in mixture.batches(32, start=100):  # as if 100 batches had been taken before
      ...

Batch n is a function of the pools, the weights, the seed, the side, the batch's size and n alone; not of threads, of the
cache, or of what was asked for before.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Int32

from cwf_jax.errors import InputError, printable
from cwf_jax.images.decoding import MIN_SIDE, UnreadableImageError, read_size
from cwf_jax.images.loading import SkippedImage, read_on_threads
from cwf_jax.labelled.cached_images import CachedImages, Pixels, reason_why
from cwf_jax.labelled.pool import Pool
from cwf_jax.models.class_names import ClassList
from cwf_jax.training.batches import Batch

CACHE_BYTES = 3 * 10**9
"""Of decoded pixels kept by default."""

Labels = Int32[np.ndarray, "n"]


class Mixture:
  """Pools of labelled images, mixed and shuffled.

  Attributes:
    pools: as given.
    side: of the canvases, in pixels.
  """

  def __init__(
    self,
    pools: Sequence[Pool],
    label_maps: Sequence[Labels],
    side: int,
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    cache_bytes: int = CACHE_BYTES,
    threads: int = 4,
    ahead: int = 4,
  ):
    """Prepares; nothing is read yet.

    Args:
      pools: one or more, checked by `check_pool`.
      label_maps: for each pool, from its labels to those of the batches; `map_labels` makes one.
      side: pixels of a canvas; an image whose longer side is longer is shrunk to it, none is enlarged.
      weights: share of each pool, > 0; by default the number of its images.
      seed: of the order.
      cache_bytes: of shrunk pixels that are kept in memory.
      threads: that decode.
      ahead: batches made before they are asked for.
    """
    weights = [len(pool) for pool in pools] if weights is None else list(weights)
    if not pools or not len(pools) == len(label_maps) == len(weights):
      raise InputError(f"a mixture needs a label map and a weight for each pool: {len(pools)} pools, {len(weights)} weights")
    if any(not np.isfinite(weight) or weight <= 0 for weight in weights):
      raise InputError(f"weights of pools are positive numbers; found {', '.join(f'{weight:g}' for weight in weights)}")
    if side < MIN_SIDE:
      raise InputError(f"a canvas has a side of at least {MIN_SIDE} pixels, not {side}")
    if seed < 0:
      raise InputError(f"a seed is a number from 0, not {seed}")
    self.pools, self.side = tuple(pools), side
    self._label_maps, self._weights, self._seed = tuple(map(np.asarray, label_maps)), weights, seed
    self._images = CachedImages(cache_bytes)
    self._threads, self._ahead = threads, ahead

  @property
  def skipped(self) -> tuple[SkippedImage, ...]:
    """Images that turned out to be unreadable so far, each once, sorted."""
    return self._images.skipped

  def batches(self, batch_size: int, start: int = 0) -> Iterator[Batch]:
    """Batches without end, from number `start` on; each pool is shuffled anew whenever all of it was given.

    An image that turns out to be unreadable is replaced by the next of its pool.

    Raises:
      InputError: while it is iterated: no image of a pool can be read.
    """
    if batch_size < 1 or start < 0:
      raise InputError(f"batches have at least 1 image and numbers from 0; found {batch_size} images, from number {start}")
    data = self._draw(self._seed).map(lambda place: self._load(*place))
    batched = data.batch(batch_size, batch_fn=lambda items: _stack(items, self.side, batch_size))
    return read_on_threads(batched[start:], self._threads, self._ahead)

  def validation_batches(
    self, pool: Pool, batch_size: int, side: int | None = None, label_map: Labels | None = None
  ) -> Iterator[Batch]:
    """One pass over a pool in its order; unreadable images are left out, the last batch is filled with empty places.

    Args:
      pool: any.
      batch_size: places of a batch.
      side: of the canvases, by default those of training.
      label_map: from the pool's labels to those of the batches; by default they stay.
    """
    side = side or self.side
    labels = pool.labels if label_map is None else label_map[pool.labels]

    def load(index: int) -> tuple[Pixels | None, int]:
      return self._images.load(pool, index, side), labels[index]

    loaded = read_on_threads(grain.MapDataset.range(len(pool)).map(load), self._threads, self._ahead * batch_size)
    items = (item for item in loaded if item[0] is not None)
    while batch := list(itertools.islice(items, batch_size)):
      yield _stack(batch, side, batch_size)

  def sample(self, n: int, seed: int = 0) -> Iterator[Pixels]:
    """Decoded images in their own size, from all pools in their shares, none twice before all of its pool were given."""
    data = self._draw(seed).map(lambda place: self._replace(*place, side=None)[0])
    return read_on_threads(data[:n], self._threads, self._threads)

  def _draw(self, seed: int) -> grain.MapDataset:
    """(Pool, index) of the images without end."""
    seeds = np.random.SeedSequence(seed).generate_state(len(self.pools))
    drawn = [
      grain.MapDataset.range(len(pool)).shuffle(seed=int(own)).repeat().map(lambda index, place=place: (place, index))
      for place, (pool, own) in enumerate(zip(self.pools, seeds, strict=True))
    ]
    return grain.MapDataset.mix(drawn, weights=self._weights)

  def _load(self, place: int, index: int) -> tuple[Pixels, int]:
    pixels, index = self._replace(place, index, self.side)
    return pixels, self._label_maps[place][self.pools[place].labels[index]]

  def _replace(self, place: int, index: int, side: int | None) -> tuple[Pixels, int]:
    """The image, or the next one of its pool that can be read, and its index."""
    pool = self.pools[place]
    for step in range(len(pool)):
      other = (index + step) % len(pool)
      pixels = self._images.load(pool, other, side)
      if pixels is not None:
        return pixels, other
    raise InputError(f"none of the {len(pool)} images of {printable(pool.source)} can be read")


class CheckedPool(NamedTuple):
  """A pool of images whose headers were read.

  Attributes:
    pool: those that can be read.
    skipped: the others, and why.
    sha256: of what the pool's batches depend on: class and content of each image, in order.
  """

  pool: Pool
  skipped: list[SkippedImage]
  sha256: str


def check_pool(
  pool: Pool, threads: int = 4, progress: Callable[[int, int], Any] | None = None
) -> CheckedPool:
  """Reads every file, and looks at the image's header; damage behind it is not found here.

  Args:
    pool: as it was opened.
    threads: that read.
    progress: called with (images done, images).

  Raises:
    InputError: none can be read, or only those of one of several classes.
  """

  def check(index: int) -> SkippedImage | bytes:
    try:
      content = pool.read(index)
      read_size(content)
    except (UnreadableImageError, OSError) as error:
      return SkippedImage(pool.names[index], reason_why(error))
    return hashlib.sha256(content).digest()

  found: list[SkippedImage | bytes] = []
  with ThreadPoolExecutor(threads) as executor:
    for start in range(0, len(pool), 1024):
      found += executor.map(check, range(start, min(start + 1024, len(pool))), chunksize=64)
      if progress is not None:
        progress(len(found), len(pool))
  skipped = [one for one in found if isinstance(one, SkippedImage)]
  readable = [index for index, one in enumerate(found) if isinstance(one, bytes)]
  kept = pool.keep(readable) if skipped else pool
  reasons = "; ".join(f"{printable(one.id)}: {one.reason}" for one in skipped[:3])
  if not len(kept):
    raise InputError(f"none of the {len(pool)} images of {printable(pool.source)} can be read ({reasons})")
  if len(kept.classes) < 2 <= len(pool.classes):
    raise InputError(
      f"of the {len(pool.classes)} classes of {printable(pool.source)} only {printable(kept.classes[0])} has images that can "
      f"be read, and a network learns to tell classes apart; {len(skipped)} images cannot be read ({reasons})"
    )
  content = hashlib.sha256()
  for label, index in zip(kept.labels, readable, strict=True):
    content.update(json.dumps(kept.classes[label]).encode() + found[index])
  return CheckedPool(kept, skipped, content.hexdigest())


def choose_classes(pools: Sequence[Pool]) -> ClassList:
  """The class folders of all pools, sorted; with ImageNet's names where all are classes of ImageNet."""
  wnids = tuple(sorted({name for pool in pools for name in pool.classes}))
  known = dict(zip(ClassList.imagenet().wnids, ClassList.imagenet().names, strict=True))
  return ClassList(wnids, tuple(known[wnid] for wnid in wnids) if set(wnids) <= set(known) else wnids)


def map_labels(pool: Pool, classes: ClassList, allow_unknown: bool = False) -> Labels:
  """From a pool's labels to a network's classes, by identifier, else by name.

  Args:
    pool: with folders named after classes.
    classes: of the network.
    allow_unknown: a folder that is no class gets -1.

  Raises:
    InputError: folders that are no class, or the name of several.
  """
  by_wnid = {wnid: place for place, wnid in enumerate(classes.wnids)}
  by_name: dict[str, list[int]] = {}
  for place, name in enumerate(classes.names):
    by_name.setdefault(_normalize(name), []).append(place)
  found = [[by_wnid[name]] if name in by_wnid else by_name.get(_normalize(name), []) for name in pool.classes]
  unknown = [name for name, places in zip(pool.classes, found, strict=True) if len(places) != 1]
  if unknown and not allow_unknown:
    shown = ", ".join(map(printable, unknown[:8])) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
    raise InputError(
      f"{len(unknown)} of the {len(pool.classes)} class folders of {printable(pool.source)} are not, or not alone, classes of "
      f"the network's {len(classes)}, by identifier (such as {printable(classes.wnids[0])}) or by name: {shown}"
    )
  return np.array([places[0] if len(places) == 1 else -1 for places in found], np.int32)


def _normalize(name: str) -> str:
  return " ".join(name.replace("_", " ").split()).casefold()


def _stack(items: Sequence[tuple[Pixels, int]], side: int, batch_size: int) -> Batch:
  images = np.zeros((batch_size, side, side, 3), np.uint8)
  sizes = np.full((batch_size, 2), MIN_SIDE, np.int32)
  labels = np.full(batch_size, -1, np.int32)
  for place, (pixels, label) in enumerate(items):
    height, width = pixels.shape[:2]
    images[place, :height, :width] = pixels
    sizes[place] = height, width
    labels[place] = label
  return Batch(images, sizes, labels)
