"""What training minimizes.

Distillation is by Hinton, Vinyals and Dean 2015 for the probabilities, at a temperature of 1, and cell by cell for the maps:
a linear map of the student's cell should point where the teacher's cell does.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from cwf_jax.models.network import NetworkOutput
from cwf_jax.ops.normalize import l2_normalize


class Projections(nnx.Module):
  """Linear maps from the student's channels to the teacher's, for features and for CAM features; used in training only."""

  def __init__(self, student, teacher, *, rngs: nnx.Rngs):
    """`student` and `teacher` are the networks' settings."""
    self.features = nnx.Linear(student.feature_channels, teacher.feature_channels, rngs=rngs)
    self.cam_features = nnx.Linear(student.cam_channels, teacher.cam_channels, rngs=rngs)


def label_loss(logits: Float[Array, "b c"], labels: Int[Array, "b"]) -> Float[Array, ""]:
  """The cross entropy with the labels, in nats, averaged over the images that have one (label >= 0)."""
  known = labels >= 0
  each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
  return jnp.where(known, each, 0.0).sum() / jnp.maximum(known.sum(), 1)


def probability_loss(logits: Float[Array, "b c"], teacher_logits: Float[Array, "b c"]) -> Float[Array, ""]:
  """The Kullback-Leibler divergence of the student's probabilities from the teacher's, in nats, averaged over images."""
  return optax.kl_divergence(jax.nn.log_softmax(logits), jax.nn.softmax(teacher_logits)).mean()


def cell_loss(
  maps: Float[Array, "b i j k"], teacher_maps: Float[Array, "b i2 j2 m"], project: nnx.Linear
) -> Float[Array, ""]:
  """1 - cosine between projected student cells and standardized teacher cells, averaged over cells: 0 to 2.

  Each channel of the teacher is standardized over the batch: what most cells have in common would fill the cosine
  otherwise. The finer map of the two is averaged to the coarser one's cells.

  Raises:
    ValueError: when it is traced: the finer map has not a whole number of cells for each of the coarser one's.
  """
  shape = min(maps.shape[1:3], teacher_maps.shape[1:3])
  maps, target = _average_to(maps.astype(jnp.float32), shape), _average_to(teacher_maps.astype(jnp.float32), shape)
  mean, spread = target.mean((0, 1, 2)), target.std((0, 1, 2))
  target = (target - mean) / (spread + 1e-3)
  return 1.0 - (l2_normalize(project(maps)) * l2_normalize(target)).sum(-1).mean()


def distillation_losses(
  output: NetworkOutput, tap: str, teacher: NetworkOutput, teacher_tap: str, projections: Projections
) -> dict[str, Float[Array, ""]]:
  """The three terms by name: "probabilities", "features", "cam_features"."""
  return {
    "probabilities": probability_loss(output.logits, teacher.logits),
    "features": cell_loss(output.taps[tap], teacher.taps[teacher_tap], projections.features),
    "cam_features": cell_loss(output.cam_features, teacher.cam_features, projections.cam_features),
  }


def _average_to(maps: Float[Array, "b i j k"], shape: tuple[int, int]) -> Float[Array, "b i2 j2 k"]:
  (rows, more), (columns, wider) = divmod(maps.shape[1], shape[0]), divmod(maps.shape[2], shape[1])
  if more or wider:
    raise ValueError(f"a map of {maps.shape[1]}x{maps.shape[2]} cells cannot be averaged to {shape[0]}x{shape[1]} whole ones")
  batch, _, _, channels = maps.shape
  return maps.reshape(batch, shape[0], rows, shape[1], columns, channels).mean((2, 4))
