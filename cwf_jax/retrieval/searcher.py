"""Searches an index: ranks all its images for a query, exactly, and gives the reasons.

    for result in search("photographs.index", "query.jpg", box=(40, 30, 400, 380)):
      print(result.rank, result.id, result.score)
"""

import os
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cwf_jax.encoder import Encoder, load_recorded_encoder
from cwf_jax.errors import InputError
from cwf_jax.index.store import Index, open_index
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.normalize import l2_normalize
from cwf_jax.ops.ranking import Ranking, rank_blocks, rank_scores, share_classes
from cwf_jax.ops.whitening import Whitening
from cwf_jax.protocol import Box
from cwf_jax.retrieval.answers import Result, largest_shares
from cwf_jax.retrieval.online import ClassVectors
from cwf_jax.retrieval.query import Query, encode_query

AGGREGATIONS = ("offline", "online", "fixed")


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
    if encoder is None:
      name = f"the index {self.index.folder}"
      encoder = load_recorded_encoder(
        name, settings.weights, settings.weights_folder, settings.protocol, settings.fingerprint
      )
    if encoder.settings.fingerprint != settings.fingerprint:
      raise InputError(f"the index {self.index.folder} was made by another encoder than the one given")
    arrays = self.index.whitening
    whitening = None if arrays is None else Whitening(jnp.asarray(arrays["mean"]), jnp.asarray(arrays["projection"]))
    self.encoder = jax.device_put(encoder.replace(whitening=whitening))

  def encode(
    self,
    image: str | os.PathLike | np.ndarray,
    box: Box | None = None,
    classes: str | Iterable[str | int] | None = None,
  ) -> Query:
    """Encodes a query: by its own classes, or by a list of classes by name or id."""
    ids = None if classes is None else self.encoder.settings.classes.resolve_all(classes)
    return encode_query(self.encoder, self.index.settings, image, box, ids)

  def search(
    self,
    queries: Sequence[Query],
    aggregation: str = "offline",
    top: int = 10,
    expand: int = 0,
    partial: bool = False,
    shares: int = 8,
  ) -> list[list[Result]]:
    """Ranks the images of the index for each query.

    Args:
      queries: of `encode`.
      aggregation: "offline": an image's descriptor sums its own classes; "online": the query's classes; "fixed": the
        classes that the queries were encoded with, the same list for all.
      top: answers wanted.
      expand: the first answers whose descriptors become the query of a second ranking; 0: none.
      partial: online and fixed: images that lack some of the classes are described by those that they hold.
      shares: the largest parts of a score that are told apart.

    Raises:
      InputError: a wrong argument, or class vectors that the index does not hold.
    """
    check_arguments(aggregation, top, expand, shares)
    if not queries:
      return []
    class_vectors = self.encoder.whiten(jnp.asarray(np.stack([query.class_vectors for query in queries])))
    class_ids = np.stack([query.class_ids for query in queries])
    database = _Offline(self.index) if aggregation == "offline" else _Online(self.index, class_ids, partial)
    descriptors = aggregate(class_vectors)
    ranking = database.rank(descriptors, max(top, expand))
    names = [[self.encoder.settings.classes.names[class_id] for class_id in row] for row in class_ids]
    parts = class_vectors
    if expand:
      first = ranking.rows[:, :expand]
      parts = jnp.asarray(database.describe(first))
      names = [self._ids(row) for row in first]
      if self.encoder.settings.protocol.expand_with_query:
        parts = jnp.concatenate([parts, descriptors[:, None]], axis=1)
        names = [[*row, "(the query)"] for row in names]
      ranking = database.rank(l2_normalize(parts.sum(1)), top)
    rows, scores = np.asarray(ranking.rows)[:, :top], np.asarray(ranking.scores)[:, :top]
    split = np.asarray(share_classes(parts, jnp.asarray(database.describe(rows))))
    lacked = database.lacked(rows) if partial and aggregation != "offline" else None
    results = []
    for query in range(len(queries)):
      table = self.index.take(self.index.snapshot.rows[rows[query]], ["id", "path"]).to_pylist()
      answers = []
      for place, row in enumerate(table):
        score = float(scores[query, place])
        told = largest_shares(
          names[query], split[query, place], score, shares, "(other answers)" if expand else "(other classes)"
        )
        answers.append(
          Result(
            rank=place + 1,
            id=row["id"],
            path=row["path"],
            score=score,
            classes=() if expand else told,
            expanded_from=told if expand else (),
            lacked=None if lacked is None else int(lacked[query, place]),
          )
        )
      results.append(answers)
    return results

  def _ids(self, rows: np.ndarray) -> list[str]:
    return self.index.take(self.index.snapshot.rows[np.asarray(rows)], ["id"])["id"].to_pylist()


