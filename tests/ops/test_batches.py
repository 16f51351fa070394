"""Compiled, mapped or one by one: an operation gives the same of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.operations import OPERATIONS, compile_operation, draw
from tests.oracle.deviation import assert_close

# The same sums in another order of vectors, then one root or power: a few ulp (6e-8 each) of the largest value. Whitening
# subtracts a mean that is near the vectors.
TOLERANCE = 2e-6

HELD_BY_THEIR_OWN_TESTS = {
  "aggregate",
  "aggregate_matching",
  "apply_whitening",
  "compute_cams",
  "compute_spatial_weights",
  "enlarge",
  "find_regions",
  "l2_normalize",
  "pool_class_vectors",
  "rank",
}

HERE = {label: one for label, one in OPERATIONS.items() if one.traced and one.name not in HELD_BY_THEIR_OWN_TESTS}

MAPPED = [(label, axis) for label, one in HERE.items() if one.note != "whole" for axis in one.batch.split()]


def compare(name, found, expected):
  """Holds whole numbers and truth values exactly, and the others nearly."""
  for ours, theirs in zip(found, expected, strict=True):
    exact = np.asarray(theirs).dtype != np.float32
    assert_close(f"batches: {name}", ours, theirs, 0.0 if exact else TOLERANCE)


def find_places(labels, axis):
  """Where the axis stands in each array; None where it does not."""
  return [axes.split().index(axis) if axis in axes.split() else None for axes in labels]


def take(arrays, places, n):
  """The n-th element of each array that has the axis, and the others whole."""
  return [array if place is None else np.take(array, n, place) for array, place in zip(arrays, places, strict=True)]


@pytest.mark.parametrize("label", [label for label, one in HERE.items() if not one.note])
def test_jit_equals_eager(label):
  arrays = draw(OPERATIONS[label]).values()
  compare("jit and eager", compile_operation(label)(*arrays), OPERATIONS[label].call(*arrays))


@pytest.mark.parametrize(("label", "axis"), MAPPED)
def test_a_batch_is_what_vmap_makes_of_it_and_batches_of_one(label, axis):
  operation = OPERATIONS[label]
  taken, given = find_places(operation.arrays.values(), axis), find_places(operation.results, axis)
  kept = [place for place in given if place is not None]

  def call_one(*arrays):
    whole = [array if place is None else jnp.expand_dims(array, place) for array, place in zip(arrays, taken, strict=True)]
    found = zip(operation.call(*whole), given, strict=True)
    return [jnp.squeeze(array, place) for array, place in found if place is not None]

  one, mapped = jax.jit(call_one), jax.jit(jax.vmap(call_one, taken, kept))
  for seed in range(3):
    arrays = list(draw(operation, seed=seed).values())
    found = zip(compile_operation(label)(*arrays), given, strict=True)
    expected = [array for array, place in found if place is not None]
    compare("vmap and batch", mapped(*arrays), expected)
    alone = [one(*take(arrays, taken, n)) for n in range(expected[0].shape[kept[0]])]
    compare("one and batch", map(np.stack, zip(*alone, strict=True), kept), expected)
