"""Decoded images of pools, kept in memory as far as there is room."""

import threading
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cwf_jax.images.decoding import UnreadableImageError, decode_image, resize_image
from cwf_jax.images.files import describe
from cwf_jax.images.loading import SkippedImage
from cwf_jax.labelled.pool import Pool

Pixels = UInt8[np.ndarray, "h w 3"]


class CachedImages:
  """Loads images, from any thread; the result does not depend on what is kept."""

  def __init__(self, cache_bytes: int):
    """At most `cache_bytes` of pixels are kept."""
    self._cache = _Cache(cache_bytes)
    self._skipped: dict[tuple[Pool, int], SkippedImage] = {}

  @property
  def skipped(self) -> tuple[SkippedImage, ...]:
    """Images that turned out to be unreadable so far, each once, sorted."""
    return tuple(sorted(set(self._skipped.copy().values())))

  def load(self, pool: Pool, index: int, side: int | None) -> Pixels | None:
    """An upright image; None where it cannot be read, which is noted and not tried again.

    Args:
      pool: where it is.
      index: its place there.
      side: an image whose longer side is longer is shrunk to it; None: the image as it is, which is not kept.
    """
    if (pool, index) in self._skipped:
      return None
    pixels = self._cache.get((pool, index, side))
    if pixels is None:
      try:
        pixels = decode_image(pool.read(index))
      except (UnreadableImageError, OSError) as error:
        self._skipped[pool, index] = SkippedImage(pool.names[index], reason_why(error))
        return None
      if side is not None:
        pixels = _shrink(pixels, side)
        self._cache.put((pool, index, side), pixels)
    return pixels


def reason_why(error: UnreadableImageError | OSError) -> str:
  """Why an image of a pool cannot be read, without its name."""
  return error.reason if isinstance(error, UnreadableImageError) else describe(error)


class _Cache:
  """Keeps arrays until it is full, and then those: of images in random order none is worth more than another."""

  def __init__(self, limit: int):
    self._limit, self._used = limit, 0
    self._kept: dict[Any, np.ndarray] = {}
    self._lock = threading.Lock()

  def get(self, key: Any) -> np.ndarray | None:
    return self._kept.get(key)

  def put(self, key: Any, value: np.ndarray) -> None:
    with self._lock:
      if key not in self._kept and self._used + value.nbytes <= self._limit:
        self._kept[key] = value
        self._used += value.nbytes


def _shrink(pixels: Pixels, side: int) -> Pixels:
  height, width = pixels.shape[:2]
  longer = max(height, width)
  if longer <= side:
    return pixels
  return resize_image(pixels, max(1, round(height * side / longer)), max(1, round(width * side / longer)))
