"""Maps made finer, exactly on images that are padded."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.ops.axes import check_axes


@jax.named_scope("enlarge")
@check_axes()
def enlarge(maps: Float[Array, "b i j d"], mask: Bool[Array, "b i j"], factor: int) -> Float[Array, "b i2 j2 d"]:
  """Makes each cell `factor` x `factor` cells: bilinear, half-pixel centers, clamped at the valid edge, zero beyond it.

  Args:
    maps: any values.
    mask: the valid cells, at the upper left of each map.
    factor: at least 1.

  Example:
    >>> maps = enlarge(jnp.array([[[[0.0], [4.0]]]]), jnp.ones((1, 1, 2), bool), 2)
    >>> print(maps[0, :, :, 0])
    [[0. 1. 3. 4.]
     [0. 1. 3. 4.]]
  """
  if factor == 1:
    return jnp.where(mask[..., None], maps, 0.0)
  rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
  maps = _enlarge_axis(maps, rows, factor, 1)
  maps = _enlarge_axis(maps, columns, factor, 2)
  return jnp.where(enlarge_mask(mask, factor)[..., None], maps, 0.0)


def enlarge_mask(mask: Bool[Array, "b i j"], factor: int) -> Bool[Array, "b i2 j2"]:
  """The valid cells of the finer map.

  Args:
    mask: the valid cells.
    factor: at least 1.

  Example:
    >>> enlarge_mask(jnp.array([[[True, False]]]), 2).astype(int).tolist()
    [[[1, 1, 0, 0], [1, 1, 0, 0]]]
  """
  return jnp.repeat(jnp.repeat(mask, factor, 1), factor, 2)


def _enlarge_axis(maps: Float[Array, "b i j d"], valid: Int[Array, "b"], factor: int, axis: int) -> Array:
  """Each new cell is the weighted mean of its two nearest old ones that are valid."""
  places = (jnp.arange(maps.shape[axis] * factor) + 0.5) / factor - 0.5
  lower = jnp.floor(places).astype(jnp.int32)
  last = jnp.maximum(valid, 1)[:, None] - 1
  shape = (maps.shape[0], *(-1 if at == axis else 1 for at in (1, 2)), 1)

  def take(cells: Int[Array, "i2"]) -> Array:
    return jnp.take_along_axis(maps, jnp.clip(cells[None], 0, last).reshape(shape), axis)

  share = (places - lower).reshape(1, *shape[1:])
  return take(lower) * (1 - share) + take(lower + 1) * share
