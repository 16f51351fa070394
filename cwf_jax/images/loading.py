"""Files in, filled canvases out, read and resized on threads ahead of the device.

Batches are a function of the sorted files: each canvas takes its images in the order of the list, and a file that cannot
be read takes no place. So a run that is taken up again makes the batches that an undisturbed one would have made.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from cwf_jax.images.canvases import Fitted, fit_image, stack
from cwf_jax.images.decoding import UnreadableImageError, decode_image, read_file
from cwf_jax.images.files import describe
from cwf_jax.images.listing import Listing
from cwf_jax.protocol import Protocol, Size

Change = Callable[[np.ndarray], np.ndarray]
"""From RGB pixels [h w 3] uint8 to pixels of the same kind."""


class LoadedImage(NamedTuple):
  """An image and what its file was when it was read.

  Attributes:
    id: of the listing.
    path: absolute.
    bytes: of the file.
    mtime_ns: when it was last changed, as the file system says.
    sha256: of its content.
    original: (height, width) of the upright image.
    fitted: the pixels at the protocol's size.
  """

  id: str
  path: str
  bytes: int
  mtime_ns: int
  sha256: str
  original: Size
  fitted: Fitted


class SkippedImage(NamedTuple):
  """A file that could not be read, and why."""

  id: str
  reason: str


class Batch(NamedTuple):
  """One canvas's worth of images.

  Attributes:
    files: the images, at most as many as the batch has places.
    images: [b H W 3] uint8, each at the upper left; the places after the last image hold zeros.
    sizes: [b 2] int32, (height, width) of each; of an empty place 16x16.
  """

  files: tuple[LoadedImage, ...]
  images: np.ndarray
  sizes: np.ndarray


def load_image(
  listing: Listing, image_id: str, protocol: Protocol, change: Change | None = None
) -> LoadedImage | SkippedImage:
  """Reads, decodes and resizes one image; what is wrong with it is returned, not raised.

  `change` is done to the upright pixels before they are resized.
  """
  path = listing.path(image_id)

  def read() -> tuple[bytes, int]:
    # The time first: should the file change in between, the next run finds another time than this one.
    mtime_ns = os.stat(path).st_mtime_ns
    return read_file(path), mtime_ns

  return load_content(image_id, path, read, protocol, change)


def load_content(
  image_id: str,
  path: str,
  read: Callable[[], tuple[bytes, int]],
  protocol: Protocol,
  change: Change | None = None,
) -> LoadedImage | SkippedImage:
  """As `load_image`, from whatever `read` reads: the file's bytes, and when they were last changed in ns."""
  try:
    content, mtime_ns = read()
    image = decode_image(content)
    if change is not None:
      image = change(image)
    return LoadedImage(
      id=image_id,
      path=path,
      bytes=len(content),
      mtime_ns=mtime_ns,
      sha256=hashlib.sha256(content).hexdigest(),
      original=image.shape[:2],
      fitted=fit_image(image, protocol),
    )
  except UnreadableImageError as error:
    return SkippedImage(image_id, error.reason)
  except (OSError, ValueError) as error:
    return SkippedImage(image_id, describe(error))


def load_images(
  listing: Listing, ids: Iterable[str], protocol: Protocol, threads: int, ahead: int
) -> Iterator[LoadedImage | SkippedImage]:
  """Loads images in the order of `ids`; see `map_on_threads`."""
  return map_on_threads(lambda image_id: load_image(listing, image_id, protocol), ids, threads, ahead)


def map_on_threads(load: Callable[[str], Any], ids: Iterable[str], threads: int, ahead: int) -> Iterator[Any]:
  """What `load` gives for each id, in their order; see `read_on_threads`."""
  return read_on_threads(grain.MapDataset.source(list(ids)).map(load), threads, ahead)


def read_on_threads(data: grain.MapDataset, threads: int, ahead: int) -> Iterator[Any]:
  """The items of a data set on `threads` threads, at most `ahead` of them before they are asked for.

  The threads end with the iterator, also when it is closed early.
  """
  iterator = iter(data.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)))
  try:
    yield from iterator
  finally:
    iterator.close()


def fill_batches(
  items: Iterable[LoadedImage | SkippedImage], batch_size: int, skipped: list[SkippedImage]
) -> Iterator[Batch]:
  """Sorts images by canvas and gives each batch as soon as it is full, the incomplete ones at the end.

  Args:
    items: of `load_images`.
    batch_size: places in a batch.
    skipped: takes what could not be read.
  """
  waiting: dict[Size, list[LoadedImage]] = {}
  for item in items:
    if isinstance(item, SkippedImage):
      skipped.append(item)
      continue
    files = waiting.setdefault(item.fitted.canvas, [])
    files.append(item)
    if len(files) == batch_size:
      yield _batch(waiting.pop(item.fitted.canvas), batch_size)
  for canvas in sorted(waiting):
    yield _batch(waiting[canvas], batch_size)


def _batch(files: list[LoadedImage], batch_size: int) -> Batch:
  images, sizes = stack([file.fitted for file in files], files[0].fitted.canvas, batch_size)
  return Batch(tuple(file._replace(fitted=None) for file in files), images, sizes)
