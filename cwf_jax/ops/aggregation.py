"""From an image's class vectors to its descriptor, by its own classes or by the query's."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.ops.normalize import l2_normalize


@jax.named_scope("aggregate")
def aggregate(class_vectors: Float[Array, "b n k"]) -> Float[Array, "b k"]:
  """Sums the vectors and normalizes (METHOD section 2, step 5); zero if all are zero."""
  return l2_normalize(class_vectors.sum(1))


@jax.named_scope("match_classes")
def match_classes(
  class_ids: Int[Array, "b n"], wanted: Int[Array, "q m"]
) -> tuple[Bool[Array, "q b n"], Int[Array, "q b"]]:
  """Finds which of each image's classes each query wants.

  Args:
    class_ids: the classes whose vectors an image holds, each once.
    wanted: the classes of each query, each once.

  Returns:
    Which vectors to sum, and how many of the wanted classes the image lacks.
  """
  matches = (class_ids[None, :, :, None] == wanted[:, None, None, :]).any(-1)
  return matches, wanted.shape[1] - matches.sum(-1)


@jax.named_scope("aggregate_matching")
def aggregate_matching(
  class_vectors: Float[Array, "b n k"], matches: Bool[Array, "q b n"]
) -> Float[Array, "q b k"]:
  """Every image's descriptor by every query's classes: online aggregation, or a fixed list (METHOD section 2, step 5)."""
  weights = matches.astype(class_vectors.dtype)
  return l2_normalize(jnp.einsum("qbn,bnk->qbk", weights, class_vectors, precision=lax.Precision.HIGHEST))
