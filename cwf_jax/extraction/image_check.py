"""Whether every image of a set can be read, found out before anything is computed from them, and what they hold."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from cwf_jax.extraction.vectors import Signature
from cwf_jax.files import write_whole
from cwf_jax.images.decoding import UnreadableImageError, decode_image, read_file
from cwf_jax.images.files import describe
from cwf_jax.images.image_set import ImageSet
from cwf_jax.images.loading import map_on_threads
from cwf_jax.images.sources import Archive
from cwf_jax.keys import hash_sources, make_key
from cwf_jax.runtime import processors

_SECONDS = 30.0
"""What was found is written so often, so that an interrupted check goes on where it was."""


class Checked(NamedTuple):
  """What was found.

  Attributes:
    unreadable: what is wrong with images that cannot be decoded, in order: "NAME: the reason".
    contents: of each image that can be, SHA-256 of its file, in hexadecimal.
  """

  unreadable: tuple[str, ...]
  contents: Mapping[str, str]

  @property
  def sha256(self) -> str:
    """Of all names and contents: the same wherever the files are. Empty where some cannot be read."""
    if self.unreadable:
      return ""
    lines = "".join(f"{digest} {name}\n" for name, digest in self.contents.items())
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()


def check_images(
  images: ImageSet, folder: str | os.PathLike | None = None, progress: Callable[[int, int], Any] | None = None
) -> Checked:
  """Decodes every image.

  Args:
    images: the set.
    folder: keeps what was found to be good, so that a file of the same length and time of change is not decoded twice by the
      same decoder, and a check that was interrupted goes on where it was; None: nowhere.
    progress: called with (images done, images), where there is any to decode.

  Raises:
    OSError: the folder cannot be written.
  """
  decoder = make_key(images.root, hash_sources("images"), version("pillow"))
  mark = None if folder is None else Path(folder) / f"{decoder[:16]}.json"
  kept = {} if mark is None else _read_mark(mark)
  signatures = images.signatures
  good = {name: digest for name in images.ids if (digest := kept.get((name, *signatures[name]), ""))}
  wanted = [name for name in images.ids if name not in good]
  wrong: list[str] = []
  checked = map_on_threads(lambda name: _check(images, name), wanted, processors(), 64)
  written, is_new = time.monotonic(), False
  try:
    for done, (name, (problem, digest)) in enumerate(zip(wanted, checked, strict=True), len(good) + 1):
      if problem:
        wrong.append(f"{name}: {problem}")
      else:
        good[name] = kept[name, *signatures[name]] = digest
        is_new = True
      if mark is not None and is_new and time.monotonic() - written > _SECONDS:
        _write_mark(mark, kept)
        written, is_new = time.monotonic(), False
      if progress is not None:
        progress(done, len(images.ids))
  finally:
    if mark is not None and is_new:
      _write_mark(mark, kept)
  return Checked(tuple(wrong), {name: good[name] for name in images.ids if name in good})


def _read_mark(mark: Path) -> dict[tuple[str, *Signature], str]:
  """The digests of files that were found to be good, by name and signature; none where there is none, or a damaged one."""
  try:
    return {(name, size, changed): digest for name, size, changed, digest in json.loads(mark.read_bytes())}
  except (OSError, ValueError, TypeError):
    return {}


def _write_mark(mark: Path, kept: Mapping[tuple[str, *Signature], str]) -> None:
  newest = {name: [name, size, changed, digest] for (name, size, changed), digest in kept.items()}
  mark.parent.mkdir(parents=True, exist_ok=True)
  write_whole(mark, json.dumps(list(newest.values())).encode())


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
