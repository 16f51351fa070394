"""Collections of whole images with known answers: a folder with its JSON, and UKBench's objects.

    collection = open_collection("grocery", "retrieval/grocery")
    ranked = rank_shuffled(queries, database, collection.answers)
    collection.score(ranked).mean()
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cwf_jax.datasets.folder_groundtruth import read_folder_groundtruth
from cwf_jax.datasets.ukbench import check_views, ukbench_groups
from cwf_jax.errors import InputError
from cwf_jax.evaluation.average_precision import average_precision
from cwf_jax.evaluation.experiment import match_names
from cwf_jax.evaluation.ns_score import ANSWERS, ns_scores
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.ops.ranking import BLOCK, rank_blocks

GROUNDTRUTH_NAME = "gt.json"
"""The file of the answers, beside `images/`."""

UKBENCH = "ukbench"

_ROUND = 256
"""A small database is scored in one block of a multiple of this many rows, a multiple of every vector width."""


@dataclasses.dataclass(frozen=True)
class Collection:
  """Images, queries among them, and a score.

  Attributes:
    name: of the collection.
    metric: what the mean of the scores is called, "mAP" or "N-S".
    listing: where the images are.
    database: the ids of the images that are ranked, in order.
    queries: the ids of the queries; the whole image is the query.
    answers: of each query that `score` wants.
    score: of rankings, rows of `database` [q answers]: a value for each query, NaN where it has no positive.
  """

  name: str
  metric: str
  listing: Listing
  database: tuple[str, ...]
  queries: tuple[str, ...]
  answers: int
  score: Callable[[Int[np.ndarray, "q r"]], Float[np.ndarray, "q"]]

  @property
  def images(self) -> tuple[str, ...]:
    """The ids of all images that are encoded, sorted, each once."""
    return tuple(sorted({*self.database, *self.queries}))


def open_collection(name: str, folder: str | os.PathLike) -> Collection:
  """Opens `folder`, which holds `images/`: UKBench if that is its name, else a folder with its `gt.json`.

  Raises:
    InputError: a part is missing or wrong.
  """
  return open_ukbench(folder) if name == UKBENCH else open_folder(folder, name)


def open_folder(folder: str | os.PathLike, name: str = "folder") -> Collection:
  """A folder of `images/` and `gt.json`; the score is average precision (METHOD section 5).

  Raises:
    InputError: either cannot be read, names images that are not there, or has queries with a box.
  """
  groundtruth = read_folder_groundtruth(Path(folder) / GROUNDTRUTH_NAME)
  boxed = [query.image for query in groundtruth.queries if query.box is not None]
  if boxed:
    raise InputError(f"{os.fspath(folder)}: queries are whole images here; {len(boxed)} have a box, the first is {boxed[0]}")
  listing = list_images(Path(folder) / "images")
  names = {*groundtruth.database, *(query.image for query in groundtruth.queries)}
  place = match_names(names, listing.ids, os.fspath(folder))
  rows = {name: row for row, name in enumerate(groundtruth.database)}
  answers = [([rows[n] for n in query.relevant], [rows[n] for n in query.junk]) for query in groundtruth.queries]

  def score(ranked):
    return np.asarray([average_precision(row, *known) for row, known in zip(ranked, answers, strict=True)])

  database = tuple(listing.ids[place[name]] for name in groundtruth.database)
  queries = tuple(listing.ids[place[query.image]] for query in groundtruth.queries)
  return Collection(name, "mAP", listing, database, queries, len(database), score)


def open_ukbench(folder: str | os.PathLike) -> Collection:
  """UKBench or whole objects of it: every image is a query and is in the database, and the score is N-S.

  Published values are of all 10,200 images; a part is easier.

  Raises:
    InputError: the images cannot be listed, a file has another name, or an object has not four views.
  """
  listing = list_images(Path(folder) / "images")
  objects = ukbench_groups(listing.ids)
  check_views(objects)
  return Collection(
    UKBENCH, "N-S", listing, listing.ids, listing.ids, ANSWERS, lambda ranked: ns_scores(ranked, objects, objects)
  )


def rank_shuffled(
  queries: Float[np.ndarray, "q k"], database: Float[np.ndarray, "n k"], answers: int, seed: int = 0
) -> Int[np.ndarray, "q r"]:
  """Ranks with equal scores in a seeded random order.

  Files are often listed by what they show. In their order, descriptors that are all zero would be given the very order that
  is looked for (on one collection 0.105 in place of 0.037); so the database is permuted first.

  Args:
    queries: unit rows, or zero.
    database: unit rows, or zero.
    answers: of each query, at most n.
    seed: of the permutation.

  Returns:
    Rows of `database`, best first.
  """
  order = np.random.default_rng(seed).permutation(len(database))
  block = min(BLOCK, -(-len(database) // _ROUND) * _ROUND)
  ranked = rank_blocks(jnp.asarray(queries), np.asarray(database)[order], answers, block)
  return order[np.asarray(ranked.rows)]
