"""An evaluation: forward passes, whitening on other images, rankings, scores; each part kept, so that none is made twice.

    experiment = Experiment(benchmark, encoder, settings, "results", whitened_by=paris)
    for row in experiment.make_rows(["raw", "ofa"]):
      print(row.name, np.nanmean(row.values["mAP"]))

Vectors are kept by image and by what they depend on, a finished row by all that it depends on. A run that was interrupted goes
on where it was; one with another whitening or another order of ties makes no pass anew.
"""

import collections
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cwf_jax.encoder import Encoder
from cwf_jax.evaluation.benchmark import Benchmark
from cwf_jax.evaluation.cells import CellStore, Row
from cwf_jax.evaluation.descriptors import Fit, describe, fit_whitening, score, score_online
from cwf_jax.evaluation.images import ImageSet
from cwf_jax.evaluation.passes import IDS, Column
from cwf_jax.evaluation.places import find_places, shuffled_order
from cwf_jax.evaluation.seeing import (
  SeenImages,
  SeenQueries,
  digest_of,
  listed_classes,
  own_classes,
  pooled_column,
  protocol_of,
  vector_key,
)
from cwf_jax.evaluation.settings import Settings
from cwf_jax.evaluation.systems import SYSTEMS
from cwf_jax.evaluation.vectors import ALL, Chosen
from cwf_jax.models.parameters import hash_arrays
from cwf_jax.models.registry import name_network

BUNDLED = "bundled"
"""In place of images to whiten by: the checkpoint's own whitening, which is one of class vectors."""

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], Any]]]
"""Opens a bar of that unit; what it gives is called with (done, to do)."""


class NotRunError(Exception):
  """A row that cannot be computed here, and why."""


class Described(NamedTuple):
  """A system's queries against the database.

  Attributes:
    scores: of each query and image; distractors come after the database.
    own_scores: of each query's descriptor with itself: 1, or 0 where it is zero.
    dimensions: of the descriptors.
    zero, not_finite: descriptors of the database; online, of a query and an image each.
    odd_queries: those that are zero or not finite.
  """

  scores: Float[np.ndarray, "q n"]
  own_scores: Float[np.ndarray, "q"]
  dimensions: int
  zero: int
  not_finite: int
  odd_queries: int


