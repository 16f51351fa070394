"""The images of an evaluation: where they are, what tells that they are what they were, and what is done to their pixels."""

import dataclasses
import errno
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from cwf_jax.images.loading import LoadedImage, SkippedImage
from cwf_jax.images.sources import Archive, ImageSource, load_source
from cwf_jax.protocol import Protocol

Signature = tuple[int, int]
"""What tells that a file is what it was: its bytes, and when it was last changed in ns."""


@dataclasses.dataclass(frozen=True)
class ImageSet:
  """Some images of a folder, list or tar.

  Attributes:
    name: of the set.
    source: where they are.
    ids: which, sorted.
    stretched: those whose contrast is stretched to 0-255 (METHOD 7.17).
  """

  name: str
  source: ImageSource
  ids: tuple[str, ...]
  stretched: frozenset[str] = frozenset()

  @property
  def root(self) -> str:
    """The folder or the tar."""
    return self.source.root

  @functools.cached_property
  def signatures(self) -> dict[str, Signature]:
    """Of each image; those of a tar have the tar's, and one whose file is gone has (-1, -1), as no file has."""
    if isinstance(self.source, Archive):
      return dict.fromkeys(self.ids, sign(self.source.root))
    return {name: _sign_if_there(self.source.path(name)) for name in self.ids}

  @functools.cached_property
  def digest(self) -> str:
    """Of place, names and signatures: what is computed from the set depends on it."""
    content = json.dumps([self.root, list(self.signatures.items()), sorted(self.stretched)])
    return hashlib.sha256(content.encode()).hexdigest()

  def load(self, ids: Sequence[str], protocol: Protocol, threads: int, ahead: int) -> Iterator[LoadedImage | SkippedImage]:
    """Loads some of the images on threads, resized by `protocol`."""
    return load_source(self.source, ids, protocol, threads, ahead, self._change)

  def _change(self, image_id: str):
    return stretch_contrast if image_id in self.stretched else None


def stretch_contrast(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
  """The least value of the image becomes 0 and the largest 255, as SciPy's `imresize` did to floats."""
  least, largest = int(pixels.min()), int(pixels.max())
  scale = 255.0 / max(largest - least, 1)
  return np.clip((pixels.astype(np.float64) - least) * scale + 0.5, 0, 255).astype(np.uint8)


def _sign_if_there(path: str) -> Signature:
  try:
    return sign(path)
  except OSError as error:
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
      raise
    return -1, -1  # a link that leads nowhere; it is told, or left out, where it is read


def sign(path: str) -> Signature:
  """A file's bytes and the time of its last change."""
  found = os.stat(path)
  return found.st_size, found.st_mtime_ns
