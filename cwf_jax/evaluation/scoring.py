"""A benchmark's queries scored against its images by one system: passes, whitening, descriptors, inner products.

    scorer = Scorer(benchmark, encoder, settings, "results/vectors", pool)
    scorer.make_passes([("raw", True), ("ona", True)])
    scorer.score("ona", True).scores    # [q n]
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cwf_jax.datasets.benchmark import Benchmark
from cwf_jax.encoder import Encoder
from cwf_jax.evaluation.descriptors import describe, score, score_online
from cwf_jax.evaluation.fitting import Fit, Fits
from cwf_jax.extraction.distractors import Maker, SeenDescriptors
from cwf_jax.extraction.passes import IDS, Column, pooled_column
from cwf_jax.extraction.seeing import SeenImages, SeenQueries, listed_classes, own_classes
from cwf_jax.extraction.vectors import ALL, Chosen
from cwf_jax.images.image_set import ImageSet
from cwf_jax.keys import hash_sources, make_key
from cwf_jax.models.parameters import hash_arrays
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import SYSTEMS

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], Any]]]
"""Opens a bar of that unit; what it gives is called with (done, to do)."""


_SHOWN = 5
"""Ids of images whose descriptor is zero or not finite that are told."""


class Scored(NamedTuple):
  """A system's queries against the database.

  Attributes:
    scores: of each query and image; distractors come after the database.
    own_scores: of each query's descriptor with itself: 1, or 0 where it is zero.
    dimensions: of the descriptors.
    zero, not_finite: descriptors of the database; online, of a query and an image each.
    odd_queries: those that are zero or not finite.
    odd: the ids of the first images whose descriptor is.
    unreadable: ids of distractors that are left out.
  """

  scores: Float[np.ndarray, "q n"]
  own_scores: Float[np.ndarray, "q"]
  dimensions: int
  zero: int
  not_finite: int
  odd_queries: int
  odd: tuple[str, ...] = ()
  unreadable: tuple[str, ...] = ()


class Scorer:
  """What forward passes give of a benchmark, and what systems make of it.

  Attributes:
    seconds: spent on passes, by what they were of.
    unreadable: distractors that cannot be read, with reasons; they are left out.
  """

  def __init__(
    self,
    benchmark: Benchmark,
    encoder: Encoder,
    settings: Settings,
    folder: str | os.PathLike,
    pool: ImageSet | None = None,
    distractors: ImageSet | None = None,
    classes: tuple[int, ...] | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
  ):
    """Nothing is computed yet.

    Args:
      benchmark: what is ranked.
      encoder: whose passes feed all systems.
      settings: of the evaluation.
      folder: keeps vectors.
      pool: images that whitenings are fitted on; None: the encoder's own whitens class vectors.
      distractors: images that are ranked with the database.
      classes: of the fixed list; None: the most frequent among the queries' own.
      batch_size: images on the device at a time; None means what indexing takes.
      progress: of passes.
    """
    self.seconds: dict[str, float] = {}
    self._benchmark, self._encoder, self._settings, self._classes = benchmark, encoder, settings, classes
    self._progress = progress or (lambda _: contextlib.nullcontext(lambda done, total: None))
    boxed = {query.image for query in benchmark.queries if query.box is not None}
    stretched = boxed & set(benchmark.database) if settings.query_images == "stretched" else set()
    images = ImageSet(benchmark.name, benchmark.listing, benchmark.images, frozenset(stretched))
    self._images = SeenImages(images, encoder, settings, folder, batch_size)
    self._queries = SeenQueries(benchmark, encoder, settings, folder)
    self._pool = None if pool is None else SeenImages(pool, encoder, settings, folder, batch_size)
    self._others = None if distractors is None else SeenDescriptors(distractors, encoder, settings, folder, batch_size)
    self._own = own_classes(encoder, settings)
    self._fits = Fits(self._pool, encoder, settings, folder)
    place = {image_id: row for row, image_id in enumerate(images.ids)}
    self._rows = np.asarray([place[image_id] for image_id in benchmark.database])

  @property
  def images(self) -> ImageSet:
    """The images that are encoded whole."""
    return self._images.images

  @property
  def query_signatures(self) -> dict[str, tuple[int, int]]:
    """What tells that the images of the queries with a box are what they were."""
    return self._queries.signatures

  @property
  def unreadable(self) -> tuple[str, ...]:
    """Distractors that cannot be read: they are left out."""
    return () if self._others is None else tuple(f"{name}: {why}" for name, why in sorted(self._others.unreadable.items()))

  # Passes: of the queries first, since online systems need the vectors of their classes; of distractors last, of which
  # descriptors alone are kept, whitened.

  def make_passes(self, rows: Sequence[tuple[str, bool]]) -> None:
    """Makes the passes of rows, each a system and whether it is whitened, as far as they are not there yet.

    Raises:
      OSError: there is no room for what is kept.
      InputError: an image cannot be read.
    """
    if not rows:
      return
    names = tuple(dict.fromkeys(name for name, _ in rows))
    by_class = {SYSTEMS[name].classes for name in names} - {None}
    own = (self._own,) if by_class else ()
    of_queries = (*own, listed_classes(self._encoder, self._settings, None)) if "listed" in by_class else own
    self._pass("passes of queries", self._queries, names, of_queries)
    listed = (*([self._wanted()] if "query" in by_class else []), *([self._listed()] if "listed" in by_class else []))
    self._pass(f"passes of {self.images.name}", self._images, names, (*own, *listed))
    if self._pool is not None and any(whitened for _, whitened in rows):
      whitened_names = tuple(dict.fromkeys(name for name, whitened in rows if whitened))
      self._pass(f"passes of {self._pool.images.name}", self._pool, whitened_names, own)
    if self._others is not None:
      able = [(name, whitened) for name, whitened in rows if SYSTEMS[name].classes != "query"]
      able = [(name, whitened) for name, whitened in able if not whitened or self.fit(name).whitening is not None]
      made = {self._row_column(*row): self._maker(*row) for row in able}
      self._pass(f"passes of {self._others.images.name}", self._others, made)

  def _pass(self, unit: str, seen, *wanted) -> None:
    total, done, started = seen.count_missing(*wanted), 0, time.monotonic()
    if not total:
      return
    with self._progress(unit) as progress:

      def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

      try:
        seen.compute(*wanted, count)
      finally:
        self.seconds[unit] = self.seconds.get(unit, 0.0) + time.monotonic() - started

  # What is read.

  def _wanted(self) -> Column:
    """Of the database, the classes of all queries; all classes where a query has no box, since it is an image as all are."""
    every = len(self._queries) < len(self._benchmark.queries)
    return listed_classes(self._encoder, self._settings, None if every else np.unique(self._query_classes()))

  def _listed(self) -> Column:
    """Of the database, the classes of which the fixed list is a part."""
    wanted = self._wanted()
    if len(wanted.listed) == len(self._encoder.settings.classes) or set(self.fixed_classes()) <= set(wanted.listed):
      return wanted
    return listed_classes(self._encoder, self._settings, self.fixed_classes())

  def _query_classes(self) -> Int[np.ndarray, "q c"]:
    """Each query's most probable classes, as many as are summed."""
    return self._of_queries("ofa", self._own.name + IDS, slice(self._settings.num_classes))

  def _of_queries(self, name: str, column: str, chosen: Chosen = ALL) -> np.ndarray:
    """A column of every query: of its box, or of its image where it has none."""
    boxed = iter(self._queries.read(name, column, chosen) if len(self._queries) else ())
    found = {}
    if len(self._queries) < len(self._benchmark.queries):
      wanted = {query.image for query in self._benchmark.queries if query.box is None}
      images = self.images.ids
      for places, rows in self._images.read(name, column, chosen):
        pairs = zip((images[place] for place in places), rows, strict=True)
        found.update((image, row) for image, row in pairs if image in wanted)
    return np.stack([found[query.image] if query.box is None else next(boxed) for query in self._benchmark.queries])

  def fixed_classes(self) -> tuple[int, ...]:
    """The classes given, or those that most queries have among their most probable ones; the first of equals by number."""
    if self._classes is not None:
      return self._classes
    counts = np.bincount(self._query_classes().ravel(), minlength=len(self._encoder.settings.classes))
    return tuple(np.argsort(-counts, kind="stable")[: self._settings.fixed_classes].tolist())

  # What is made of it.

  def fit(self, name: str) -> Fit:
    """A system's whitening: fitted on the pool, or the encoder's own."""
    return self._fits.fit(name)

  def score(self, name: str, whitened: bool) -> Scored:
    """Scores every image for every query.

    Args:
      name: of the system, whose passes are made.
      whitened: by the pool, or by the encoder's own whitening; it can be (`fit` has a whitening).
    """
    whitening = self.fit(name).whitening if whitened else None
    column, chosen = self._summed(name, self._listed)
    of_query, of_queries = self._summed(name, lambda: listed_classes(self._encoder, self._settings, None))
    vectors = self._of_queries(name, of_query.name, of_queries)
    queries = describe([(np.arange(len(vectors)), vectors)], len(vectors), whitening, self._fills(name), SYSTEMS[name].describe)
    odd = int(((queries == 0).all(1) | ~np.isfinite(queries).all(1)).sum())
    own_scores, count = (queries * queries).sum(1), len(self.images.ids)
    if SYSTEMS[name].classes == "query":
      wanted = self._wanted()
      parts = self._images.read(name, wanted.name)
      found = score_online(queries, self._query_classes(), parts, wanted.listed, count, whitening, self._fills(name))
      scores = found.scores[:, self._rows]
      return Scored(scores, own_scores, queries.shape[1], found.zero, found.not_finite, odd)
    read = self._images.read(name, column.name, chosen)
    databases = [describe(read, count, whitening, self._fills(name), SYSTEMS[name].describe)[self._rows]]
    unreadable = ()
    if self._others is not None:
      rows, unreadable = self._others.read(name, self._row_column(name, whitened))
      databases.append(rows)
    zero, not_finite = ([~rows.any(1) for rows in databases], [~np.isfinite(rows.sum(1)) for rows in databases])
    wrong = np.flatnonzero(zero[0] | not_finite[0])[:_SHOWN]
    counts = (int(sum(map(np.sum, zero))), int(sum(map(np.sum, not_finite))), odd)
    names = tuple(self._benchmark.database[row] for row in wrong)
    return Scored(score(queries, databases), own_scores, queries.shape[1], *counts, names, unreadable)

  def _fills(self, name: str) -> bool:
    """Whether a class without a vector gets that of the class before it; a place of a grid without a region never does."""
    return SYSTEMS[name].classes is not None and self._settings.empty_maps == "divided"

  def _summed(self, name: str, listed: Callable[[], Column]) -> tuple[Column, Chosen]:
    """The column that a descriptor is made of, and which of its vectors are summed; `listed` gives that of a fixed list."""
    if SYSTEMS[name].classes is None:
      return pooled_column(name, self._settings), ALL
    if SYSTEMS[name].classes == "listed":
      column = listed()
      return column, [column.listed.index(one) for one in self.fixed_classes()]
    return self._own, slice(self._settings.num_classes)

  def _maker(self, name: str, whitened: bool) -> Maker:
    """What makes a row's descriptor of a distractor."""
    column, chosen = self._summed(name, lambda: listed_classes(self._encoder, self._settings, self.fixed_classes()))
    whitening = self.fit(name).whitening if whitened else None

    def make(vectors: np.ndarray) -> np.ndarray:
      some = vectors if chosen == ALL else vectors[:, chosen]
      return describe([(np.arange(len(some)), some)], len(some), whitening, self._fills(name), SYSTEMS[name].describe)

    return Maker(name, column, make)

  def _row_column(self, name: str, whitened: bool) -> str:
    """The name of a row's descriptors: another whitening or another list has another."""
    classes, settings, origin, summed = SYSTEMS[name].classes, self._settings, None, None
    if classes is not None:
      summed = self.fixed_classes() if classes == "listed" else settings.num_classes
    if whitened and self._pool is not None:
      # Not of its arrays: the same fit has other last digits where sums are taken in another order.
      fitted_on = [self._pool.images.digest, None if classes is None else settings.n_pca]
      origin = [*fitted_on, settings.eigenvalue_floor, settings.dimensions]
    elif whitened:
      origin = hash_arrays(vars(self.fit(name).whitening))
    code = hash_sources("ops", "evaluation/fitting.py", "evaluation/descriptors.py")
    return f"{name}-{make_key(origin, summed, SYSTEMS[name].column(name, settings), code)[:16]}"