class Experiment:
  """A benchmark, an encoder and settings.

  Attributes:
    benchmark: what is ranked.
    seconds: spent by part.
  """

  def __init__(
    self,
    benchmark: Benchmark,
    encoder: Encoder,
    settings: Settings,
    folder: str | os.PathLike,
    *,
    whitened_by: ImageSet | str | None = None,
    no_whitening: str = "",
    distractors: ImageSet | None = None,
    vectors: str | os.PathLike | None = None,
    classes: tuple[int, ...] | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
  ):
    """Nothing is computed yet.

    Args:
      benchmark: what is ranked.
      encoder: whose passes feed all systems; its protocol's `image_size` is the paper's shorter side here.
      settings: of the evaluation.
      folder: keeps finished rows, and vectors.
      whitened_by: other images, `BUNDLED`, or None: nothing is whitened.
      no_whitening: why there is nothing to whiten by: rows that are whitened are not run. Empty where `whitened_by` is None
        on purpose: then they are run without whitening.
      distractors: images that are ranked with the database, and never right.
      vectors: another folder for them, that several experiments can share.
      classes: of the fixed list; None: the most frequent among the queries' own.
      batch_size: images on the device at a time; None means what indexing takes.
      progress: of passes and rows.
    """
    self.benchmark, self.seconds = benchmark, collections.defaultdict(float)
    self._encoder, self._settings = encoder, settings
    self._network = name_network(encoder.network)
    self._whitened_by, self._no_whitening = whitened_by, no_whitening
    self._distractors, self._classes = distractors, classes
    self._progress = progress or (lambda _: contextlib.nullcontext(lambda done, total: None))
    boxed = {query.image for query in benchmark.queries if query.box is not None}
    stretched = boxed & set(benchmark.database) if settings.query_images == "stretched" else set()
    images = ImageSet(benchmark.name, benchmark.listing, benchmark.images, frozenset(stretched))
    self._cells = CellStore(Path(folder) / "rows")
    vectors = Path(folder) / "vectors" if vectors is None else Path(vectors)
    self._images = SeenImages(images, encoder, settings, vectors, batch_size)
    self._queries = SeenQueries(benchmark, encoder, settings, vectors)
    self._pool = None
    if isinstance(whitened_by, ImageSet):
      self._pool = SeenImages(whitened_by, encoder, settings, vectors, batch_size)
    self._others = None if distractors is None else SeenImages(distractors, encoder, settings, vectors, batch_size)
    self._own = own_classes(encoder, settings)
    self._fits: dict[str, Fit] = {}

  def make_rows(self, names: Sequence[str]) -> Iterator[Row]:
    """Makes the rows of systems in order: `NAME`, and `NAME+pca` where whitening is optional.

    Raises:
      OSError: there is no room for what is kept.
      InputError: an image cannot be read.
    """
    wanted = [(name, whitened) for name in names for whitened in ((False, True) if SYSTEMS[name].plain else (True,))]
    kept = {pair: self._cells.find(self._key(*pair)) for pair in wanted}
    able = [name for name, whitened in wanted if kept[name, whitened] is None and not self._why_not(name, whitened)]
    self._make_passes(tuple(dict.fromkeys(able)))
    with self._progress("rows") as progress:
      for done, (name, whitened) in enumerate(wanted, 1):
        yield kept[name, whitened] or self._make_row(name, whitened)
        progress(done, len(wanted))

  def _make_row(self, name: str, whitened: bool) -> Row:
    reason = self._why_not(name, whitened)
    if reason:
      return self._describe_row(name, whitened)._replace(reason=reason)
    started = time.monotonic()
    try:
      row = self._measure(name, whitened)
    except NotRunError as error:
      return self._describe_row(name, whitened)._replace(reason=str(error))
    row = row._replace(seconds=time.monotonic() - started)
    self.seconds["rows"] += row.seconds
    self._cells.keep(self._key(name, whitened), row)
    return row

  def _why_not(self, name: str, whitened: bool) -> str:
    """The reason for which a row cannot be run; empty where it can."""
    if whitened and self._whitened_by is None and (self._no_whitening or SYSTEMS[name].plain):
      return self._no_whitening or "nothing is whitened"
    if whitened and self._whitened_by == BUNDLED and SYSTEMS[name].classes is None:
      return "the checkpoint's whitening is one of class vectors"
    if whitened and self._whitened_by == BUNDLED and self._encoder.whitening is None:
      return "the checkpoint has no whitening"
    if self._distractors is not None and SYSTEMS[name].classes in ("query", "listed"):
      return "the distractors' vectors of all classes are not kept"
    return ""

  def _describe_row(self, name: str, whitened: bool) -> Row:
    system, config = SYSTEMS[name], self._encoder.network.config
    label = f"{name}+pca" if system.plain and whitened else name
    if system.network not in ("any", self._network):
      label += f"@{self._encoder.settings.weights}"
    taps = {"features": config.feature_tap, "last": config.last_tap, "pooled": config.pooled_tap}
    protocol = protocol_of(name, self._encoder, self._settings)
    sizes = f"{protocol.size_rule.replace('_', ' ')} {protocol.image_size}"
    return Row(label, name, network=self._network, layer=taps[system.map], sizes=sizes, query=system.query_rule(self._settings))

  def _key(self, name: str, whitened: bool) -> str:
    """Of everything that a row depends on."""
    protocol = protocol_of(name, self._encoder, self._settings)
    whitening = self._whitened_by if whitened else None
    if isinstance(whitening, ImageSet):
      whitening = whitening.digest
    elif whitening == BUNDLED and self._encoder.whitening is not None:
      whitening = hash_arrays(vars(self._encoder.whitening))
    return digest_of(
      *(name, whitened, vector_key(self._encoder, protocol, self._settings.to_json())),
      *(self.benchmark.digest, self._images.images.digest, self._queries.signatures),
      whitening,
      self._distractors and self._distractors.digest,
      self._classes,
    )

  # Passes: of the queries first, since online systems need the vectors of their classes.

  def _make_passes(self, names: tuple[str, ...]) -> None:
    if not names:
      return
    by_class = [SYSTEMS[name].classes for name in names]
    everything = listed_classes(self._encoder, self._settings, None)
    own = (self._own,) if any(by_class) else ()
    self._pass("queries", self._queries, names, (*own, everything) if "listed" in by_class else own)
    listed = (self._listed(),) if "query" in by_class or "listed" in by_class else ()
    self._pass(f"images of {self.benchmark.name}", self._images, names, (*own, *listed))
    if self._pool is not None:
      self._pass(f"images of {self._pool.images.name}", self._pool, names, own)
    if self._others is not None:
      self._pass(f"images of {self._others.images.name}", self._others, names, own)

  def _pass(self, unit: str, seen: SeenImages | SeenQueries, names: tuple[str, ...], classes: tuple[Column, ...]) -> None:
    total, done, started = seen.count_missing(names, classes), 0, time.monotonic()
    if not total:
      return
    with self._progress(unit) as progress:

      def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

      try:
        seen.compute(names, classes, count)
      finally:
        self.seconds[unit] += time.monotonic() - started

  def _listed(self) -> Column:
    """The classes whose vectors the database holds: those of all queries with a box, or all."""
    if len(self._queries) < len(self.benchmark.queries):
      return listed_classes(self._encoder, self._settings, None)
    return listed_classes(self._encoder, self._settings, [*np.unique(self._query_classes()), *(self._classes or ())])

  def _query_classes(self) -> Int[np.ndarray, "q c"]:
    """Each query's most probable classes, as many as are summed."""
    return self._of_queries("ofa", self._own.name + IDS)[:, : self._settings.num_classes]

  def _of_queries(self, name: str, column: str) -> np.ndarray:
    """A column of every query: of its box, or of its image where it has none."""
    boxed = iter(self._queries.read(name, column) if len(self._queries) else ())
    plain = [query.image for query in self.benchmark.queries if query.box is None]
    found = {}
    if plain:
      images = self._images.images.ids
      for places, rows in self._images.read(name, column):
        found.update(zip((images[place] for place in places), rows, strict=True))
    return np.stack([found[query.image] if query.box is None else next(boxed) for query in self.benchmark.queries])

  # Rows.

  def _measure(self, name: str, whitened: bool) -> Row:
    row, whitening = self._describe_row(name, whitened), None
    if whitened and self._whitened_by is not None:
      fit = self._fit(name)
      whitening = fit.whitening
      if whitening is None:
        raise NotRunError(f"{fit.vectors} vectors are too few, or all alike, to whiten by")
      origin = self._whitened_by if self._pool is None else self._pool.images.name
      row = row._replace(whitened_by=origin, vectors=fit.vectors, left_out=fit.left_out)
    found = self._describe(name, whitening)
    scores = found.scores
    if self._settings.query_row == "replaced":
      own = np.flatnonzero(self.benchmark.own_rows >= 0)
      scores[own, self.benchmark.own_rows[own]] = found.own_scores[own]
    values = self.benchmark.score(find_places(scores, self.benchmark.listed, self._order(scores.shape[1])))
    listed = SYSTEMS[name].classes == "listed"
    return row._replace(
      dimensions=found.dimensions,
      zero=found.zero,
      not_finite=found.not_finite,
      odd_queries=found.odd_queries,
      values={metric: row_values.tolist() for metric, row_values in values.items()},
      classes=tuple(self._encoder.settings.classes.names[one] for one in self._fixed_list()) if listed else (),
    )

  def _order(self, count: int) -> Int[np.ndarray, "n"]:
    """Where each row comes among rows of the same score."""
    orders = {"shuffled": lambda: shuffled_order(count, self._settings.seed), "by_row": lambda: np.arange(count)}
    return orders.get(self._settings.ties, lambda: np.arange(count)[::-1])()

  def _fit(self, name: str) -> Fit:
    if self._pool is None:
      return Fit(self._encoder.whitening, 0, 0)
    key = name if SYSTEMS[name].classes is None else "ofa"
    if key not in self._fits:
      column, chosen = pooled_column(name, self._settings), ALL
      if key == "ofa":
        column, chosen = self._own, slice(self._settings.n_pca)
      parts = self._pool.read(name, column.name, chosen)
      floor = self._settings.eigenvalue_floor
      self._fits[key] = fit_whitening(parts, SYSTEMS[name].dimensions, floor, zeros_are_odd=not SYSTEMS[name].regions)
    return self._fits[key]

  def _describe(self, name: str, whitening) -> Described:
    classes, fill = SYSTEMS[name].classes, self._settings.empty_maps == "divided"
    chosen: Chosen = slice(self._settings.num_classes)
    if classes is None:
      column, chosen = pooled_column(name, self._settings), ALL
      vectors = self._of_queries(name, column.name)
    elif classes == "listed":
      ids, column = list(self._fixed_list()), self._listed()
      chosen = [column.listed.index(one) for one in ids]
      vectors = self._of_queries(name, listed_classes(self._encoder, self._settings, None).name)[:, ids]
    else:
      column = self._own
      vectors = self._of_queries(name, column.name)[:, chosen]
    queries = describe([(np.arange(len(vectors)), vectors)], len(vectors), whitening, fill)
    odd = int(((queries == 0).all(1) | ~np.isfinite(queries).all(1)).sum())
    own_scores, rows, count = (queries * queries).sum(1), self._rows_of_images(), len(self._images.images.ids)
    if classes == "query":
      listed = self._listed()
      parts = self._images.read(name, listed.name)
      found = score_online(queries, self._query_classes(), parts, listed.listed, count, whitening, fill)
      return Described(found.scores[:, rows], own_scores, queries.shape[1], found.zero, found.not_finite, odd)
    databases = [describe(self._images.read(name, column.name, chosen), count, whitening, fill)[rows]]
    if self._others is not None:
      others = self._others.read(name, column.name, chosen)
      databases.append(describe(others, len(self._others.images.ids), whitening, fill))
    zero = sum(int((rows == 0).all(1).sum()) for rows in databases)
    not_finite = sum(int((~np.isfinite(rows)).any(1).sum()) for rows in databases)
    return Described(score(queries, databases), own_scores, queries.shape[1], zero, not_finite, odd)

  def _rows_of_images(self) -> Int[np.ndarray, "n"]:
    """Of each image of the database its place among those that are encoded."""
    place = {image_id: row for row, image_id in enumerate(self._images.images.ids)}
    return np.asarray([place[image_id] for image_id in self.benchmark.database])

  def _fixed_list(self) -> tuple[int, ...]:
    """The classes given, or those that most queries have among their most probable ones; the first of equals by number."""
    if self._classes is not None:
      return self._classes
    counts = np.bincount(self._query_classes().ravel(), minlength=len(self._encoder.settings.classes))
    return tuple(np.argsort(-counts, kind="stable")[: self._settings.fixed_classes].tolist())
