"""What each place and each class gave to a score, exactly: the parts add up to it.

    parts = share_cells(features, cams, channel_weights, answers, whitening)
    parts.sum((1, 2, 3))    # the scores
    parts.sum((1, 2))       # what each class gave, as `share_classes` says
    parts.sum(3)            # what each cell gave
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cwf_jax.ops.axes import check_axes
from cwf_jax.ops.whitening import Whitening


@jax.named_scope("share_cells")
@check_axes(empty="c")
def share_cells(
  features: Float[Array, "b i j k"],
  cams: Float[Array, "b i j c"],
  channel_weights: Float[Array, "b k"],
  answers: Float[Array, "b d"],
  whitening: Whitening | None = None,
  mask: Bool[Array, "b i j"] | None = None,
) -> Float[Array, "b i j c"]:
  """Splits the score of two images by the cells and classes of the first.

  A descriptor is `sum_c q_c / |sum_c q_c|`, with q_c the whitened unit vector of class c, and that vector is a sum over
  cells (METHOD section 2, steps 2 to 5). With the lengths that are divided by held as they are, the score is a sum over cells
  and classes: cell ij gives by class c what `CAM_ijc CW X_ij` gives to the inner product. The whitening's mean, which is
  subtracted once a class, is split in proportion to the class's map.

  Args:
    features: X, post-ReLU activations, >= 0.
    cams: in [0, 1], of the classes whose vectors are summed; an all-zero map gives nothing.
    channel_weights: >= 0.
    answers: unit descriptors of the images that each is compared with.
    whitening: of the descriptors; None where they are not whitened, d = k then.
    mask: the cells that count; all if None.

  Raises:
    ValueError: when it is traced: d is not that of the descriptors.

  Returns:
    Parts of the score, of either sign; zero outside the mask.

  Example:
    >>> cells, cams = jnp.array([[3.0, 0.0], [0.0, 4.0]]), jnp.ones((1, 1, 2, 1))
    >>> answers = jnp.array([[0.6, 0.8]])
    >>> parts = share_cells(cells[None, None], cams, jnp.ones((1, 2)), answers)
    >>> print(parts[0, 0, :, 0], parts.sum((1, 2, 3)))
    [0.36 0.64] [1.]
  """
  dimensions = features.shape[-1] if whitening is None else whitening.projection.shape[1]
  if answers.shape[1] != dimensions:
    source = "features [b i j k], and nothing is whitened" if whitening is None else "the whitening"
    raise ValueError(f"share_cells: answers [b d] has the shape {answers.shape}: d is {dimensions} in {source}")
  if mask is not None:  # zero times what lies outside would be NaN, were that infinite
    features, cams = (jnp.where(mask[..., None], values, 0.0) for values in (features, cams))
  precise = lax.Precision.HIGHEST
  pooled = jnp.einsum("bijk,bijc->bck", features, cams, precision=precise) * channel_weights[:, None, :]
  lengths = _length(pooled)
  present = lengths > 0
  if whitening is None:
    toward, mean_part = answers, jnp.zeros(answers.shape[:1], answers.dtype)
    vectors = jnp.where(present[..., None], pooled / _safe(lengths)[..., None], 0.0)
    whitened_lengths = jnp.ones_like(lengths)
  else:
    toward = jnp.einsum("kd,bd->bk", whitening.projection, answers, precision=precise)
    mean_part = jnp.einsum("k,bk->b", whitening.mean, toward, precision=precise)
    centered = pooled / _safe(lengths)[..., None] - whitening.mean
    whitened = jnp.einsum("bck,kd->bcd", centered, whitening.projection, precision=precise)
    whitened_lengths = _length(whitened)
    present &= whitened_lengths > 0
    vectors = jnp.where(present[..., None], whitened / _safe(whitened_lengths)[..., None], 0.0)
  divisor = _safe(whitened_lengths * _length(vectors.sum(1))[:, None])
  similar = jnp.einsum("bijk,bk->bij", features, channel_weights * toward, precision=precise)
  by_features = similar[..., None] * (cams / _safe(lengths * divisor)[:, None, None])
  by_mean = mean_part[:, None, None, None] * cams / _safe(cams.sum((1, 2)) * divisor)[:, None, None]
  return jnp.where(present[:, None, None], by_features - by_mean, 0.0)


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


def _length(vectors: Float[Array, "... k"]) -> Float[Array, "..."]:
  squared = jnp.square(vectors).sum(-1)
  return jnp.sqrt(jnp.where(squared > 0, squared, 1.0)) * (squared > 0)


def _safe(divisors: Float[Array, "..."]) -> Float[Array, "..."]:
  return jnp.where(divisors > 0, divisors, 1.0)
