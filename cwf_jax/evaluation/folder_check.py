"""Whether every image of a set can be read, found out before anything is computed from them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cwf_jax.evaluation.image_source import Archive
from cwf_jax.evaluation.images import ImageSet
from cwf_jax.images.decoding import UnreadableImageError, decode_image, read_file
from cwf_jax.images.files import describe
from cwf_jax.images.loading import map_on_threads
from cwf_jax.indexing.build import processors
from cwf_jax.writing import write_whole


def find_unreadable(
  images: ImageSet, folder: str | os.PathLike | None = None, progress: Callable[[int, int], Any] | None = None
) -> tuple[str, ...]:
  """Decodes every image, and tells what is wrong with those that cannot be: "NAME: the reason".

  Args:
    images: the set.
    folder: keeps what was found to be good, so that the same files are not decoded twice; None: nowhere.
    progress: called with (images done, images).

  Raises:
    OSError: the folder cannot be written.
  """
  mark = None if folder is None else Path(folder) / images.digest
  if mark is not None and mark.exists():
    return ()
  found = []
  for done, problem in enumerate(map_on_threads(lambda name: _try(images, name), images.ids, processors(), 64), 1):
    if problem:
      found.append(problem)
    if progress is not None:
      progress(done, len(images.ids))
  if mark is not None and not found:
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_whole(mark, f"{len(images.ids)} images of {images.root}\n".encode())
  return tuple(found)


def _try(images: ImageSet, name: str) -> str:
  try:
    source = images.source
    decode_image(source.read(name) if isinstance(source, Archive) else read_file(source.path(name)))
    return ""
  except UnreadableImageError as error:
    return f"{name}: {error.reason}"
  except (OSError, ValueError) as error:
    return f"{name}: {describe(error)}"
