"""Class activation maps: where in the image the network sees a class."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cwf_jax.ops.axes import check_axes


@jax.named_scope("compute_cams")
@check_axes(empty="c")
def compute_cams(
  cam_features: Float[Array, "b i j d"],
  class_weights: Float[Array, "d c"] | Float[Array, "b d c"],
  mask: Bool[Array, "b i j"] | None = None,
  relu_first: bool = True,
) -> Float[Array, "b i j c"]:
  """Computes one map for each class: the CAM features weighted by the classifier, without its bias.

  Zhou et al. 2016; Jimenez et al. 2017, eq. 1. The ReLU comes before the division by the maximum, so a map without a
  positive value is empty (METHOD 7.11).

  Args:
    cam_features: A, post-ReLU activations of the CAM convolution.
    class_weights: W, one column a class: shared by the images, or each image's own.
    mask: the cells that count; a map is zero outside them and its maximum is taken inside them.
    relu_first: if not, a map is divided before the ReLU, as the published code does: one whose maximum is negative turns
      positive, at least 1 everywhere; static.

  Returns:
    Maps in [0, 1]; the maximum of each is 1, except that a map without a positive value is all zeros.

  Example:
    >>> cam_features = jnp.array([[[[1.0, 0.0], [0.0, 2.0]]]])
    >>> maps = compute_cams(cam_features, jnp.array([[1.0, 1.0], [1.0, -1.0]]))
    >>> print(maps[0, 0].T)  # a row for each class
    [[0.5 1. ]
     [1.  0. ]]
  """
  subscripts = "bijd,dc->bijc" if class_weights.ndim == 2 else "bijd,bdc->bijc"
  maps = jnp.einsum(subscripts, cam_features, class_weights, precision=lax.Precision.HIGHEST)
  inside = jnp.ones(maps.shape[:3], bool) if mask is None else mask
  if relu_first:
    maps = jax.nn.relu(jnp.where(inside[..., None], maps, 0.0))
    largest = maps.max((1, 2), keepdims=True)
    return maps / jnp.where(largest > 0, largest, 1.0)
  largest = jnp.where(inside[..., None], maps, -jnp.inf).max((1, 2), keepdims=True)
  divided = jax.nn.relu(maps / jnp.where(largest == 0, 1.0, largest))
  return jnp.where(inside[..., None] & (largest != 0), divided, 0.0)
