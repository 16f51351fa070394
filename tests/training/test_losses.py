import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwf_jax.models.network import NetworkOutput
from cwf_jax.training import losses
from tests.oracle.deviation import assert_close
from tests.tiny import TEACHER
from tests.training.conftest import STUDENT

label_loss, probability_loss = jax.jit(losses.label_loss), jax.jit(losses.probability_loss)


@jax.jit
def cell_loss(maps, teacher_maps, project):
  return losses.cell_loss(maps, teacher_maps, project)


TOLERANCE = 1e-5  # sums of some hundred terms in float32; the standardized cells are quotients of small differences


def _draw(*shape, seed=0, scale=1.0):
  return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def _log_softmax(row):
  row = [float(value) for value in row]
  most = max(row)
  total = math.log(sum(math.exp(value - most) for value in row)) + most
  return [value - total for value in row]


def _label_loss(logits, labels):
  each = [-_log_softmax(row)[label] for row, label in zip(logits, labels, strict=True) if label >= 0]
  return sum(each) / len(each) if each else 0.0


def _probability_loss(logits, teacher_logits):
  total = 0.0
  for row, wanted in zip(logits, teacher_logits, strict=True):
    ours, theirs = _log_softmax(row), _log_softmax(wanted)
    total += sum(math.exp(log_p) * (log_p - log_q) for log_p, log_q in zip(theirs, ours, strict=True))
  return total / len(logits)


def _average(maps, shape):
  """Each coarse cell is the mean of the fine cells in it; rows and columns left over are dropped."""
  rows, columns = maps.shape[1] // shape[0], maps.shape[2] // shape[1]
  result = np.zeros((maps.shape[0], *shape, maps.shape[3]))
  for b, i, j in np.ndindex(result.shape[:3]):
    for row, column in np.ndindex(rows, columns):
      result[b, i, j] += np.asarray(maps[b, i * rows + row, j * columns + column], np.float64) / (rows * columns)
  return result


def _cell_loss(maps, teacher_maps, kernel, bias):
  shape = min(maps.shape[1], teacher_maps.shape[1]), min(maps.shape[2], teacher_maps.shape[2])
  maps, target = _average(maps, shape), _average(teacher_maps, shape)
  cells = list(np.ndindex(maps.shape[:3]))
  mean = sum(target[cell] for cell in cells) / len(cells)
  spread = np.sqrt(sum((target[cell] - mean) ** 2 for cell in cells) / len(cells))
  total = 0.0
  for cell in cells:
    ours, theirs = maps[cell] @ np.asarray(kernel, np.float64) + bias, (target[cell] - mean) / (spread + 1e-3)
    length = math.sqrt((ours**2).sum() * (theirs**2).sum())
    total += 1.0 - ((ours * theirs).sum() / length if length else 0.0)
  return total / len(cells)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, 1, -1, 4], [-1, -1, -1, 0], [-1, -1, -1, -1]])
def test_label_loss_equals_the_loop(labels):
  logits = _draw(4, 5, scale=3.0)
  found, gradient = jax.jit(jax.value_and_grad(losses.label_loss))(jnp.asarray(logits), jnp.asarray(labels))
  assert_close("label loss", found, _label_loss(logits, labels), TOLERANCE)
  assert np.isfinite(gradient).all()
  assert [bool(np.any(row)) for row in np.asarray(gradient)] == [label >= 0 for label in labels]


def test_label_loss_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]))
  found = label_loss(logits, jnp.array([0, 2, -1]))
  np.testing.assert_allclose(found, (math.log(2) - math.log(0.8)) / 2, rtol=1e-6)


def test_extreme_logits_stay_finite():
  logits = jnp.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
  for loss in (
    lambda x: losses.label_loss(x, jnp.array([1, 0])),
    lambda x: losses.probability_loss(x, jnp.array([[-1e4, 1e4, 0.0], [1e4, 0.0, 0.0]])),
  ):
    found, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    assert np.isfinite(found) and np.isfinite(gradient).all()


def test_probability_loss_equals_the_loop():
  logits, teacher_logits = _draw(6, 7, scale=3.0), _draw(6, 7, seed=1, scale=3.0)
  found = probability_loss(jnp.asarray(logits), jnp.asarray(teacher_logits))
  assert_close("probability loss", found, _probability_loss(logits, teacher_logits), TOLERANCE)


