"""Searches an index: ranks all its images for a query, exactly, and gives the reasons.

    for result in search("photographs.index", "query.jpg", box=(40, 30, 400, 380)):
      print(result.rank, result.id, result.score)
"""

import dataclasses
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.extraction.passes import describe_vectors
from cwf_jax.images.queries import ImageLike
from cwf_jax.index import schema
from cwf_jax.index.store import Index, open_index
from cwf_jax.load import load_recorded_encoder
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.attribution import share_classes
from cwf_jax.ops.whitening import Whitening
from cwf_jax.protocol import Box
from cwf_jax.queries import Query, encode_query, pad_count
from cwf_jax.retrieval.answers import Result, Share, filter_results, largest_shares
from cwf_jax.retrieval.databases import Offline, Online
from cwf_jax.retrieval.online import NO_CLASS, Lacking, count_lacking
from cwf_jax.retrieval.reasons import find_common_classes, match_photographs
from cwf_jax.retrieval.system_queries import encode_system_query
from cwf_jax.systems.settings import system_settings
from cwf_jax.systems.system import SYSTEMS

AGGREGATIONS = ("offline", "online", "fixed")

QUERIES_AT_ONCE = 64
"""Queries that are ranked together; one pass over the database serves them."""


class Searcher:
  """An index made ready: the encoder on the device, the descriptors mapped.

  Attributes:
    index: which is searched; the version that was the newest when it was opened.
    encoder: the one that the index was made with.
  """

  def __init__(self, index: str | os.PathLike | Index, encoder: Encoder | None = None):
    """Opens the index and loads its encoder, unless one is given.

    Raises:
      InputError: no index, an empty one, or one of another encoder.
    """
    self.index = index if isinstance(index, Index) else open_index(index)
    settings = self.index.settings
    if not len(self.index):
      raise InputError(f"the index {self.index.folder} holds no images yet")
    if settings.num_vectors and settings.system not in SYSTEMS:
      system = settings.system
      raise InputError(f"the index {self.index.folder} is of the system {system}, which a file of yours adds: --plugin=FILE")
    if encoder is None:
      encoder = load_recorded_encoder(f"the index {self.index.folder}", settings)
    if encoder.settings.fingerprint != settings.fingerprint:
      raise InputError(f"the index {self.index.folder} was made by another encoder than the one given")
    arrays = self.index.whitening
    self._whitening = None if arrays is None else Whitening(jnp.asarray(arrays["mean"]), jnp.asarray(arrays["projection"]))
    # Another system's whitening is not of class vectors, which explanations whiten.
    encoder = encoder if settings.num_vectors else encoder.replace(whitening=self._whitening)
    self.encoder = jax.device_put(encoder)

  def is_stale(self) -> bool:
    """Whether the index has a newer version than the one that is searched.

    Raises:
      InputError: the index is gone or damaged.
    """
    return open_index(self.index.folder).snapshot_folder != self.index.snapshot_folder

  def reload(self) -> bool:
    """Moves to the newest version of the index; not while another thread searches.

    Returns:
      Whether there was a newer one.

    Raises:
      InputError: as when a `Searcher` is made.
    """
    newest = open_index(self.index.folder)
    if newest.snapshot_folder == self.index.snapshot_folder:
      return False
    is_same = newest.settings.fingerprint == self.index.settings.fingerprint
    other = Searcher(newest, self.encoder if is_same else None)
    self.index, self.encoder, self._whitening = other.index, other.encoder, other._whitening
    return True

  def warm_up(self, boxes: bool = True, matches: bool = True, progress: Callable[[int, int], Any] | None = None) -> None:
    """Compiles the programs of all canvases, so that no first query is slow; of searches, an offline one of ten answers.

    It takes seconds for each program, and less where JAX caches compiled programs (`jax_compilation_cache_dir`).

    Args:
      boxes: also the programs for queries with a box.
      matches: also those that match places.
      progress: called with (canvases done, canvases in all).
    """
    canvases = dict.fromkeys((*self.encoder.settings.protocol.canvases, *self.encoder.settings.protocol.crop_canvases))
    for done, (height, width) in enumerate(canvases):
      if progress is not None:
        progress(done, len(canvases))
      pixels = np.full((height, width, 3), 128, np.uint8)
      queries = [self.encode(pixels)]
      if boxes:
        queries.append(self.encode(pixels, box=(0, 0, width, height)))
      for query in queries if matches else ():
        match_photographs(self.encoder, query, [pixels])
    self.search(queries[:1])
    if progress is not None:
      progress(len(canvases), len(canvases))

  def __repr__(self) -> str:
    return f"Searcher(\n  {self.index!r},\n  {self.encoder!r},\n)"

  def encode(
    self,
    image: ImageLike,
    box: Box | None = None,
    classes: str | Iterable[str | int] | None = None,
  ) -> Query:
    """Encodes a query.

    Args:
      image: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
      box: (left, top, right, bottom) in pixels of the upright image, right and bottom exclusive.
      classes: a list, by name or id, in place of the query's own classes.

    Raises:
      InputError: an unreadable image, a wrong box, or a class that the network does not have.
    """
    ids = None if classes is None else self.encoder.settings.classes.resolve_all(classes)
    settings = self.index.settings
    if settings.num_vectors:
      self._refuse_classes(classes is not None)
      own = system_settings(settings.preset, settings.num_classes)
      return encode_system_query(self.encoder, image, box, settings.system, own, settings.num_encoded)
    return encode_query(self.encoder, image, box, ids, num_encoded=settings.num_encoded, listed=settings.stored.ids)

  def _refuse_classes(self, are_given: bool) -> None:
    if are_given:
      folder, system = self.index.folder, self.index.settings.system
      raise InputError(f"the index {folder} is of {system}, which searches by no classes: only offline, without a list of them")

  def search(
    self,
    queries: Sequence[Query],
    aggregation: str = "offline",
    top: int = 10,
    expand: int = 0,
    shares: int = 8,
  ) -> list[list[Result]]:
    """Ranks the images of the index for each query.

    Args:
      queries: of `encode`.
      aggregation: "offline": an image's descriptor sums its own classes; "online": the query's classes; "fixed": the
        classes that the queries were encoded with, the same list for all. For the last two, an image that does not hold
        the vectors of all these classes is described by those that it holds; see `Result.lacked` and `count_lacking`.
      top: answers wanted.
      expand: the first answers whose descriptors become the query of a second ranking; 0: none.
      shares: the largest parts of a score that are told apart.

    Raises:
      InputError: a wrong argument, or an online or fixed search of an index that stores no class vectors.
    """
    check_arguments(aggregation, top, expand, shares)
    self._refuse_classes(self.index.settings.num_vectors > 0 and aggregation != "offline")
    if isinstance(queries, Query) or not all(isinstance(query, Query) for query in queries):
      raise InputError("search takes a list of what encode returns: search([searcher.encode(image)])")
    results = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
      some = self._prepare(queries[start : start + QUERIES_AT_ONCE])
      database = Offline(self.index) if aggregation == "offline" else Online(self.index, some.class_ids)
      results += self._answer(queries[start : start + QUERIES_AT_ONCE], some, database, top, expand, shares)
    return results

  def match(self, query: Query, results: Sequence[Result]) -> list[Result]:
    """The same answers with their matching places; each answer's photograph is read and encoded again.

    Args:
      query: of `encode`.
      results: its answers.
    """
    matches = match_photographs(self.encoder, query, [result.path for result in results])
    return [dataclasses.replace(result, match=match) for result, match in zip(results, matches, strict=True)]

  def count_lacking(self, queries: Sequence[Query]) -> Lacking:
    """Counts the images that an online or fixed search describes by fewer classes than a query has.

    Args:
      queries: of `encode`, one or more.
    """
    return count_lacking(self.index, [query.class_ids for query in queries])

  def _prepare(self, queries: Sequence[Query]) -> "_Queries":
    """Whitens and aggregates; one program serves any number of queries over 1, and lists of about the same length."""
    rows = 1 if len(queries) == 1 else QUERIES_AT_ONCE
    if self.index.settings.num_vectors:
      vectors = np.stack([query.system_vectors for query in queries])
      padded = np.pad(vectors, ((0, rows - len(queries)), (0, 0), (0, 0)))
      descriptors = describe_vectors(self.index.settings.system, self._whitening, padded)
      return _Queries(np.full((len(queries), 1), NO_CLASS, np.int32), descriptors[:, None], descriptors)
    longest = pad_count(max(len(query.class_ids) for query in queries))
    class_ids = np.full((len(queries), longest), NO_CLASS, np.int32)
    class_vectors = np.zeros((rows, longest, self.index.settings.feature_channels), np.float32)
    for row, query in enumerate(queries):
      class_ids[row, : len(query.class_ids)] = query.class_ids
      class_vectors[row, : len(query.class_ids)] = query.class_vectors
    whitened, descriptors = _describe(self.encoder, class_vectors)
    return _Queries(class_ids, whitened, descriptors)

  def _answer(
    self,
    queries: Sequence[Query],
    prepared: "_Queries",
    database: Offline | Online,
    top: int,
    expand: int,
    shares: int,
  ) -> list[list[Result]]:
    names = self.encoder.settings.classes.names
    owners = [[names[class_id] for class_id in row if class_id != NO_CLASS] for row in prepared.class_ids]
    parts, descriptors = np.asarray(prepared.class_vectors), prepared.descriptors
    if expand:
      first = np.asarray(database.rank(descriptors, expand).rows)[: len(owners)]
      owners = [self._read(row, ["id"])["id"].to_pylist() for row in first]
      parts = np.zeros((len(descriptors), first.shape[1], descriptors.shape[1]), np.float32)
      for query, rows in enumerate(first):
        parts[query] = database.describe(query, rows)[0]
      if self.encoder.settings.protocol.expand_with_query:
        parts = np.concatenate([parts, np.asarray(descriptors)[:, None]], axis=1)
        owners = [[*row, "(the query)"] for row in owners]
      descriptors = _aggregate(parts)
    ranking = jax.device_get(database.rank(descriptors, top))
    others = "(other answers)" if expand else "(other classes)"
    results = []
    for number, (query, rows, scores) in enumerate(zip(queries, ranking.rows, ranking.scores, strict=False)):
      answers, lacked = database.describe(number, rows)
      split = np.asarray(_share(parts[number][None], answers[None]))[0, :, : len(owners[number])]
      pairs = zip(split, scores, strict=True)
      divided = [largest_shares(owners[number], part, float(score), shares, others) for part, score in pairs]
      results.append(self._make_results(query, rows, scores, divided, expand > 0, lacked))
    return results

  def _make_results(
    self,
    query: Query,
    rows: np.ndarray,
    scores: np.ndarray,
    divided: list[tuple[Share, ...]],
    expanded: bool,
    lacked: np.ndarray | None,
  ) -> list[Result]:
    table = self._read(rows, ["id", "path", "top_class_ids", "top_probabilities"])
    top = zip(*(schema.to_array(table[name]) for name in ("top_class_ids", "top_probabilities")), strict=True)
    names = self.encoder.settings.classes.names
    common = [find_common_classes(names, query.probabilities, *one) for one in top]
    return [
      Result(
        rank=place + 1,
        id=file["id"],
        path=file["path"],
        score=float(scores[place]),
        common_classes=common[place],
        classes=() if expanded or self.index.settings.num_vectors else divided[place],
        expanded_from=divided[place] if expanded else (),
        lacked=None if lacked is None else int(lacked[place]),
      )
      for place, file in enumerate(table.select(["id", "path"]).to_pylist())
    ]

  def _read(self, rows: np.ndarray, columns: list[str]) -> pa.Table:
    return self.index.take(self.index.snapshot.rows[rows], columns)


