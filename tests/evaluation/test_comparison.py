"""Scores of descriptors by hand, odd descriptors counted, the best number of classes, differences with their counterparts."""

import dataclasses
import math

import numpy as np
import pytest

from cwf_jax.evaluation.bootstrap import paired_bootstrap
from cwf_jax.evaluation.collection import Collection
from cwf_jax.evaluation.comparison import BEST, REFERENCE, Measured, best_count, compare, measure, with_best
from cwf_jax.evaluation.ns_score import ns_scores
from cwf_jax.evaluation.pooling import OWN, PLAIN, WHITENED, Key
from cwf_jax.images.listing import Listing

OBJECTS = np.repeat(np.arange(3), 4)


@pytest.fixture
def collection():
  """Three objects of four views; the database is listed backwards."""
  ids = tuple(f"{number:02d}.jpg" for number in range(12))
  objects = OBJECTS[::-1]
  return Collection("three", "N-S", Listing("/", ids), ids[::-1], ids, 4, lambda ranked: ns_scores(ranked, OBJECTS, objects))


def _measured(*values):
  values = np.asarray(values, float)
  return Measured(float(np.mean(values)), values, 8, 0, 0)


def test_rows_are_those_of_the_sorted_images(collection):
  perfect = np.eye(3, dtype=np.float32)[OBJECTS]
  mixed = perfect.copy()
  mixed[0] = perfect[4]  # an image of object 0 that looks like object 1
  found = measure({Key("raw", PLAIN): perfect, Key("crow", PLAIN): mixed}, collection)
  assert found[Key("raw", PLAIN)].mean == 4 and found[Key("raw", PLAIN)].values.tolist() == [4] * 12
  values = found[Key("crow", PLAIN)].values
  assert values[0] <= 1 and values[1:4].tolist() == [3] * 3 and values[8:].tolist() == [4] * 4
  assert found[Key("crow", PLAIN)][2:] == (3, 0, 0)


def test_odd_descriptors_are_counted(collection):
  rows = np.eye(3, dtype=np.float32)[OBJECTS]
  rows[[2, 5]], rows[7] = 0, np.nan
  found = measure({Key("raw", PLAIN): rows}, collection)[Key("raw", PLAIN)]
  assert (found.zero, found.not_finite, found.dimensions) == (2, 1, 3) and np.isfinite(found.values).all()


def test_the_order_of_ties_is_one_for_all_and_follows_the_seed(collection):
  zeros = {Key(name, PLAIN): np.zeros((12, 3), np.float32) for name in ("raw", "crow")}
  first = measure(zeros, collection)
  np.testing.assert_array_equal(first[Key("raw", PLAIN)].values, first[Key("crow", PLAIN)].values)
  seeds = {tuple(measure(zeros, collection, seed)[Key("raw", PLAIN)].values) for seed in range(10)}
  assert len(seeds) > 1


def test_queries_without_a_value_leave_the_mean(collection):
  scored = dataclasses.replace(collection, score=lambda ranked: np.asarray([0.5, math.nan, 1.0]))
  found = measure({Key("raw", PLAIN): np.zeros((12, 3), np.float32)}, scored)[Key("raw", PLAIN)]
  assert found.mean == 0.75 and math.isnan(found.values[1])


def test_the_best_number_of_classes():
  scores = {1: 0.5, 4: 0.8, 8: 0.8, 16: 0.2}
  measured = {Key(f"ofa{count}", PLAIN): _measured(score) for count, score in scores.items()}
  measured |= {Key(f"ofa{count}", WHITENED): _measured(1 - score) for count, score in scores.items()}
  measured[Key("raw", PLAIN)] = _measured(0.9)
  assert best_count(measured, (16, 8, 4, 1), PLAIN) == 4  # the least among equals
  assert best_count(measured, (1, 4, 8, 16), WHITENED) == 16
  found = with_best(measured, (1, 4, 8, 16))
  assert set(found) - set(measured) == {Key(BEST, PLAIN), Key(BEST, WHITENED)}
  assert found[Key(BEST, PLAIN)] is measured[Key("ofa4", PLAIN)]
  assert found[Key(BEST, WHITENED)] is measured[Key("ofa16", WHITENED)]


def test_without_a_score_the_least_number_is_taken():
  measured = {Key(f"ofa{count}", PLAIN): _measured(math.nan) for count in (1, 4)}
  assert best_count(measured, (4, 1), PLAIN) == 1
  measured[Key("ofa4", PLAIN)] = _measured(0.1)
  assert best_count(measured, (1, 4), PLAIN) == 4


class TestCompare:
  measured = {  # noqa: RUF012
    Key("raw", PLAIN): _measured(0.1, 0.2, 0.3),
    Key("crow", PLAIN): _measured(0.1, 0.3, 0.3),
    Key("ofa64", PLAIN): _measured(0.4, 0.3, 0.5),
    Key("raw", WHITENED): _measured(0.2, 0.2, 0.2),
    Key("crow", WHITENED): _measured(0.2, 0.1, 0.2),
    Key("ofa64", WHITENED): _measured(0.5, 0.4, 0.7),
    Key("ofa64", OWN): _measured(0.6, 0.4, 0.8),
  }

  def _difference(self, one, other):
    return paired_bootstrap(one.values, other.values, 500, 3)

  def test_within_the_same_weights(self):
    found = compare(self.measured, None, 500, 3)
    assert set(found) == set(self.measured)
    assert not any(found[Key(name, variant)] for name in ("raw", "crow") for variant in (PLAIN, WHITENED))
    for variant, other in ((PLAIN, PLAIN), (WHITENED, WHITENED), (OWN, WHITENED)):
      mine = self.measured[Key("ofa64", variant)]
      expected = {name: self._difference(mine, self.measured[Key(name, other)]) for name in ("raw", "crow")}
      assert found[Key("ofa64", variant)] == expected

  def test_against_other_weights(self):
    theirs = {key: _measured(*(one.values / 2)) for key, one in self.measured.items() if key.variant != OWN}
    found = compare(self.measured, theirs, 500, 3)
    for key, one in self.measured.items():
      other = theirs[Key(key.system, WHITENED if key.variant == OWN else key.variant)]
      assert found[key][REFERENCE] == self._difference(one, other)

  def test_own_is_compared_with_own_where_the_others_have_one(self):
    theirs = {**self.measured, Key("ofa64", OWN): _measured(0, 0, 0)}
    found = compare(self.measured, theirs, 500, 3)
    assert found[Key("ofa64", OWN)][REFERENCE] == self._difference(self.measured[Key("ofa64", OWN)], theirs[Key("ofa64", OWN)])
    assert found[Key("raw", PLAIN)][REFERENCE] == (0, 0, 0)

  def test_what_has_no_counterpart_has_no_difference(self):
    theirs = {key: one for key, one in self.measured.items() if key.variant == PLAIN}
    found = compare(self.measured, theirs, 500)
    assert REFERENCE in found[Key("ofa64", PLAIN)]
    assert not any(REFERENCE in found[Key("ofa64", variant)] for variant in (WHITENED, OWN))

  def test_queries_without_any_value_have_no_difference(self):
    nothing = {key: _measured(math.nan, math.nan) for key in self.measured}
    assert not any(compare(nothing, nothing).values())
