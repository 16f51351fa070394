"""An evaluation: forward passes, whitening on other images, rankings, scores; each part kept, so that none is made twice.

    experiment = Experiment(benchmark, encoder, settings, "results", whitened_by=paris)
    for row in experiment.make_rows(["raw", "ofa"]):
      print(row.name, np.nanmean(row.values["mAP"]))

Vectors are kept by image and by what they depend on, a finished row by all that it depends on. A run that was interrupted goes
on where it was; one with another whitening or another order of ties makes no pass anew.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cwf_jax.datasets.benchmark import Benchmark
from cwf_jax.encoder import CHANGED, Encoder
from cwf_jax.errors import InputError
from cwf_jax.evaluation.rows import CellStore, Row
from cwf_jax.evaluation.scoring import Progress, Scorer
from cwf_jax.extraction.image_check import check_images
from cwf_jax.extraction.passes import protocol_of
from cwf_jax.extraction.seeing import vector_key
from cwf_jax.extraction.vectors import DamagedVectorsError
from cwf_jax.images.image_set import ImageSet
from cwf_jax.keys import hash_sources, make_key
from cwf_jax.metrics.ranks import find_places, shuffled_order
from cwf_jax.models.parameters import hash_arrays
from cwf_jax.models.registry import name_network
from cwf_jax.ops.whitening import VECTORS_PER_DIMENSION
from cwf_jax.runtime import default_batch_size, describe_run
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import IMAGE, SYSTEMS

BUNDLED = "bundled"
"""In place of images to whiten by: the checkpoint's own whitening, which is one of class vectors."""


RANKING = ("ops", "metrics", "datasets", "extraction", "evaluation")
"""The code that makes rows of vectors: stored rows of another version of it are not used."""

_MENDINGS = 20
"""How often kept vectors are made anew for a row, at most; each size of each set has a store, and is mended at once."""


class NotRunError(Exception):
  """A row that cannot be computed here, and why."""


