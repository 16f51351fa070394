"""Whitenings that are fitted on kept vectors, and kept.

    fits = Fits(seen, encoder, settings, "results/vectors")
    fits.fit("raw").whitening
"""

import io
import os
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cwf_jax.encoder import Encoder
from cwf_jax.evaluation.descriptors import Parts
from cwf_jax.extraction.passes import pooled_column, protocol_of
from cwf_jax.extraction.seeing import SeenImages, own_classes, vector_key
from cwf_jax.extraction.vectors import ALL, DAMAGED
from cwf_jax.files import write_whole
from cwf_jax.keys import hash_sources, make_key
from cwf_jax.ops.whitening import EIGENVALUE_FLOOR, VECTORS_PER_DIMENSION, Moments, TooFewVectorsError, Whitening
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import SYSTEMS


class Fit(NamedTuple):
  """A whitening and what it was fitted on.

  Attributes:
    whitening: None where there were too few vectors, or all alike.
    vectors: that it was fitted on.
    left_out: vectors that are zero or not finite.
    capped_by: what leaves it fewer dimensions than wanted; empty where it has as many.
  """

  whitening: Whitening | None
  vectors: int
  left_out: int
  capped_by: str = ""

  def with_cap(self, wanted: int) -> "Fit":
    """Returns the fit with `capped_by` set where it has fewer than `wanted` dimensions."""
    if self.whitening is None or self.whitening.projection.shape[1] >= wanted:
      return self
    channels, dimensions = self.whitening.projection.shape
    if dimensions == channels:
      return self._replace(capped_by=f"{channels} channels")
    by_vectors = f"{self.vectors} vectors ({VECTORS_PER_DIMENSION} for each)"
    return self._replace(capped_by=by_vectors if self.vectors else "the checkpoint's whitening")


def fit_whitening(parts: Parts, dimensions: int, floor: float = EIGENVALUE_FLOOR, zeros_are_odd: bool = True) -> Fit:
  """Fits on all vectors of all images, to `dimensions` or as many as they bear (`Moments.fit_supported`).

  Args:
    parts: of all images.
    dimensions: at most.
    floor: of eigenvalues.
    zeros_are_odd: zero vectors are counted among those left out; of R-MAC's they are places without a region.
  """
  moments, left_out = None, 0
  for _, vectors in parts:
    rows = np.asarray(vectors, np.float32).reshape(-1, vectors.shape[-1])
    there, finite = (rows != 0).any(1), np.isfinite(rows).all(1)
    moments = Moments.zero(rows.shape[1]) if moments is None else moments
    moments.add(rows[there & finite])
    left_out += int((~finite | (~there & zeros_are_odd)).sum())
  if moments is None:
    return Fit(None, 0, 0)
  try:
    whitening = moments.fit_supported(dimensions, floor)
  except TooFewVectorsError:
    whitening = None
  return Fit(whitening, moments.count, left_out)


def _read_fit(file: Path) -> Fit | None:
  """A fit that was kept; None where there is none, or a damaged one."""
  try:
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
      mean, projection, counts = (arrays[name] for name in ("mean", "projection", "counts"))
  except DAMAGED:
    return None
  whitening = Whitening(jnp.asarray(mean), jnp.asarray(projection)) if projection.size else None
  return Fit(whitening, int(counts[0]), int(counts[1]))


def _write_fit(file: Path, fit: Fit) -> None:
  """Keeps a fit, in one step."""
  content, whitening = io.BytesIO(), fit.whitening
  empty = np.zeros((0, 0), np.float32)
  mean, projection = (empty, empty) if whitening is None else (np.asarray(whitening.mean), np.asarray(whitening.projection))
  np.savez(content, mean=mean, projection=projection, counts=np.asarray([fit.vectors, fit.left_out]))
  write_whole(file, content.getbuffer())


class Fits:
  """The whitenings of systems, each fitted once."""

  def __init__(self, pool: SeenImages | None, encoder: Encoder, settings: Settings, folder: str | os.PathLike):
    """Nothing is fitted yet.

    Args:
      pool: the images to fit on, whose passes are made; None: class vectors are whitened by the encoder's own.
      encoder: whose passes they are.
      settings: of the evaluation.
      folder: keeps what was fitted.
    """
    self._pool, self._encoder, self._settings, self._folder = pool, encoder, settings, Path(folder)
    self._fits: dict[str, Fit] = {}

  def fit(self, name: str) -> Fit:
    """A system's whitening: fitted on the pool, or the encoder's own.

    Raises:
      OSError: there is no room for it.
    """
    wanted = self._settings.dimensions
    if self._pool is None:
      own = self._encoder.whitening
      return Fit(own.keep_first(wanted) if wanted else own, 0, 0).with_cap(wanted)
    system, floor = SYSTEMS[name], self._settings.eigenvalue_floor
    wanted = wanted or system.dimensions
    column, chosen, first = pooled_column(name, self._settings), ALL, 0
    if system.classes is not None:
      column, chosen, first = own_classes(self._encoder, self._settings), slice(self._settings.n_pca), self._settings.n_pca
    passes = vector_key(self._encoder, protocol_of(name, self._encoder, self._settings), {})
    options = (wanted, floor, not system.regions)
    code = hash_sources("ops/whitening.py", "evaluation/fitting.py")
    key = make_key(passes, self._pool.images.digest, column.name, first, options, code)
    if key not in self._fits:
      # Kept, since sums in another order end in other digits, and distractors' descriptors were made by it.
      file = self._folder / f"fit-{key[:32]}.npz"
      found = _read_fit(file)
      if found is None:
        found = fit_whitening(self._pool.read(name, column.name, chosen), *options)
        _write_fit(file, found)
      self._fits[key] = found.with_cap(wanted)
    return self._fits[key]
