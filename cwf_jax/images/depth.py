"""Brings samples of any type to 8 bits."""

import numpy as np
from jaxtyping import Num, UInt8

from cwf_jax.images.files import RefusalError


def to_bytes(values: Num[np.ndarray, "*shape"], bits: int | None = None) -> UInt8[np.ndarray, "*shape"]:
  """Brings samples of more than 8 bits to 8.

  Unsigned integers of fewer than 32 bits keep the upper 8. Other types carry no range of their own; it is taken from the
  values: floats within [-1, 2] span the gray scale from 0 to 1 (resampling may leave it a little), values within [0, 255]
  are kept, values within [0, 65535] are 16 bit ones, and any others are stretched from their least to their greatest.

  Args:
    values: integers or floats.
    bits: how many bits the samples have, at least 8, where these are fewer than their type has.

  Raises:
    RefusalError: not all values are finite.
  """
  kind, bits = values.dtype.kind, bits or 8 * values.dtype.itemsize
  if kind == "u" and bits < 32:
    return (values >> bits - 8).astype(np.uint8)
  if not np.isfinite(values).all():
    raise RefusalError("pixels that are not finite numbers")
  low, high = values.min(), values.max()
  if low >= -1 and high <= 2 and kind == "f":
    scaled = np.round(np.clip(values, 0, 1) * 255)
  elif low >= 0 and high <= 255:
    scaled = np.round(values)
  elif low >= 0 and high <= 65535:
    scaled = values.astype(np.uint16) >> 8
  else:
    low, span = float(low), float(high) - float(low)
    scaled = np.round((values.astype(np.float64) - low) * (255 / span)) if span else np.zeros_like(values)
  return scaled.astype(np.uint8)
