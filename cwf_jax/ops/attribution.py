"""What each place and each class gave to a score, exactly: the parts add up to it.

    parts = share_cells(features, cams, channel_weights, answers, whitening)
    parts.sum((1, 2, 3))    # the scores
    parts.sum((1, 2))       # what each class gave, as `ranking.share_classes` says
    parts.sum(3)            # what each cell gave
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cwf_jax.ops.whitening import Whitening


@jax.named_scope("share_cells")
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

  Returns:
    Parts of the score, of either sign; zero outside the mask.
  """
  if mask is not None:
    cams = jnp.where(mask[..., None], cams, 0.0)
  precise = lax.Precision.HIGHEST
  pooled = jnp.einsum("bijk,bijc->bck", features, cams, precision=precise) * channel_weights[:, None, :]
  lengths = _length(pooled)
  present = lengths > 0
  if whitening is None:
    toward, mean_part = answers, jnp.zeros(len(answers))
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


def _length(vectors: Float[Array, "... k"]) -> Float[Array, "..."]:
  squared = jnp.square(vectors).sum(-1)
  return jnp.sqrt(jnp.where(squared > 0, squared, 1.0)) * (squared > 0)


def _safe(divisors: Float[Array, "..."]) -> Float[Array, "..."]:
  return jnp.where(divisors > 0, divisors, 1.0)
