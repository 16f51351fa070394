"""A collection with known answers: what is ranked, what is looked for, and how a ranking is scored.

    benchmark = open_benchmark("toy_oxford", "landmarks")
    benchmark.score(find_places(scores, benchmark.listed, order))["mAP"].mean()

Whatever form a ground truth has (`openers` reads them), it is rows of the database that should be found, and rows that are
skipped. METHOD 5.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cwf_jax.images.listing import Listing
from cwf_jax.protocol import Box

Places = Int[np.ndarray, "q m"]
Values = Float[np.ndarray, "q"]


class Query(NamedTuple):
  """What is looked for: an image, or a box in it.

  Attributes:
    name: of the query, each once.
    image: its id.
    box: in pixels of the upright image, as the ground truth has it; None is the whole image.
  """

  name: str
  image: str
  box: Box | None


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
  """A score of rankings.

  Attributes:
    name: "mAP", "mAP Medium", "mP@10 Hard", "N-S".
    positive: [q p] rows of the database that should be found; -1 after the last.
    junk: [q j] rows that are skipped.
    measure: of their places, a value for each query; NaN where it has no positive.
  """

  name: str
  positive: Int[np.ndarray, "q p"]
  junk: Int[np.ndarray, "q j"]
  measure: Callable[[Places, Places], Values]


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
  """Images, queries among them or beside them, and metrics.

  Attributes:
    name: of the set.
    listing: where the images are.
    database: the ids of the images that are ranked, in order.
    queries: in order.
    metrics: the one that counts first.
  """

  name: str
  listing: Listing
  database: tuple[str, ...]
  queries: tuple[Query, ...]
  metrics: tuple[Metric, ...]

  @property
  def images(self) -> tuple[str, ...]:
    """The ids of all images that are encoded whole, sorted: of the database, and of queries without a box."""
    return tuple(sorted({*self.database, *(query.image for query in self.queries if query.box is None)}))

  @functools.cached_property
  def listed(self) -> Int[np.ndarray, "q m"]:
    """The rows whose places the metrics need, of all of them side by side; -1 where there is none."""
    return np.concatenate([rows for metric in self.metrics for rows in (metric.positive, metric.junk)], axis=1)

  def score(self, places: Places) -> dict[str, Values]:
    """The value of each query by each metric.

    Args:
      places: of `listed` in the whole ranking, from 0; -1 where there is none.
    """
    found, start = {}, 0
    for metric in self.metrics:
      middle, end = start + metric.positive.shape[1], start + metric.positive.shape[1] + metric.junk.shape[1]
      found[metric.name] = metric.measure(places[:, start:middle], places[:, middle:end])
      start = end
    return found

  @functools.cached_property
  def digest(self) -> str:
    """Of database, queries and answers: a score depends on it."""
    shapes = [(metric.name, metric.positive.shape, metric.junk.shape) for metric in self.metrics]
    parts = [repr((self.database, self.queries, shapes)).encode(), self.listed.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()

  @functools.cached_property
  def own_rows(self) -> Int[np.ndarray, "q"]:
    """The row of each query's own image; -1 where it is not in the database."""
    place = {image_id: row for row, image_id in enumerate(self.database)}
    return np.asarray([place.get(query.image, -1) for query in self.queries], np.int64)
