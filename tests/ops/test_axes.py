"""Wrong axes are refused when a function is traced, in words, and the compiled program knows nothing of it."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from cwf_jax.ops import axes as axes_module
from cwf_jax.ops.axes import LARGEST_SIZE, check_axes
from cwf_jax.ops.pooling import pool_gem, pool_max, pool_sum
from tests.ops.operations import OPERATIONS, SIZES, draw, list_functions

CHECKED = {
  label: one
  for label, one in OPERATIONS.items()
  if one.name in list_functions(only_checked=True) and one.note in ("", "own", "whitened")  # the others take nothing else
}

ARGUMENTS = [(label, argument) for label, one in CHECKED.items() for argument in one.arrays]

SHARED = [
  (label, argument, axis)
  for label, argument in ARGUMENTS
  for axis in CHECKED[label].arrays[argument].split()
  if " ".join(CHECKED[label].arrays.values()).split().count(axis) > 1 or axis.isdecimal()
]

EMPTY = [(label, axis) for label, one in CHECKED.items() for axis in one.empty.split()]

FILLED = [
  (label, axis)
  for label, one in CHECKED.items()
  for axis in dict.fromkeys(" ".join(one.arrays.values()).split())
  if not axis.isdecimal() and (label, axis) not in EMPTY
]

ASKED = {"rank_scores": "n", "expand_query": "m", "expand_query_by_scores": "m"}
"""Axes that may be empty, of which a setting asks for more than none."""


def list_shapes(label, sizes=SIZES):
  """Of the arguments, by name, without their values: an axis may be longer than any memory."""
  drawn = draw(CHECKED[label])
  return {
    name: jax.ShapeDtypeStruct(tuple(sizes[axis] for axis in axes.split()), drawn[name].dtype)
    for name, axes in CHECKED[label].arrays.items()
  }


def resize(shape, axes, axis, size):
  """The shape with one axis, wherever it stands, of another size."""
  return jax.ShapeDtypeStruct(
    tuple(size if name == axis else old for name, old in zip(axes.split(), shape.shape, strict=True)), shape.dtype
  )


def check_refused(label, shapes, argument, *words):
  """Holds that shapes are refused inside `jit` and outside, with the function's name, the argument's and these words."""
  call = CHECKED[label].call
  if all(np.prod(shape.shape) < 1e6 for shape in shapes.values()):
    arrays = [np.zeros(shape.shape, shape.dtype) for shape in shapes.values()]
    calls = [lambda: call(*arrays), lambda: jax.jit(call)(*arrays)]
  else:  # longer than any memory: it is traced without values
    calls = [lambda: jax.eval_shape(call, *shapes.values())]
  for each in calls:
    with pytest.raises(ValueError) as caught:
      each()
    message = str(caught.value)
    assert message.startswith(f"{CHECKED[label].name}: ")
    assert re.search(rf"\b{argument}\b", message)
    for word in words:
      assert word in message


def test_no_checked_function_is_missing():
  assert {one.name for one in CHECKED.values()} == list_functions(only_checked=True)
  assert len(CHECKED) > 25


@pytest.mark.parametrize("label", CHECKED)
def test_the_axes_of_the_method_are_taken_and_given(label):
  """Also of one image, one cell and one class."""
  operation = CHECKED[label]
  for sizes in (SIZES, SIZES | dict.fromkeys(["b", "i", "j", "c", "q", "r", "s", "t"], 1)):
    found = jax.eval_shape(operation.call, *list_shapes(label, sizes).values())
    expected = []
    for axes in operation.results:
      named = [re.fullmatch(r"(\d*)([a-z]?)", axis).groups() for axis in axes.split()]
      expected.append(tuple(int(times or 1) * (sizes[axis] if axis else 1) for times, axis in named))
    assert [shape.shape for shape in found] == expected


@pytest.mark.parametrize(("label", "argument"), ARGUMENTS)
def test_a_wrong_rank_is_refused(label, argument):
  shapes = list_shapes(label)
  shape = shapes[argument]
  for wrong in ((), shape.shape[1:] if len(shape.shape) < 3 else shape.shape[2:], (1, 1, *shape.shape)):
    shapes[argument] = jax.ShapeDtypeStruct(wrong, shape.dtype)
    check_refused(label, shapes, argument, f"found the shape {wrong}", f"[{CHECKED[label].arrays[argument][0]} ")


@pytest.mark.parametrize(("label", "argument", "axis"), SHARED)
def test_axes_that_differ_are_refused(label, argument, axis):
  shapes = list_shapes(label)
  shapes[argument] = resize(shapes[argument], CHECKED[label].arrays[argument], axis, SIZES[axis] + 1)
  check_refused(label, shapes, argument, f"{SIZES[axis]}", f"{SIZES[axis] + 1}", axis)


@pytest.mark.parametrize(("label", "axis"), FILLED)
def test_an_empty_axis_is_refused(label, axis):
  shapes = list_shapes(label, SIZES | {axis: 0})
  check_refused(label, shapes, "|".join(shapes), f"{axis} is 0")


@pytest.mark.parametrize(("label", "axis"), EMPTY)
def test_an_axis_that_may_be_empty(label, axis):
  """The result is empty, or a sum of nothing, unless something is asked of it."""
  operation, shapes = CHECKED[label], list_shapes(label, SIZES | {axis: 0})
  call, arrays = jax.jit(operation.call), [jnp.zeros(shape.shape, shape.dtype) for shape in shapes.values()]
  if ASKED.get(operation.name) == axis:
    with pytest.raises(ValueError, match=r"is 1 to 0, the (rows|answers) there are"):
      call(*arrays)
    return
  for array, axes in zip(call(*arrays), operation.results, strict=True):
    if axis in axes.split():
      assert np.size(array) == 0
    elif array.dtype != np.int32:  # which is a count of what is lacking
      assert not np.asarray(array).any()


@pytest.mark.parametrize(("label", "axis"), FILLED)
def test_an_axis_that_is_too_long_is_refused(label, axis):
  shapes = list_shapes(label, SIZES | {axis: LARGEST_SIZE + 1})
  check_refused(label, shapes, "|".join(shapes), f"{axis} is 2147483648", "2147483647")


def test_a_message_by_hand():
  with pytest.raises(ValueError) as caught:
    pool_sum(jnp.ones((2, 3, 4, 5)), channel_weights=jnp.ones((2, 6)))
  assert str(caught.value) == "pool_sum: channel_weights [b k] has the shape (2, 6): k is 5 in features [b i j k]"


def test_a_size_that_an_exported_program_leaves_open_is_like_any_other():
  images, others = jax.export.symbolic_shape("images, others")
  features = jax.ShapeDtypeStruct((images, 3, 4, 5), jnp.float32)
  weights = [jax.ShapeDtypeStruct((size, 5), jnp.float32) for size in (images, others)]
  export = jax.export.export(jax.jit(lambda *arrays: pool_sum(arrays[0], channel_weights=arrays[1])))
  assert export(features, weights[0]).out_avals[0].shape == (images, 5)
  with pytest.raises(ValueError, match=r"^pool_sum: channel_weights .*: b is images in features"):
    export(features, weights[1])


def test_an_exponent_that_is_learned_is_one_number():
  assert pool_gem(jnp.ones((1, 2, 2, 3)), exponent=jnp.float32(2.0)).shape == (1, 3)
  with pytest.raises(ValueError, match=r"^pool_gem: exponent is \[\]; found the shape \(3,\)$"):
    pool_gem(jnp.ones((1, 2, 2, 3)), exponent=jnp.ones(3))


def test_arguments_are_checked_however_they_are_given():
  @check_axes(empty="c")
  def multiply(left: Float[Array, "b k"], right: Float[Array, "c k"] | None = None, *, times: int = 1):
    return (left, right, times)

  left, right = jnp.ones((2, 3)), jnp.ones((0, 3))
  for found in (multiply(left, right, times=2), multiply(right=right, left=left, times=2)):
    assert found[0] is left and found[1] is right and found[2] == 2
  assert multiply(left)[1] is None and multiply(left, None)[1] is None
  for call in (lambda: multiply(left, jnp.ones((4, 2))), lambda: multiply(right=jnp.ones((4, 2)), left=left)):
    with pytest.raises(ValueError, match=r"^multiply: right \[c k\] has the shape \(4, 2\): k is 3 in left \[b k\]$"):
      call()
  with pytest.raises(TypeError, match="left"):  # as of any function that is called without an argument
    multiply(right=right)
  assert multiply.__name__ == "multiply"


# of rank_shards the check is outside the program, which is compiled by a function of its own
@pytest.mark.parametrize("label", [label for label, one in CHECKED.items() if one.name != "rank_shards"])
def test_no_trace_of_the_check_is_in_the_compiled_program(label):
  operation, shapes = CHECKED[label], list_shapes(label).values()
  function = inspect.unwrap(operation.function)
  assert function is not operation.function
  bare = operation._replace(function=jax.jit(function) if hasattr(operation.function, "lower") else function)
  assert jax.jit(operation.call).lower(*shapes).as_text() == jax.jit(bare.call).lower(*shapes).as_text()


def test_a_compiled_program_is_called_without_a_check(monkeypatch):
  operation = CHECKED["compute_center_weights"]
  compiled = jax.jit(operation.call)
  arrays = draw(operation).values()
  first = compiled(*arrays)
  monkeypatch.setattr(axes_module, "_check_shape", None)
  np.testing.assert_array_equal(compiled(*arrays), first)
  with pytest.raises(TypeError):
    operation.call(*arrays)


def test_a_map_has_no_more_cells_than_can_be_counted():
  with pytest.raises(ValueError, match=r"pool_max: features \[b i j k\] .*: i j is 4294967296, and at most 2147483647 can"):
    jax.eval_shape(pool_max, jax.ShapeDtypeStruct((1, 2**16, 2**16, 1), jnp.float32))