@hypothesis.given(seed=st.integers(0, 100), shift=st.floats(-50, 50))
def test_probabilities_that_agree_cost_nothing_and_others_do(seed, shift):
  logits = jnp.asarray(_draw(3, 6, seed=seed))
  assert abs(probability_loss(logits + jnp.float32(shift), logits)) < 1e-4  # a shift of 50 costs float32 two digits
  assert probability_loss(logits.at[:, 0].add(1.0), logits) > 1e-3


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    ((2, 3, 3, 4), (2, 3, 3, 6)),
    ((2, 6, 6, 4), (2, 3, 3, 6)),  # the student's map is finer
    ((2, 2, 3, 4), (2, 4, 6, 5)),  # the teacher's is
    ((2, 1, 1, 4), (2, 1, 1, 3)),
    ((1, 4, 4, 3), (1, 1, 1, 3)),  # one cell in all: its deviation from the mean is nothing
  ],
)
def test_cell_loss_equals_the_loop(ours, theirs):
  maps, teacher_maps = np.maximum(_draw(*ours), 0), np.maximum(_draw(*theirs, seed=1, scale=5.0), 0)
  project = nnx.Linear(ours[-1], theirs[-1], rngs=nnx.Rngs(0))
  project.bias.set_value(jnp.asarray(_draw(theirs[-1], seed=2, scale=0.1)))
  found = cell_loss(jnp.asarray(maps), jnp.asarray(teacher_maps), project)
  expected = _cell_loss(maps, teacher_maps, np.asarray(project.kernel[...]), np.asarray(project.bias[...], np.float64))
  assert_close("cell loss", found, expected, TOLERANCE)
  assert 0 <= found <= 2


def test_maps_whose_cells_do_not_fall_together_are_refused():
  project = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="a map of 5x7 cells cannot be averaged to 2x3 whole ones"):
    cell_loss(jnp.ones((3, 5, 7, 4)), jnp.ones((3, 2, 3, 4)), project)


def test_cell_loss_takes_half_precision_and_answers_in_float32():
  project = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
  maps, teacher_maps = jnp.asarray(_draw(2, 3, 3, 4)), jnp.asarray(_draw(2, 3, 3, 6, seed=1))
  half = cell_loss(maps.astype(jnp.bfloat16), teacher_maps.astype(jnp.bfloat16), project)
  assert half.dtype == jnp.float32
  assert abs(half - cell_loss(maps, teacher_maps, project)) < 0.02  # 8 bits of mantissa


def test_cells_that_point_the_same_way_cost_nothing():
  """A student that gives the teacher's standardized cells, at any length, has learned all there is."""
  target = _draw(2, 3, 3, 4)
  standardized = (target - target.mean((0, 1, 2))) / (target.std((0, 1, 2)) + 1e-3)
  project = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
  project.kernel.set_value(jnp.eye(4))
  assert cell_loss(jnp.asarray(standardized * 7), jnp.asarray(target), project) == pytest.approx(0, abs=1e-6)
  assert cell_loss(jnp.asarray(-standardized), jnp.asarray(target), project) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("empty", [(True, False), (False, True), (True, True)])
def test_empty_maps_give_finite_gradients(empty):
  maps, teacher_maps = (
    jnp.asarray(np.zeros(shape, np.float32) if is_empty else _draw(*shape))
    for shape, is_empty in zip(((2, 2, 2, 4), (2, 2, 2, 6)), empty, strict=True)
  )
  project = nnx.Linear(4, 6, rngs=nnx.Rngs(0))

  def loss(maps, project):
    return losses.cell_loss(maps, teacher_maps, project)

  found, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(maps, project)
  assert found == pytest.approx(1.0)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def _make_output(config, cells, cam_cells, seed):
  return NetworkOutput(
    logits=jnp.asarray(_draw(2, 5, seed=seed)),
    cam_features=jnp.asarray(_draw(2, *cam_cells, config.cam_channels, seed=seed + 1)),
    mask=jnp.ones((2, *cam_cells), bool),
    taps={config.feature_tap: jnp.asarray(_draw(2, *cells, config.feature_channels, seed=seed + 2))},
  )


def test_the_terms_of_distillation_are_the_losses_of_their_maps():
  projections = losses.Projections(STUDENT, TEACHER, rngs=nnx.Rngs(0))
  ours, theirs = _make_output(STUDENT, (2, 2), (2, 2), 0), _make_output(TEACHER, (2, 2), (1, 1), 10)
  found = jax.jit(
    lambda ours, theirs, projections: losses.distillation_losses(
      ours, STUDENT.feature_tap, theirs, TEACHER.feature_tap, projections
    )
  )(ours, theirs, projections)
  features, theirs_features = ours.taps[STUDENT.feature_tap], theirs.taps[TEACHER.feature_tap]
  expected = {
    "probabilities": probability_loss(ours.logits, theirs.logits),
    "features": cell_loss(features, theirs_features, projections.features),
    "cam_features": cell_loss(ours.cam_features, theirs.cam_features, projections.cam_features),
  }
  assert set(found) == set(expected)
  for name, value in expected.items():
    assert found[name] == pytest.approx(float(value), rel=1e-6)  # compiled together
