"""Images of a folder, of a list file or of a tar file, loaded alike: a training pool often is one tar.

    pool = open_images("imagenet_samples.tar")
    for batch in fill_batches(load_source(pool, pool.ids, protocol, threads=2, ahead=8), 4, skipped):
      ...
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.images.decoding import EXTENSIONS
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.images.loading import LoadedImage, SkippedImage, load_content, load_image, map_on_threads
from cwf_jax.images.tar import list_tar
from cwf_jax.problems import count_of
from cwf_jax.protocol import Protocol


@dataclasses.dataclass(frozen=True, eq=False)
class Archive:
  """The images of an uncompressed tar file.

  Attributes:
    root: the tar file's path.
    ids: the members' names, sorted, each once.
    read: gives the contents of the member of that name, from any thread.
  """

  root: str
  ids: tuple[str, ...]
  read: Callable[[str], bytes]


ImageSource = Listing | Archive
"""What `open_images` gives; both have `root` and `ids`."""


def open_images(source: str | os.PathLike) -> ImageSource:
  """Finds the images of a folder, of a list file (.txt, .lst, .list) or of an uncompressed tar file (.tar).

  Raises:
    InputError: there is no such path, it is none of the three, cannot be read, holds no image, or has images that cannot be
      listed (their names are not UTF-8, or they are links inside a tar).
  """
  path = Path(source)
  if path.suffix.lower() != ".tar" or path.is_dir():
    found: ImageSource = list_images(path, include_hidden=True)
    skipped = found.skipped
  else:
    try:
      names, _, skipped, reader = list_tar(path, EXTENSIONS)
    except OSError as error:
      raise InputError(f"the tar {printable(path)} cannot be read: {reason_of(error)}") from None
    if not names and not skipped:
      raise InputError(f"there are no images in {printable(path)}: no file in it ends in {', '.join(sorted(EXTENSIONS))}")
    place = {name: row for row, name in enumerate(names)}
    found = Archive(os.fspath(path), tuple(sorted(names)), lambda name: reader(place[name]))
  if skipped:
    name, reason = skipped[0]
    images = count_of(skipped, "image", "images")
    raise InputError(f"{images} of {printable(path)} cannot be listed, the first is {name}: {reason}")
  return found


def load_source(
  source: ImageSource,
  ids: Iterable[str],
  protocol: Protocol,
  threads: int,
  ahead: int,
  change: Callable[[str], Callable[[np.ndarray], np.ndarray] | None] = lambda _: None,
) -> Iterator[LoadedImage | SkippedImage]:
  """As `load_images`, from either kind of source; a tar's images have 0 as their time of change.

  `change` gives, for an id, what is done to its upright pixels before they are resized.
  """

  def load(name: str) -> LoadedImage | SkippedImage:
    if isinstance(source, Listing):
      return load_image(source, name, protocol, change(name))
    return load_content(name, os.path.join(source.root, name), lambda: (source.read(name), 0), protocol, change(name))

  return map_on_threads(load, ids, threads, ahead)
