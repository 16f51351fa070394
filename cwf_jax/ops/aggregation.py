"""Vectors made one descriptor: of an image's classes or regions, by its own classes or by the query's, and of its scales."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.ops.axes import check_axes
from cwf_jax.ops.normalize import l2_normalize


@jax.named_scope("aggregate")
@check_axes(empty="n")
def aggregate(class_vectors: Float[Array, "b n k"]) -> Float[Array, "b k"]:
  """Sums the vectors and normalizes (METHOD 2.5); zero if all are zero.

  Args:
    class_vectors: unit rows, whitened or not; zero where there is no vector.

  Example:
    >>> print(aggregate(jnp.array([[[1.0, 0.0], [0.0, 1.0]]])))
    [[0.707 0.707]]
  """
  return l2_normalize(class_vectors.sum(1))


@jax.named_scope("match_classes")
@check_axes(empty="b n q m")
def match_classes(
  class_ids: Int[Array, "b n"], wanted: Int[Array, "q m"]
) -> tuple[Bool[Array, "q b n"], Int[Array, "q b"]]:
  """Finds which of each image's classes each query wants.

  Args:
    class_ids: the classes whose vectors an image holds, each once.
    wanted: the classes of each query, each once.

  Returns:
    Which vectors to sum, and how many of the wanted classes the image lacks.

  Example:
    >>> class_ids, wanted = jnp.array([[7, 2], [5, 2]]), jnp.array([[2, 7]])
    >>> matches, lacking = match_classes(class_ids, wanted)
    >>> matches.tolist(), lacking.tolist()
    ([[[True, True], [False, True]]], [[0, 1]])
  """
  matches = (class_ids[None, :, :, None] == wanted[:, None, None, :]).any(-1)
  return matches, wanted.shape[1] - matches.sum(-1)


@jax.named_scope("aggregate_matching")
@check_axes(empty="q b n")
def aggregate_matching(
  class_vectors: Float[Array, "b n k"], matches: Bool[Array, "q b n"]
) -> Float[Array, "q b k"]:
  """Every image's descriptor by every query's classes: online aggregation, or a fixed list (METHOD 2.5).

  Args:
    class_vectors: of the images, unit rows, whitened or not; zero where there is no vector.
    matches: the vectors that each query sums, of `match_classes`.

  Returns:
    Unit rows; zero where nothing matches.

  Example:
    >>> vectors = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> matches = jnp.array([[[True, False]], [[True, True]]])
    >>> print(aggregate_matching(vectors, matches)[:, 0])
    [[1.    0.   ]
     [0.707 0.707]]
  """
  weights = matches.astype(class_vectors.dtype)
  return l2_normalize(jnp.einsum("qbn,bnk->qbk", weights, class_vectors, precision=lax.Precision.HIGHEST))


@jax.named_scope("combine_scales")
@check_axes(empty="b")
def combine_scales(descriptors: Float[Array, "s b k"], exponent: float | Float[Array, ""] = 1.0) -> Float[Array, "b k"]:
  """One descriptor of an image seen at several scales: the generalized mean over the scales, of unit length.

  METHOD 2b.19; Radenovic, Tolias and Chum 2019. It comes before whitening.

  Args:
    descriptors: of each scale, unit rows; >= 0 where the exponent is not 1. A zero row counts.
    exponent: p of `(mean x^p)^(1/p)`, more than 0: 1 is the mean, and GeM takes its own.

  Returns:
    Unit rows; zero where all scales are.

  Example:
    >>> scales = jnp.array([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    >>> print(combine_scales(scales))  # (2, 1) / root of 5
    [[0.894 0.447]]
  """
  if isinstance(exponent, (int, float)) and exponent == 1:
    return l2_normalize(descriptors.mean(0))
  largest = lax.stop_gradient(descriptors.max(0))
  empty = largest <= 0  # not `~(largest > 0)`, which would make a NaN a zero
  scaled = descriptors / jnp.where(empty, 1.0, largest)
  positive = scaled > 0  # the derivative of a power can be infinite at 0
  mean = jnp.where(positive, jnp.where(positive, scaled, 1.0) ** exponent, 0.0).mean(0)
  return l2_normalize(jnp.where(empty, 0.0, largest * jnp.where(empty, 1.0, mean) ** (1.0 / exponent)))
