"""A network's arrays by their paths: to list, replace, hash and draw them. A path reads "conv1_1/kernel"."""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from cwf_jax.errors import InputError


def list_parameters(network: nnx.Module) -> dict[str, Any]:
  """Every array of the network by its path, in the order of the paths; shapes if the network is abstract."""
  flat = nnx.to_flat_state(nnx.state(network))
  return dict(sorted(("/".join(map(str, path)), variable.get_value()) for path, variable in flat))


def with_parameters(network: nnx.Module, arrays: Mapping[str, np.ndarray]) -> nnx.Module:
  """The same network holding `arrays`, one for each path of `list_parameters`, on the default device."""
  graph, state = nnx.split(network)
  filled = [
    (path, variable.replace(jax.device_put(arrays["/".join(map(str, path))])))
    for path, variable in nnx.to_flat_state(state)
  ]
  return nnx.merge(graph, nnx.from_flat_state(filled))


def hash_parameters(network: nnx.Module) -> str:
  """The sha256, in hex, over each parameter's path, shape, dtype and bytes, in the order of the paths."""
  return hash_arrays(jax.device_get(list_parameters(network)))


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
  """The same over named arrays: of each, one line of JSON, then its values, row by row, little-endian."""
  digest = hashlib.sha256()
  for path in sorted(arrays):
    array = np.asarray(arrays[path])
    digest.update(json.dumps([path, list(array.shape), array.dtype.name]).encode() + b"\n")
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest.update(values.reshape(-1).view(np.uint8))
  return digest.hexdigest()


def describe_arrays(arrays: Mapping[str, Any]) -> dict[str, str]:
  """What each path holds, for people to read and to compare: {"conv1_1/kernel": "float32 (3, 3, 3, 64)"}."""
  return {path: f"{arrays[path].dtype} {tuple(arrays[path].shape)}" for path in sorted(arrays)}


def draw_parameter(path: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
  """Random values with the mean and the spread that the layers' own initializers have, the same on every machine.

  Kernels are uniform with He's variance for convolutions and LeCun's for the classifier, whose columns are centered
  (METHOD 2.1). Each path has its own stream. The draw and the centering are exact, in integers, and one
  multiplication follows, so no machine's rounding shows.

  Raises:
    ValueError: the path ends in a name without a rule.
  """
  kind = path.rpartition("/")[2]
  if kind in ("bias", "mean"):
    return np.zeros(shape, np.float32)
  if kind in ("scale", "var"):
    return np.ones(shape, np.float32)
  if kind != "kernel":
    raise ValueError(f"no random values are defined for parameters named {kind!r} ({path})")
  if seed < 0:
    raise InputError(f"a seed is 0 or more, not {seed}")
  generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(path.encode())]))
  steps, unit, gain = generator.integers(-(2**23), 2**23, shape, dtype=np.int64, endpoint=True), 2**23, 2.0
  if len(shape) == 2:
    steps, unit, gain = steps * shape[1] - steps.sum(1, keepdims=True), unit * shape[1], 1.0
  return (steps * (math.sqrt(3.0 * gain / math.prod(shape[:-1])) / unit)).astype(np.float32)