class _Queries(NamedTuple):
  """Queries made ready: [q m] classes, `NO_CLASS` after the last; whitened [Q m k] and summed [Q k], zero after the last."""

  class_ids: np.ndarray
  class_vectors: jax.Array
  descriptors: jax.Array


@jax.jit
def _describe(encoder: Encoder, class_vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
  whitened = encoder.whiten(class_vectors)
  return whitened, aggregate(whitened)


_aggregate = jax.jit(aggregate)
_share = jax.jit(share_classes)


def check_arguments(
  aggregation: str,
  top: int,
  expand: int,
  shares: int,
  min_score: float | None = None,
  min_places: int | None = None,
) -> None:
  """Refuses values that a search cannot have, before anything is computed.

  Raises:
    InputError: one is out of range, or a number of things is not a whole one.
  """
  if aggregation not in AGGREGATIONS:
    raise InputError(f"an aggregation is one of {', '.join(AGGREGATIONS)}; found {aggregation!r}")
  for name, value, least in (("top", top, 1), ("expand", expand, 0), ("shares", shares, 0), ("min_places", min_places, 0)):
    if value is not None and not isinstance(value, numbers.Integral):
      raise InputError(f"--{name} is a whole number; found {value!r}")
    if value is not None and value < least:
      raise InputError(f"--{name} is at least {least}; found {value}")
  if min_score is not None and not -1 <= min_score <= 1:
    raise InputError(f"--min_score is a cosine, -1 to 1; found {min_score}")


def search(
  index: str | os.PathLike | Index,
  image: ImageLike,
  box: Box | None = None,
  aggregation: str = "offline",
  classes: str | Iterable[str | int] | None = None,
  top: int = 10,
  expand: int = 0,
  matches: bool = False,
  min_score: float | None = None,
  min_places: int | None = None,
) -> list[Result]:
  """Searches an index for one photograph, or a box in one.

  For many queries make a `Searcher` once.

  Args:
    index: its folder, or an open one.
    image: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    box: (left, top, right, bottom) in pixels of the upright image, right and bottom exclusive.
    aggregation: "offline", "online" or "fixed"; see `Searcher.search`.
    classes: the list of "fixed": names or ids, as one string separated by commas or one by one.
    top: number of answers.
    expand: answers that the query is expanded with; 0: none.
    matches: the answers come with their matching places, for which their photographs are encoded again.
    min_score: answers with a lower score are left out.
    min_places: answers with fewer matching places are left out; implies `matches`.

  Raises:
    InputError: an unreadable image, a wrong box, class or argument, or an index that cannot be used for it.
  """
  check_classes(aggregation, classes)
  check_arguments(aggregation, top, expand, 0, min_score, min_places)
  searcher = Searcher(index)
  query = searcher.encode(image, box, classes)
  results = filter_results(searcher.search([query], aggregation, top, expand)[0], min_score)
  return filter_results(searcher.match(query, results), min_places=min_places) if matches or min_places is not None else results


def check_classes(aggregation: str, classes: str | Iterable[str | int] | None) -> None:
  """A list of classes belongs to the fixed aggregation, and only to it.

  Raises:
    InputError: a fixed search has none, or another one has.
  """
  if aggregation == "fixed" and classes is None:
    raise InputError("a fixed search needs the list of its classes: --classes=vault,dome,12")
  if aggregation != "fixed" and classes is not None:
    raise InputError(f"a list of classes is for --aggregation=fixed; found --aggregation={aggregation}")
