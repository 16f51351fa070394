"""How weights of another library become parameters of ours: one rule for each of our layers.

    norm = Normalization("bn_Conv1/gamma", "bn_Conv1/beta", "bn_Conv1/moving_mean", "bn_Conv1/moving_variance")
    rule = Rule("conv1", "Conv1/kernel", norm, epsilon=1e-3)
    rule.sources((3, 3, 3, 32))            # {"Conv1/kernel": (3, 3, 3, 32), "bn_Conv1/gamma": (32,), ...}
    rule.apply(weights)                    # {"conv1/kernel": ..., "conv1/bias": ...}
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Normalization(NamedTuple):
  """The keys of a batch norm's weights in the source."""

  gamma: str
  beta: str
  mean: str
  variance: str

  @property
  def layer(self) -> str:
    """The batch norm's layer in the source."""
    return self.gamma.rpartition("/")[0]

  def to_scale(self, weights: Mapping[str, np.ndarray], epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The batch norm as a factor and an offset of each channel, in float64."""
    gamma, beta, mean, variance = (weights[key].astype(np.float64) for key in self)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


@dataclasses.dataclass(frozen=True)
class Rule:
  """How one of our layers is made: a convolution or dense layer, a batch norm, or a convolution with its batch norm folded in.

  Attributes:
    target: our layer's name.
    kernel: the key of the kernel, [rows columns in out] or [in out]; empty for a batch norm alone.
    norm: the keys of the batch norm; None where there is none.
    epsilon: what the source's library adds to the variance.
    depthwise: the source's kernel is [rows columns channels 1], ours [rows columns 1 channels].
    bias: the key of the source's own bias; empty where it has none.
  """

  target: str
  kernel: str = ""
  norm: Normalization | None = None
  epsilon: float = 0.0
  depthwise: bool = False
  bias: str = ""

  def sources(self, shape: Shape) -> dict[str, Shape]:
    """The keys that the rule reads and the shapes that they must have, where our kernel (or factor) has `shape`."""
    kernel_shape = (*shape[:2], shape[3], shape[2]) if self.depthwise else shape
    shapes = {self.kernel: kernel_shape, **dict.fromkeys((*(self.norm or ()), self.bias), shape[-1:])}
    return {key: key_shape for key, key_shape in shapes.items() if key}

  def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters, in float64 where there is a batch norm; not finite where a variance is negative."""
    if self.norm is None:
      kernel = weights[self.kernel]
      bias = weights[self.bias] if self.bias else np.zeros(kernel.shape[-1:], kernel.dtype)
      return {f"{self.target}/kernel": kernel, f"{self.target}/bias": bias}
    with np.errstate(all="ignore"):  # what is not finite is reported by the caller, with everything else
      scale, offset = self.norm.to_scale(weights, self.epsilon)
      if not self.kernel:
        return {f"{self.target}/scale": scale, f"{self.target}/bias": offset}
      kernel = weights[self.kernel].astype(np.float64)
      if self.depthwise:
        kernel = kernel.transpose(0, 1, 3, 2)
      if self.bias:
        offset = offset + weights[self.bias].astype(np.float64) * scale
      return {f"{self.target}/kernel": kernel * scale, f"{self.target}/bias": offset}
