"""UKBench's score: how many of an object's four views are among the first four answers.

Nister and Stewenius, "Scalable Recognition with a Vocabulary Tree", CVPR 2006; METHOD 5.4. The query is one of the
views, it is in the database and counts. So a query's score is a whole number from 0 to 4, and one that finds itself and
nothing else has 1; the mean over the queries is called N-S.

    >>> objects = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> ns_scores(np.array([[0, 1, 5, 3, 2], [4, 0, 1, 2, 5]]), objects[[0, 4]], objects)
    array([3., 1.])
    >>> ns_scores_of_places(np.array([[0, 1, 4, 3], [0, 5, 6, 7]]))  # of the four views of each query
    array([3., 1.])
"""

import numpy as np
from jaxtyping import Float, Float64, Int

from cwf_jax.errors import InputError
from cwf_jax.metrics.ranks import sort_places

ANSWERS = 4
"""Answers that count, as many as an object has views."""


def ns_scores(
  ranked: Int[np.ndarray, "q r"], query_objects: Int[np.ndarray, "q"], objects: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "q"]:
  """The score of each query.

  Args:
    ranked: rows of the database, best first, at least four of each query, the first four of them different.
    query_objects: the object that each query shows.
    objects: the object that each image of the database shows.

  Returns:
    Whole numbers from 0 to 4, in float64.

  Raises:
    InputError: shapes that do not fit, fewer than four answers, rows that are no whole numbers, that are not in the database
      or that are twice among the first four of a query.
  """
  ranked, query_objects, objects = np.asarray(ranked), np.asarray(query_objects), np.asarray(objects)
  if objects.ndim != 1 or query_objects.ndim != 1 or ranked.ndim != 2 or len(ranked) != len(query_objects):
    raise InputError(
      "ranked is [q r], of as many queries as there are objects of queries [q], over a database [n]; "
      f"found {list(ranked.shape)}, {list(query_objects.shape)} and {list(objects.shape)}"
    )
  if ranked.shape[1] < ANSWERS:
    raise InputError(f"the first {ANSWERS} answers of each query count; found {ranked.shape[1]}")
  first = ranked[:, :ANSWERS]
  if first.dtype.kind not in "iu":
    raise InputError(f"ranked holds rows of the database, whole numbers; found the dtype {first.dtype}")
  if first.size and (first.min() < 0 or first.max() >= len(objects)):
    outside = first[(first < 0) | (first >= len(objects))]
    raise InputError(f"ranked holds rows of the database, from 0 to {len(objects) - 1}; found {outside[0]}")
  ordered = np.sort(first, axis=1)
  if (ordered[:, 1:] == ordered[:, :-1]).any():
    query = int(np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))[0])
    raise InputError(f"query {query} has a row twice among its first {ANSWERS} answers: {first[query].tolist()}")
  return ns_scores_of_places(np.where(objects[first] == query_objects[:, None], np.arange(ANSWERS), -1))


def ns_scores_of_places(positive: Int[np.ndarray, "q p"]) -> Float64[np.ndarray, "q"]:
  """The score of each query from where the views of its object came.

  Args:
    positive: places from 0 of the object's views, the query's own image among them, in any order, padded with -1.

  Returns:
    Whole numbers from 0 to 4; 0 where there is no positive.

  Raises:
    InputError: `positive` holds something else than places.
  """
  places, _ = sort_places("positive", positive)
  return (places < ANSWERS).sum(1).astype(np.float64)
