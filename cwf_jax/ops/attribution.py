"""What each class gave to a score, exactly: the parts add up to it."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cwf_jax.ops.axes import check_axes


@check_axes(empty="q m r")
def share_classes(
  class_vectors: Float[Array, "q m k"], answers: Float[Array, "q r k"]
) -> Float[Array, "q r m"]:
  """Splits each answer's score into what each class of the query gave; the shares add up to the score.

  With the query's descriptor `sum_c q_c / |sum_c q_c|`, class c's share is `q_c . d / |sum_c q_c|`.

  Args:
    class_vectors: q_c, of each query, whitened; zero where a class has none.
    answers: d, unit descriptors of each query's answers.

  Returns:
    Parts of the score, of either sign.

  Example:
    >>> vectors = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> print(share_classes(vectors, jnp.array([[[0.6, 0.8]]])))
    [[[0.424 0.566]]]
  """
  squared = jnp.square(class_vectors.sum(1)).sum(-1)
  length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))  # the derivative of a root is infinite at 0
  shares = jnp.einsum("qmk,qrk->qrm", class_vectors, answers, precision=lax.Precision.HIGHEST)
  return shares / length[:, None, None]