def check_arguments(aggregation: str, top: int, expand: int, shares: int) -> None:
  """Refuses values that a search cannot have, before anything is computed."""
  if aggregation not in AGGREGATIONS:
    raise InputError(f"an aggregation is one of {', '.join(AGGREGATIONS)}; found {aggregation!r}")
  for name, value, least in (("top", top, 1), ("expand", expand, 0), ("shares", shares, 0)):
    if value < least:
      raise InputError(f"--{name} is at least {least}; found {value}")


def search(
  index: str | os.PathLike | Index,
  image: str | os.PathLike | np.ndarray,
  box: Box | None = None,
  aggregation: str = "offline",
  classes: str | Iterable[str | int] | None = None,
  top: int = 10,
  expand: int = 0,
  partial: bool = False,
) -> list[Result]:
  """Searches an index for one photograph, or a box in one.

  For many queries make a `Searcher` once.

  Args:
    index: its folder, or an open one.
    image: a file, or RGB pixels [h w 3] uint8.
    box: (left, top, right, bottom) in pixels of the upright image, right and bottom exclusive.
    aggregation: "offline", "online" or "fixed"; see `Searcher.search`.
    classes: the list of "fixed": names or ids, as one string separated by commas or one by one.
    top: answers wanted.
    expand: answers that the query is expanded with; 0: none.
    partial: see `Searcher.search`.

  Raises:
    InputError: an unreadable image, a wrong box, class or argument, or an index that cannot be used for it.
  """
  check_classes(aggregation, classes)
  searcher = Searcher(index)
  return searcher.search([searcher.encode(image, box, classes)], aggregation, top, expand, partial)[0]


def check_classes(aggregation: str, classes: str | Iterable[str | int] | None) -> None:
  """A list of classes belongs to the fixed aggregation, and only to it."""
  if aggregation == "fixed" and classes is None:
    raise InputError("a fixed search needs the list of its classes: --classes=vault,dome,12")
  if aggregation != "fixed" and classes is not None:
    raise InputError(f"a list of classes is for --aggregation=fixed; found --aggregation={aggregation}")


class _Offline:
  """Images by their own classes: the stored descriptors. Rows are those of the snapshot, in the order of the ids."""

  def __init__(self, index: Index):
    self._descriptors = index.snapshot.descriptors

  def rank(self, queries: jax.Array, k: int) -> Ranking:
    return rank_blocks(queries, self._descriptors, k)

  def describe(self, rows: np.ndarray) -> np.ndarray:
    return self._descriptors[np.asarray(rows)]


class _Online:
  """Images by the queries' classes. Rows are those of the snapshot, as for `_Offline`."""

  def __init__(self, index: Index, wanted: np.ndarray, partial: bool):
    self._vectors = ClassVectors(index, wanted, partial)
    self._order = index.snapshot.rows

  def rank(self, queries: jax.Array, k: int) -> Ranking:
    scores = self._vectors.score(np.asarray(queries))[:, self._order]
    return rank_scores(jnp.asarray(scores), min(k, scores.shape[1]))

  def describe(self, rows: np.ndarray) -> np.ndarray:
    return self._vectors.describe(self._order[np.asarray(rows)])[0]

  def lacked(self, rows: np.ndarray) -> np.ndarray:
    return self._vectors.describe(self._order[np.asarray(rows)])[1]


