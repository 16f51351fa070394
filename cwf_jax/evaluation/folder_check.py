"""Whether every image of a set can be read, found out before anything is computed from them, and what they hold."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cwf_jax.evaluation.image_source import Archive
from cwf_jax.evaluation.images import ImageSet
from cwf_jax.images.decoding import UnreadableImageError, decode_image, read_file
from cwf_jax.images.files import describe
from cwf_jax.images.loading import map_on_threads
from cwf_jax.indexing.build import processors
from cwf_jax.writing import write_whole


class Checked(NamedTuple):
  """What was found.

  Attributes:
    unreadable: what is wrong with images that cannot be decoded, in order: "NAME: the reason".
    sha256: of all names and contents, in hexadecimal; it is the same wherever the files are. Empty where some cannot be read.
  """

  unreadable: tuple[str, ...]
  sha256: str


def check_images(
  images: ImageSet, folder: str | os.PathLike | None = None, progress: Callable[[int, int], Any] | None = None
) -> Checked:
  """Decodes every image.

  Args:
    images: the set.
    folder: keeps what was found to be good, so that the same files are not decoded twice; None: nowhere.
    progress: called with (images done, images).

  Raises:
    OSError: the folder cannot be written.
  """
  mark = None if folder is None else Path(folder) / images.digest
  kept = None if mark is None else _read_mark(mark)
  if kept is not None:
    return Checked((), kept)
  found, content = [], hashlib.sha256()
  checked = map_on_threads(lambda name: _check(images, name), images.ids, processors(), 64)
  for done, (name, (problem, digest)) in enumerate(zip(images.ids, checked, strict=True), 1):
    content.update(f"{digest} {name}\n".encode("utf-8", "surrogatepass"))
    if problem:
      found.append(f"{name}: {problem}")
    if progress is not None:
      progress(done, len(images.ids))
  if found:
    return Checked(tuple(found), "")
  if mark is not None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_whole(mark, content.hexdigest().encode())
  return Checked((), content.hexdigest())


def _read_mark(mark: Path) -> str | None:
  """The digest of images that were found to be good."""
  try:
    digest = mark.read_text()
  except (OSError, UnicodeDecodeError):
    return None
  return digest if len(digest) == 64 else None


def _check(images: ImageSet, name: str) -> tuple[str, str]:
  """What is wrong with an image, and the digest of its content."""
  source = images.source
  try:
    content = source.read(name) if isinstance(source, Archive) else read_file(source.path(name))
    digest = hashlib.sha256(content).hexdigest()
    decode_image(content)
    return "", digest
  except UnreadableImageError as error:
    return error.reason, ""
  except (OSError, ValueError) as error:
    return describe(error), ""
