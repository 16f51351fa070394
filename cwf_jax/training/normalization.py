"""Batch norm while a network is trained: put between each convolution and its activation, and folded away at the end.

The networks of `models` hold convolutions with a bias and nothing else (Ioffe and Szegedy 2015: once trained, batch norm is a
factor and an offset for each channel). `insert` changes a network's layers in place; `fold` gives the plain network back.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from cwf_jax.models import parameters, registry
from cwf_jax.models.layers import MaskedConv
from cwf_jax.models.network import CamNetwork

MOMENTUM = 0.99
EPSILON = 1e-3


class NormalizedConv(nnx.Module):
  """A `MaskedConv` with batch norm in the place of its bias, for images that fill their canvas, as crops do."""

  def __init__(self, layer: MaskedConv, *, rngs: nnx.Rngs):
    """Takes over the layer's kernel."""
    self.layer = layer
    self.norm = nnx.BatchNorm(layer.kernel.shape[-1], momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs)
    layer.bias = None

  def __call__(self, maps: Float[Array, "b i j c"], mask: Bool[Array, "b i2 j2"]) -> Float[Array, "b i2 j2 k"]:
    result = self.layer.convolve(maps, self.layer.kernel[...].astype(maps.dtype))
    return self.layer.finish(self.norm(result).astype(maps.dtype), mask)


def insert(network: nnx.Module, seed: int = 0) -> None:
  """Puts batch norm into every convolution of a network, in place."""
  rngs = nnx.Rngs(seed)
  for name, layer in list(vars(network).items()):
    if isinstance(layer, MaskedConv):
      setattr(network, name, NormalizedConv(layer, rngs=rngs))


def fold(network: CamNetwork, network_name: str) -> CamNetwork:
  """The same network with its batch norm folded into kernels and biases: same outputs, in inference, to rounding.

  Layers without batch norm are taken as they are.
  """
  arrays = {}
  for name, layer in vars(network).items():
    if isinstance(layer, NormalizedConv):
      norm = layer.norm
      factor = norm.scale[...] / jnp.sqrt(norm.var[...] + EPSILON)
      arrays[f"{name}/kernel"] = layer.layer.kernel[...] * factor
      arrays[f"{name}/bias"] = norm.bias[...] - norm.mean[...] * factor
    elif isinstance(layer, nnx.Module):
      arrays |= {f"{name}/{path}": array for path, array in parameters.list_parameters(layer).items()}
  plain = registry.build_abstract(network_name, network.config)
  return parameters.with_parameters(plain, jax.device_get(arrays))
