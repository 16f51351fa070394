"""One step of training, and the state that it changes: a pytree, so that it is compiled, sharded and saved as one.

The state is replicated on all devices and a batch is cut among them; the compiler adds what sums up gradients and the
statistics of batch norm, which are those of the whole batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from cwf_jax.models.network import CamNetwork, NetworkOutput
from cwf_jax.training import normalization
from cwf_jax.training.augmentation import augment, average_blocks
from cwf_jax.training.losses import Projections, distillation_losses, label_loss
from cwf_jax.training.settings import TrainingSettings

HEAD = ("cam", "classifier")
"""The layers that are trained when the backbone is frozen."""


class Trained(nnx.Module):
  """What holds parameters during training: the network, and with a teacher the projections to its maps."""

  def __init__(self, network: nnx.Module, projections: Projections | None):
    self.network = network
    self.projections = projections


class State(NamedTuple):
  """Everything that a step changes.

  Attributes:
    parameters: what is trained.
    others: what is not: the frozen layers, and the statistics of batch norm.
    optimizer: of optax.
    step: the number of steps taken.
  """

  parameters: nnx.State
  others: nnx.State
  optimizer: Any
  step: Int[Array, ""]


class Method(NamedTuple):
  """What is static: how the state is put together again, and what makes it a better one.

  Attributes:
    graph: nnx's definition of `Trained`.
    transform: optax's.
    settings: of the run.
  """

  graph: Any
  transform: optax.GradientTransformation
  settings: TrainingSettings


def prepare(
  network: nnx.Module, settings: TrainingSettings, teacher: nnx.Module | None = None, normalized: bool = True
) -> tuple[Method, State]:
  """The first state of a run.

  Args:
    network: where it starts from; its layers go into the state.
    settings: of the run.
    teacher: whose maps the student learns, or None.
    normalized: put batch norm into the network, as a network of random weights needs.
  """
  if normalized:
    normalization.insert(network, settings.seed)
  projections = None
  if teacher is not None:
    projections = Projections(network.config, teacher.config, rngs=nnx.Rngs(settings.seed))
  trained = nnx.All(nnx.Param, _in_head) if settings.frozen else nnx.Param
  graph, parameters, others = nnx.split(Trained(network, projections), trained, ...)
  transform = optax.adamw(learning_rates(settings), weight_decay=settings.weight_decay, mask=_are_kernels)
  return Method(graph, transform, settings), State(parameters, others, transform.init(parameters), jnp.zeros((), jnp.int32))


def learning_rates(settings: TrainingSettings) -> Callable[[Any], Any]:
  """The learning rate of each step: up linearly, down to zero on a cosine."""
  steps = settings.schedule.steps
  return optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, min(settings.warmup, max(steps - 1, 0)), steps)


def network_of(method: Method, state: State) -> nnx.Module:
  """The network, with batch norm where there is some."""
  return nnx.merge(method.graph, state.parameters, state.others).network


@functools.partial(jax.jit, static_argnames=("method", "side"), donate_argnames="state")
def take_step(
  method: Method,
  state: State,
  teacher: nnx.Module | None,
  images: UInt8[Array, "b S S 3"],
  sizes: Int[Array, "b 2"],
  labels: Int[Array, "b"],
  side: int,
) -> tuple[State, dict[str, Float[Array, ""]]]:
  """One update on random views of a batch.

  Args:
    method: of `prepare`.
    state: before; its memory is used again.
    teacher: the network that `prepare` was given.
    images: with `sizes` and `labels` a `Batch`.
    sizes: (height, width) of each image.
    labels: -1 where there is none.
    side: pixels a side of the views.

  Returns:
    The state after it, and "loss" with its terms, and "accuracy": the share of views whose most probable class is the
    label, or the teacher's most probable class.
  """
  settings = method.settings
  key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
  if teacher is None:
    views, target = augment(key, images, sizes, side, settings), None
  else:
    finer = augment(key, images, sizes, side * settings.teacher_scale, settings)
    views, target = average_blocks(finer, settings.teacher_scale), jax.lax.stop_gradient(_run(teacher, finer, settings.dtype))

  def compute_loss(parameters):
    trained = nnx.merge(method.graph, parameters, state.others, copy=True)
    output = _run(trained.network, views, settings.dtype)
    if target is None:
      terms = {"labels": label_loss(output.logits, labels)}
      loss, known, wanted = terms["labels"], labels >= 0, labels
    else:
      taps = trained.network.config.feature_tap, teacher.config.feature_tap
      terms = distillation_losses(output, taps[0], target, taps[1], trained.projections)
      weights = {"features": settings.feature_weight, "cam_features": settings.cam_weight}
      loss = sum(weights.get(name, 1.0) * term for name, term in terms.items())
      known, wanted = jnp.ones(labels.shape, bool), target.logits.argmax(-1)
    right = (output.logits.argmax(-1) == wanted) & known
    _, _, others = nnx.split(trained, _like(state.parameters), ...)
    metrics = {"loss": loss, **terms, "accuracy": right.sum() / jnp.maximum(known.sum(), 1)}
    return loss, (metrics, others)

  gradients, (metrics, others) = jax.grad(compute_loss, has_aux=True)(state.parameters)
  updates, optimizer = method.transform.update(gradients, state.optimizer, state.parameters)
  return State(optax.apply_updates(state.parameters, updates), others, optimizer, state.step + 1), metrics


def _run(network: CamNetwork, views: Float[Array, "b s s 3"], dtype: str) -> NetworkOutput:
  pixels = network.config.preprocessing.apply(views, jnp.dtype(dtype))
  extents = jnp.full((len(views), 2), views.shape[1], jnp.int32)
  return network(pixels, extents, (network.config.feature_tap,))


def _like(state: nnx.State) -> Callable[[Any, Any], bool]:
  """A filter for the paths that `state` holds."""
  held = {path for path, _ in nnx.to_flat_state(state)}
  return lambda path, _: path in held


def _in_head(path: tuple, _: Any) -> bool:
  return any(name in path for name in HEAD) or path[0] == "projections"


def _are_kernels(parameters: nnx.State) -> nnx.State:
  """Where weights decay: in kernels, not in biases, nor in the factors of batch norm."""
  return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
