"""A NaN in one image stays there: an image that a decoder or a network spoiled must not change what is said of another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.ops.ranking import augment_database, expand_query_by_scores
from tests.ops.operations import OPERATIONS, compile_operation, draw, list_functions

NOT_HERE = {
  "augment_database": "a row is an answer to the others; held below",
  "check_axes": "takes no array",
  "enlarge_mask": "of truth values, which cannot be NaN",
  "count_distinct": "of all vectors together, on the host",
  "fit_whitening": "of all vectors together; values that are not finite are refused",
  "label_components": "of truth values, which cannot be NaN",
  "mask_boxes": "of whole numbers, which cannot be NaN",
  "locate_cells": "takes only a shape",
  "match_cells": "what match_places calls; held there",
  "match_classes": "of whole numbers, which cannot be NaN",
  "place_regions": "of truth values, which cannot be NaN",
  "place_spans": "of truth values, which cannot be NaN",
}

SWALLOWS = {
  "compute_channel_weights": "a NaN does not fire",
  "compute_center_weights": "only the shape counts",
  "compute_spatial_weights": "a cell of no sum has no weight, and zero times its NaN spoils the pooled vector",
  "find_regions": "a map with a NaN has no region",
  "match_places": "a cell with a NaN matches nothing",
  "merge": "a NaN comes last",
  "quantize": "a whole number is never NaN; its scale is, so the vector that comes back is",
  "rank": "a NaN comes last",
  "rank_blocks": "a NaN comes last",
  "rank_scores": "a NaN comes last",
  "rank_shards": "a NaN comes last",
  "expand_query_by_scores": "an answer whose score is NaN is none",
  "select_cells": "no cell is selected by a map with a NaN",
}
"""What shows no NaN where it is given one, and why."""

BAD = 1
"""The row that is spoiled; the rows before and after it are looked at."""

CASES = [
  (label, axis, argument)
  for label, one in OPERATIONS.items()
  for axis in one.batch.split()
  for argument, axes in one.arrays.items()
  if axis in axes.split() and draw(one)[argument].dtype == np.float32
]


def list_ways(array, place):
  """The array with one of its rows spoiled: throughout, in one value, by an infinity."""
  for value, whole in ((np.nan, True), (np.nan, False), (np.inf, True), (-np.inf, False)):
    spoiled = np.moveaxis(array.copy(), place, 0)
    spoiled[BAD].flat[slice(None) if whole else 0] = value
    yield np.moveaxis(spoiled, 0, place)


def leave_out_bad(array, place):
  """The bits of the other rows."""
  others = np.ascontiguousarray(np.delete(np.asarray(array), BAD, place))
  return others.view(np.uint8)


def test_no_operation_is_missing():
  assert {OPERATIONS[label].name for label, _, _ in CASES} == list_functions() - set(NOT_HERE)
  assert set(SWALLOWS) | set(NOT_HERE) <= list_functions()


@pytest.mark.parametrize(("label", "axis", "argument"), CASES)
def test_another_row_keeps_its_bits(label, axis, argument):
  operation = OPERATIONS[label]
  arrays = draw(operation)
  call = compile_operation(label)
  expected = call(*arrays.values())
  for spoiled in list_ways(arrays[argument], operation.arrays[argument].split().index(axis)):
    found = call(*(arrays | {argument: spoiled}).values())
    for ours, theirs, axes in zip(found, expected, operation.results, strict=True):
      if axis in axes.split():
        place = axes.split().index(axis)
        np.testing.assert_array_equal(leave_out_bad(ours, place), leave_out_bad(theirs, place))


@pytest.mark.parametrize("label", dict.fromkeys(case[0] for case in CASES if OPERATIONS[case[0]].name not in SWALLOWS))
def test_a_spoiled_row_does_not_pass_for_a_good_one(label):
  operation = OPERATIONS[label]
  arrays = draw(operation)
  axis, argument = next(case[1:] for case in CASES if case[0] == label)
  spoiled = next(list_ways(arrays[argument], operation.arrays[argument].split().index(axis)))
  found = compile_operation(label)(*(arrays | {argument: spoiled}).values())
  for result, axes in zip(found, operation.results, strict=True):
    assert np.isnan(np.take(np.asarray(result), BAD, axes.split().index(axis))).any()


@pytest.mark.parametrize("label", [label for label, one in OPERATIONS.items() if "mask" in one.arrays and len(one.arrays) > 1])
def test_what_lies_outside_the_mask_does_not_matter(label):
  """Not in a bit, in any of the arrays that have cells."""
  operation = OPERATIONS[label]
  arrays, found = draw(operation), []
  outside = ~arrays["mask"]
  assert outside.any()
  for value in (0.0, -7.0, np.nan, np.inf):
    for name, axes in operation.arrays.items():
      if axes.startswith("b i j ") or name == "spatial_weights":
        arrays[name][outside] = value
    found.append(compile_operation(label)(*arrays.values()))
  for other in found[1:]:
    for ours, theirs in zip(other, found[0], strict=True):
      assert np.isfinite(ours).all()
      np.testing.assert_array_equal(*(np.frombuffer(np.asarray(one).tobytes(), np.uint8) for one in (ours, theirs)))


@pytest.mark.parametrize("label", ["rank", "rank_blocks", "rank_shards"])
def test_a_bad_row_of_the_database_leaves_the_order_of_the_others(label):
  operation = OPERATIONS[label]
  arrays = draw(operation)
  call = functools.partial(operation.function, **(operation.settings | {"k": 8}))
  queries, database = jnp.asarray(arrays["queries"]), arrays["database"]
  clean = call(queries, jnp.asarray(database) if operation.traced else database)
  for value in (np.nan, np.inf):  # the product of an infinity and zero is NaN
    spoiled = database.copy()
    spoiled[BAD] = value
    spoiled[BAD, 0] = np.nan
    found = call(queries, jnp.asarray(spoiled) if operation.traced else spoiled)
    np.testing.assert_array_equal(found.rows[:, -1], [BAD] * 3)
    others = np.asarray(clean.rows) != BAD
    np.testing.assert_array_equal(found.rows[:, :-1], np.asarray(clean.rows)[others].reshape(3, 7))
    np.testing.assert_array_equal(found.scores[:, :-1], np.asarray(clean.scores)[others].reshape(3, 7))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_an_answer_that_is_spoiled_adds_nothing(alpha, value):
  """It scores NaN, which a ranking calls -inf: zero times what its row holds would be NaN again."""
  arrays = draw(OPERATIONS["expand_query_by_scores"])
  arrays["descriptors"][BAD] = 0.0
  arrays["scores"] = np.where(arrays["rows"] == BAD, -np.inf, arrays["scores"])
  assert (arrays["rows"][:, :3] == BAD).any()
  expand = jax.jit(functools.partial(expand_query_by_scores, n=3, alpha=alpha))
  expected = expand(**arrays)
  arrays["descriptors"][BAD] = value
  np.testing.assert_array_equal(expand(**arrays), expected)
  arrays["scores"] = np.where(np.isneginf(arrays["scores"]), np.nan, arrays["scores"])
  np.testing.assert_array_equal(expand(**arrays), expected)


@pytest.mark.parametrize("neighbors", [2, 99])
def test_a_spoiled_row_of_the_database_is_augmented_alone(neighbors):
  """To the others it is a row that nothing is near to, as a zero row is; also where all rows are asked for."""
  database = draw(OPERATIONS["augment_database"])["database"]
  database[BAD] = 0.0
  expected = augment_database(database, neighbors, block=16)
  assert not expected[BAD].any()
  for value in (np.nan, np.inf):
    database[BAD] = np.nan
    database[BAD, 0] = value
    found = augment_database(database, neighbors, block=16)
    np.testing.assert_array_equal(leave_out_bad(found, 0), leave_out_bad(expected, 0))
    assert np.isnan(found[BAD]).any()
