"""How weights of another library become parameters of ours: one rule for each of our layers.

    rule = Convolution("conv1", "Conv1/kernel", normalization("bn_Conv1"), epsilon=1e-3)
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
class Convolution:
  """A convolution and the batch norm after it, folded into one kernel and one bias.

  Attributes:
    target: our layer's name.
    kernel: the key of the kernel, [rows columns in out].
    norm: the keys of the batch norm.
    epsilon: what the source's library adds to the variance.
    depthwise: the source's kernel is [rows columns channels 1], ours [rows columns 1 channels].
    bias: the key of the source's own bias; empty where it has none.
  """

  target: str
  kernel: str
  norm: Normalization
  epsilon: float
  depthwise: bool = False
  bias: str = ""

  def sources(self, kernel_shape: Shape) -> dict[str, Shape]:
    """The keys that the rule reads, with the shapes that they must have where our kernel has `kernel_shape`."""
    rows, columns, inner, outer = kernel_shape
    shape = (rows, columns, outer, inner) if self.depthwise else kernel_shape
    return {self.kernel: shape, **dict.fromkeys((*self.norm, *([self.bias] if self.bias else [])), (outer,))}

  def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters, in float64; not finite where a variance is negative."""
    kernel = weights[self.kernel].astype(np.float64)
    if self.depthwise:
      kernel = kernel.transpose(0, 1, 3, 2)
    with np.errstate(all="ignore"):  # what is not finite is reported by the caller, with everything else
      scale, offset = self.norm.to_scale(weights, self.epsilon)
      if self.bias:
        offset = offset + weights[self.bias].astype(np.float64) * scale
      return {f"{self.target}/kernel": kernel * scale, f"{self.target}/bias": offset}


@dataclasses.dataclass(frozen=True)
class Scale:
  """A batch norm that no convolution precedes: a factor and an offset of each channel; see `Convolution`."""

  target: str
  norm: Normalization
  epsilon: float

  def sources(self, shape: Shape) -> dict[str, Shape]:
    """As `Convolution.sources`, for a factor of this shape."""
    return dict.fromkeys(self.norm, shape)

  def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `Convolution.apply`."""
    with np.errstate(all="ignore"):
      scale, offset = self.norm.to_scale(weights, self.epsilon)
    return {f"{self.target}/scale": scale, f"{self.target}/bias": offset}


@dataclasses.dataclass(frozen=True)
class Affine:
  """A linear layer or a convolution as it is, with its bias; without a key of one the bias is zero."""

  target: str
  kernel: str
  bias: str = ""

  def sources(self, kernel_shape: Shape) -> dict[str, Shape]:
    """As `Convolution.sources`."""
    return {self.kernel: kernel_shape} | ({self.bias: kernel_shape[-1:]} if self.bias else {})

  def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `Convolution.apply`."""
    kernel = weights[self.kernel]
    bias = weights[self.bias] if self.bias else np.zeros(kernel.shape[-1:], kernel.dtype)
    return {f"{self.target}/kernel": kernel, f"{self.target}/bias": bias}


Rule = Convolution | Scale | Affine
