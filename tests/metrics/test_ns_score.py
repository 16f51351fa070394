"""UKBench's score by hand, against a loop, and what it refuses."""

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.metrics.ns_score import ns_scores, ns_scores_of_places
from cwf_jax.metrics.ranks import UNRANKED, find_places

OBJECTS = np.repeat([7, 3, 9], 4)
"""Of twelve images in file order; numbers need not begin at 0."""


@pytest.mark.parametrize(
  ("ranked", "query", "expected"),
  [
    ([0, 1, 2, 3], 7, 4),
    ([3, 2, 1, 0, 11], 7, 4),
    ([0, 4, 8, 1, 2, 3], 7, 2),  # what comes fifth and later does not count
    ([0, 4, 8, 11], 7, 1),
    ([4, 8, 5, 9], 7, 0),
    ([4, 5, 6, 8], 3, 3),
    ([0, 1, 2, 3], 1, 0),  # an object that is not there
  ],
)
def test_by_hand(ranked, query, expected):
  found = ns_scores(np.asarray([ranked]), np.asarray([query]), OBJECTS)
  assert found.dtype == np.float64 and found.tolist() == [expected]


def test_equals_a_loop():
  generator = np.random.default_rng(0)
  objects = generator.permutation(np.repeat(np.arange(3), 4))
  ranked = np.stack([generator.permutation(12)[:9] for _ in range(200)]).astype(np.int32)
  queries = objects[generator.integers(0, 12, 200)]
  expected = [sum(objects[row] == query for row in rows[:4]) for rows, query in zip(ranked, queries, strict=True)]
  assert ns_scores(ranked, queries, objects).tolist() == expected
  assert set(expected) >= {0, 1, 2, 3}


def test_no_query_has_no_score():
  assert ns_scores(np.zeros((0, 4), int), np.zeros(0, int), OBJECTS).shape == (0,)


@pytest.mark.parametrize(
  ("ranked", "queries", "objects", "message"),
  [
    ([[0, 1, 2]], [7], OBJECTS, "the first 4 answers of each query count; found 3"),
    ([[0, 1, 2, 3]], [7, 7], OBJECTS, r"found \[1, 4\], \[2\] and \[12\]"),
    ([0, 1, 2, 3], [7], OBJECTS, r"found \[4\], \[1\] and \[12\]"),
    ([[0, 1, 2, 3]], 7, OBJECTS, r"found \[1, 4\], \[\] and \[12\]"),
    ([[0, 1, 2, 3]], [7], [OBJECTS], r"found \[1, 4\], \[1\] and \[1, 12\]"),
    ([[0, 1, 2, 12]], [7], OBJECTS, "from 0 to 11; found 12"),
    ([[0, -1, 2, 3]], [7], OBJECTS, "from 0 to 11; found -1"),
    ([[0.0, 1, 2, 3]], [7], OBJECTS, "whole numbers; found the dtype float64"),
    ([[0, 1, 2, 3], [4, 5, 5, 6]], [7, 3], OBJECTS, r"query 1 has a row twice among its first 4 answers: \[4, 5, 5, 6\]"),
  ],
)
def test_what_is_refused(ranked, queries, objects, message):
  with pytest.raises(InputError, match=message):
    ns_scores(np.asarray(ranked), np.asarray(queries), np.asarray(objects))


@pytest.mark.parametrize(
  ("places", "expected"),
  [
    ([0, 1, 2, 3], 4),
    ([3, 9, 0, 1], 3),  # 0, 1 and 3 are below 4
    ([0, 4, 5, 6], 1),  # the query alone: the fifth answer has the place 4
    ([4, 5, 6, 7], 0),
    ([0, 0, 1, 1], 2),  # named twice
    ([-1, 2, -1, UNRANKED], 1),
    ([-1, -1], 0),
    ([], 0),
  ],
)
def test_by_hand_from_places(places, expected):
  found = ns_scores_of_places(np.array([places], int))
  assert found.dtype == np.float64 and found.tolist() == [expected]


def test_places_score_as_rankings_do():
  generator = np.random.default_rng(1)
  objects = generator.permutation(np.repeat(np.arange(10), 4))
  scores = generator.integers(0, 4, (40, 40)).astype(np.float32)
  order = generator.permutation(40)
  ranked = np.stack([np.lexsort((order, -row)) for row in scores])
  views = np.stack([np.flatnonzero(objects == one) for one in objects])
  found = ns_scores_of_places(find_places(scores, views, order))
  assert found.tolist() == ns_scores(ranked, objects, objects).tolist()
  assert len(set(found.tolist())) > 2


def test_what_is_no_place_is_refused():
  with pytest.raises(InputError, match=r"positive holds places in a ranking, whole numbers \[q m\]; found int64 \[4\]"):
    ns_scores_of_places(np.arange(4))
