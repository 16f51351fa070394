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


@dataclasses.dataclass(frozen=True)
class Convolution:
  """A convolution without bias and the batch norm after it, folded into one kernel and one bias.

  Attributes:
    target: our layer's name.
    kernel: the key of the kernel, [rows columns in out].
    norm: the keys of the batch norm.
    epsilon: what the source's library adds to the variance.
    depthwise: the source's kernel is [rows columns channels 1], ours [rows columns 1 channels].
  """

  target: str
  kernel: str
  norm: Normalization
  epsilon: float
  depthwise: bool = False

  @property
  def norm_layer(self) -> str:
    """The batch norm's layer in the source."""
    return self.norm.gamma.rpartition("/")[0]

  def sources(self, kernel_shape: Shape) -> dict[str, Shape]:
    """The keys that the rule reads, with the shapes that they must have where our kernel has `kernel_shape`."""
    rows, columns, inner, outer = kernel_shape
    shape = (rows, columns, outer, inner) if self.depthwise else kernel_shape
    return {self.kernel: shape, **dict.fromkeys(self.norm, (outer,))}

  def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters, in float64; not finite where a variance is negative."""
    kernel = weights[self.kernel].astype(np.float64)
    gamma, beta, mean, variance = (weights[key].astype(np.float64) for key in self.norm)
    if self.depthwise:
      kernel = kernel.transpose(0, 1, 3, 2)
    with np.errstate(all="ignore"):  # what is not finite is reported by the caller, with everything else
      scale = gamma / np.sqrt(variance + self.epsilon)
      return {f"{self.target}/kernel": kernel * scale, f"{self.target}/bias": beta - mean * scale}


@dataclasses.dataclass(frozen=True)
class Affine:
  """A linear layer or a convolution with its bias, as it is."""

  target: str
  kernel: str
  bias: str

  def sources(self, kernel_shape: Shape) -> dict[str, Shape]:
    """As `Convolution.sources`."""
    return {self.kernel: kernel_shape, self.bias: kernel_shape[-1:]}

  def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `Convolution.apply`."""
    return {f"{self.target}/kernel": weights[self.kernel], f"{self.target}/bias": weights[self.bias]}


Rule = Convolution | Affine