class Experiment:
  """A benchmark, an encoder and settings.

  Attributes:
    benchmark: what is ranked.
    made: when, and by which versions and on which device, this run makes rows.
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
    if encoder.settings.weights_sha256 == CHANGED:
      raise InputError("the encoder's network was replaced: save it as a checkpoint and load that, so that it has a name")
    self.benchmark, self._encoder, self._settings, self._classes = benchmark, encoder, settings, classes
    own = encoder.settings
    self.made = describe_run(own.dtype, batch_size or default_batch_size(own.protocol))
    self._whitened_by, self._no_whitening, self._distractors = whitened_by, no_whitening, distractors
    self._progress = progress or (lambda _: contextlib.nullcontext(lambda done, total: None))
    self._network, self._cells = name_network(encoder.network), CellStore(Path(folder) / "rows")
    pool = whitened_by if isinstance(whitened_by, ImageSet) else None
    vectors = Path(folder) / "vectors" if vectors is None else vectors
    self._scorer = Scorer(benchmark, encoder, settings, vectors, pool, distractors, classes, batch_size, progress)
    self._seconds = 0.0
    self._lacking: dict[tuple[str, ...], bool] = {(): True}

  @property
  def seconds(self) -> dict[str, float]:
    """Spent by part, in this run."""
    return {**self._scorer.seconds, "rows": self._seconds}

  @property
  def unreadable(self) -> tuple[str, ...]:
    """Distractors that cannot be read: they are left out."""
    return self._scorer.unreadable

  def make_rows(self, names: Sequence[str]) -> Iterator[Row]:
    """Makes the rows of systems in order: `NAME`, and `NAME+pca` where whitening is optional.

    Raises:
      OSError: there is no room for what is kept.
      InputError: an image cannot be read.
    """
    wanted = [(name, whitened) for name in names for whitened in ((False, True) if SYSTEMS[name].plain else (True,))]
    kept = {pair: self._find(*pair) for pair in wanted}
    able = [pair for pair in wanted if kept[pair] is None and not self._why_not(*pair)]
    self._mended(lambda: self._make_passes(able))
    with self._progress("rows") as progress:
      for done, (name, whitened) in enumerate(wanted, 1):
        found = kept[name, whitened]
        yield self._make_row(name, whitened) if found is None else found
        progress(done, len(wanted))

  def find_kept(self, but: Sequence[str]) -> tuple[Row, ...]:
    """The rows of all other systems than those named that an earlier run has kept: they depend on the same as this one's."""
    found = []
    for name, system in SYSTEMS.items():
      for whitened in (False, True) if system.plain else (True,):
        if name not in but and (row := self._find(name, whitened)):
          found.append(row)
    return tuple(found)

  def _make_passes(self, rows: Sequence[tuple[str, bool]]) -> None:
    self._scorer.make_passes([(name, whitened and self._whitened_by is not None) for name, whitened in rows])

  def _mended(self, act: Callable[[], Any]) -> Any:
    """What `act` gives; where it meets kept vectors that are damaged, which then are gone, it is done anew."""
    for _ in range(_MENDINGS):
      with contextlib.suppress(DamagedVectorsError):
        return act()
    return act()

  def _make_row(self, name: str, whitened: bool) -> Row:
    reason = self._why_not(name, whitened)
    if reason:
      return self._describe_row(name, whitened)._replace(reason=reason)
    started = time.monotonic()
    try:
      row = self._mended(lambda: (self._make_passes([(name, whitened)]), self._measure(name, whitened))[1])
    except NotRunError as error:
      return self._describe_row(name, whitened)._replace(reason=str(error))
    row = row._replace(seconds=time.monotonic() - started, made=self.made)
    self._seconds += row.seconds
    self._cells.keep(self._key(name, whitened), row)
    return row

  def _find(self, name: str, whitened: bool) -> Row | None:
    """A kept row, under the names that weights and pool have in this run: it depends on their content alone."""
    row = None if self._why_not(name, whitened) else self._cells.find(self._key(name, whitened))
    if row is None or not self._are_unreadable(row.unreadable):
      return None
    return row._replace(name=self._describe_row(name, whitened).name, whitened_by=self._origin if row.whitened_by else "")

  def _are_unreadable(self, ids: tuple[str, ...]) -> bool:
    """Whether the distractors that a row lacks are still lacking: what could not be read may be there the next time."""
    if ids not in self._lacking:
      some = self._distractors and dataclasses.replace(self._distractors, ids=ids)
      self._lacking[ids] = some is not None and len(check_images(some).unreadable) == len(ids)
    return self._lacking[ids]

  @property
  def _origin(self) -> str:
    """Where whitenings come from, by name."""
    return self._whitened_by.name if isinstance(self._whitened_by, ImageSet) else self._whitened_by or ""

  def _why_not(self, name: str, whitened: bool) -> str:
    """The reason for which a row cannot be run; empty where it can."""
    if whitened and self._whitened_by is None and (self._no_whitening or SYSTEMS[name].plain):
      return self._no_whitening or "nothing is whitened"
    if whitened and self._whitened_by == BUNDLED and self._encoder.whitening is None:
      return "the checkpoint has no whitening: whiten by other images"
    if whitened and self._whitened_by == BUNDLED and SYSTEMS[name].classes is None:
      return "the checkpoint's whitening is one of class vectors"
    if self._distractors is not None and SYSTEMS[name].classes == "query":
      return "the distractors' vectors of all classes are not kept"
    return ""

  def _describe_row(self, name: str, whitened: bool) -> Row:
    system, config = SYSTEMS[name], self._encoder.network.config
    label = f"{name}+pca" if system.plain and whitened else name
    if system.network != self._network:
      label += f"@{self._encoder.settings.weights}"
    taps = {"features": config.feature_tap, "last": config.last_tap, "pooled": config.pooled_tap}
    protocol = protocol_of(name, self._encoder, self._settings)
    sizes = f"{protocol.size_rule.replace('_', ' ')} {protocol.image_size}"
    has_boxes = any(query.box is not None for query in self.benchmark.queries)
    rule = system.query_rule(self._settings) if has_boxes else IMAGE
    return Row(label, name, network=self._network, layer=taps[system.map], sizes=sizes, query=rule)

  def _key(self, name: str, whitened: bool) -> str:
    """Of everything that a row depends on, the code included."""
    protocol = protocol_of(name, self._encoder, self._settings)
    whitening = self._whitened_by if whitened else None
    if isinstance(whitening, ImageSet):
      whitening = whitening.digest
    elif whitening == BUNDLED and self._encoder.whitening is not None:
      whitening = hash_arrays(vars(self._encoder.whitening))
    return make_key(
      *(name, whitened, SYSTEMS[name].digest, vector_key(self._encoder, protocol, self._settings.to_json())),
      hash_sources(*RANKING),
      *(self.benchmark.digest, self._scorer.images.digest, self._scorer.query_signatures),
      whitening,
      self._distractors and self._distractors.digest,
      [self._classes, self._encoder.settings.classes.names] if SYSTEMS[name].classes == "listed" else None,
    )

  def _measure(self, name: str, whitened: bool) -> Row:
    row, whitened = self._describe_row(name, whitened), whitened and self._whitened_by is not None
    if whitened:
      fit = self._scorer.fit(name)
      if fit.whitening is None:
        least = 2 * VECTORS_PER_DIMENSION
        raise NotRunError(f"too few vectors to whiten by, at least {least}, or all alike: {fit.vectors}")
      row = row._replace(whitened_by=self._origin, vectors=fit.vectors, left_out=fit.left_out, capped_by=fit.capped_by)
    found = self._scorer.score(name, whitened)
    scores = found.scores
    if self._settings.query_row == "replaced":
      own = np.flatnonzero(self.benchmark.own_rows >= 0)
      scores[own, self.benchmark.own_rows[own]] = found.own_scores[own]
    values = self.benchmark.score(find_places(scores, self.benchmark.listed, self._order(scores.shape[1])))
    listed = self._scorer.fixed_classes() if SYSTEMS[name].classes == "listed" else ()
    return row._replace(
      dimensions=found.dimensions,
      zero=found.zero,
      not_finite=found.not_finite,
      odd_queries=found.odd_queries,
      odd=found.odd,
      unreadable=found.unreadable,
      values={metric: row_values.tolist() for metric, row_values in values.items()},
      classes=tuple(self._encoder.settings.classes.names[one] for one in listed),
    )

  def _order(self, count: int) -> Int[np.ndarray, "n"]:
    """Where each row comes among rows of the same score."""
    orders = {"shuffled": lambda: shuffled_order(count, self._settings.seed), "by_row": lambda: np.arange(count)}
    return orders.get(self._settings.ties, lambda: np.arange(count)[::-1])()
