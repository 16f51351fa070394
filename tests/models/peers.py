"""Networks of PyTorch and Keras with random weights and batch norm statistics, and the fold of their layers into ours."""

import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.models import parameters, registry
from tests.oracle.deviation import assert_close

# Float32 sums in another order, and float32 roundings of folded kernels, through up to 160 layers.
TOLERANCE = 1e-4


class TorchLayers:
  """A PyTorch network's weights by the names of its state dict, in our layout and in float64."""

  epsilon = 1e-5

  def __init__(self, module: Any):
    self.state = {name: values.numpy().astype(np.float64) for name, values in module.state_dict().items()}

  def conv(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The kernel [rows columns in out] and the bias, zero where there is none."""
    kernel = self.state[f"{name}.weight"].transpose(2, 3, 1, 0)
    return kernel, self.state.get(f"{name}.bias", np.zeros(kernel.shape[-1]))

  def dense(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The kernel [in out] and the bias."""
    return self.state[f"{name}.weight"].T, self.state[f"{name}.bias"]

  def norm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm as a factor and an offset."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return _to_scale(*(self.state[f"{name}.{part}"] for part in parts), self.epsilon)


class KerasLayers:
  """A Keras network's weights by the names of its layers, in float64."""

  def __init__(self, model: Any, epsilon: float = 1.001e-5):
    """`epsilon` is that of ResNet and DenseNet unless another one is given."""
    self.model, self.epsilon = model, epsilon

  def _read(self, name: str) -> dict[str, np.ndarray]:
    return {weight.name: np.asarray(weight.value, np.float64) for weight in self.model.get_layer(name).weights}

  def conv(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The kernel [rows columns in out] and the bias, zero where there is none."""
    weights = self._read(name)
    kernel = weights["kernel"]
    if isinstance(self.model.get_layer(name), load_keras().layers.DepthwiseConv2D):
      kernel = kernel.transpose(0, 1, 3, 2)
    return kernel, weights.get("bias", np.zeros(kernel.shape[-1]))

  dense = conv

  def norm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm as a factor and an offset."""
    weights = self._read(name)
    return _to_scale(*(weights[part] for part in ("gamma", "beta", "moving_mean", "moving_variance")), self.epsilon)


def _to_scale(gamma, beta, mean, variance, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
  scale = gamma / np.sqrt(variance + epsilon)
  return scale, beta - mean * scale


def fold(layers: Any, target: str, conv: str, norm: str | None = None) -> dict[str, np.ndarray]:
  """Our parameters of the convolution `target`, with the batch norm that follows it."""
  kernel, bias = layers.conv(conv)
  scale, offset = (1.0, 0.0) if norm is None else layers.norm(norm)
  return {f"{target}/kernel": kernel * scale, f"{target}/bias": bias * scale + offset}


def classify(layers: Any, name: str) -> dict[str, np.ndarray]:
  """Our parameters of the classifier."""
  return dict(zip(("classifier/kernel", "classifier/bias"), layers.dense(name), strict=True))


def build(name: str, config: Any, arrays: dict[str, np.ndarray]) -> Any:
  """Our network with all of these parameters and no others."""
  network = registry.build_abstract(name, config)
  assert arrays.keys() == parameters.list_parameters(network).keys()
  return parameters.with_parameters(network, {path: np.asarray(array, np.float32) for path, array in arrays.items()})


def randomize_torch(module: Any, linear_gain: float, seed: int = 0) -> Any:
  """Draws all weights and statistics, and stops training.

  Args:
    module: one of `tests.models.torch_networks`.
    linear_gain: variance of a linear layer's weights times their number; it decides how certain the classes are.
    seed: of the draw.
  """
  import torch

  torch.manual_seed(seed)
  for part in module.modules():
    if isinstance(part, torch.nn.BatchNorm2d):
      torch.nn.init.uniform_(part.weight, 0.5, 1.2)
      torch.nn.init.uniform_(part.running_var, 0.8, 2.0)
      torch.nn.init.normal_(part.bias, 0.0, 0.2)
      part.running_mean.normal_(0.0, 0.2)
    elif isinstance(part, (torch.nn.Conv2d, torch.nn.Linear)):
      gain = 2.0 if isinstance(part, torch.nn.Conv2d) else linear_gain
      torch.nn.init.normal_(part.weight, 0.0, math.sqrt(gain / part.weight[0].numel()))
      if part.bias is not None:
        torch.nn.init.normal_(part.bias, 0.0, 0.1)
  return module.eval().requires_grad_(False)


def load_keras() -> Any:
  """Keras on JAX; skips the test where it is not installed."""
  os.environ.setdefault("KERAS_BACKEND", "jax")
  return pytest.importorskip("keras", reason="keras is in the extra `peers`")


def randomize_keras(model: Any, linear_gain: float, seed: int = 0) -> Any:
  """Draws all weights and statistics; the arguments are those of `randomize_torch`."""
  generator = np.random.default_rng(seed)
  for layer in model.layers:
    for weight in layer.weights:
      shape, kind = weight.shape, weight.name
      if kind == "kernel":
        gain = 2.0 if len(shape) == 4 else linear_gain
        values = generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(gain / math.prod(shape[:-1])))
      elif kind in ("gamma", "moving_variance"):
        values = generator.uniform(*((0.5, 1.2) if kind == "gamma" else (0.8, 2.0)), shape)
      else:
        values = generator.normal(0.0, 0.2, shape)
      weight.assign(values)
  return model


def run_keras(model: Any, names: dict[str, str], pixels: np.ndarray) -> dict[str, np.ndarray]:
  """The outputs of Keras's layers under our tap names, and "probabilities".

  Args:
    model: a Keras application with its classifier.
    names: our tap name to the layer's name.
    pixels: [b h w 3].
  """
  keras = load_keras()
  outputs = {name: model.get_layer(layer).output for name, layer in names.items()} | {"probabilities": model.output}
  together = keras.Model(model.input, outputs)
  variables = [[variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)]
  forward = jax.jit(lambda trained, others, pixels: together.stateless_call(trained, others, pixels, training=False)[0])
  return {name: np.asarray(values) for name, values in forward(*variables, pixels).items()}


def run_torch(module: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
  """The maps of one of `tests.models.torch_networks` as [b h w c], and "probabilities"."""
  import torch

  with torch.inference_mode():
    results = module(torch.tensor(pixels).permute(0, 3, 1, 2))
    probabilities = torch.softmax(results.pop("logits"), 1).numpy()
  return {name: values.permute(0, 2, 3, 1).numpy() for name, values in results.items()} | {"probabilities": probabilities}


def draw_pixels(height: int, width: int, batch: int = 1, seed: int = 0) -> np.ndarray:
  """[b h w 3], standard normal."""
  return np.random.default_rng(seed).standard_normal((batch, height, width, 3), np.float32)


@jax.jit
def forward(network: Any, images: Any, sizes: Any) -> Any:
  """One forward pass that returns every tap."""
  return network(images, sizes, network.config.tap_names)


def assert_parity(title: str, network: Any, pixels: np.ndarray, expected: dict[str, np.ndarray]) -> None:
  """Compares every tap and the probabilities with the peer's; `title` names the network and the peer."""
  output = forward(network, jnp.asarray(pixels), jnp.asarray([pixels.shape[1:3]] * len(pixels)))
  assert set(output.taps) == set(expected) - {"probabilities"}
  for tap, values in output.taps.items():
    assert_close(f"{title}: maps", values, expected[tap], TOLERANCE)
  probabilities = expected["probabilities"]
  classes = probabilities.shape[1]
  assert 2 / classes < probabilities.max() < 0.9  # neither flat nor certain, so that a difference would show
  assert_close(f"{title}: probabilities", jax.nn.softmax(output.logits), probabilities, TOLERANCE)
  weights = np.asarray(network.class_weights)
  cam_features = np.asarray(output.cam_features)
  averaged = cam_features.sum((1, 2)) / cam_features.any(-1).sum((1, 2))[:, None]  # a VGG's are zero at the borders
  averaged = averaged @ weights + np.asarray(network.classifier.bias[...])
  assert_close(f"{title}: averaged CAMs and logits", averaged, output.logits, TOLERANCE)


def assert_padding_is_ignored(title: str, network: Any, size: tuple[int, int], canvas: tuple[int, int]) -> None:
  """An image on a larger canvas gives what it gives alone; `title` names the network."""
  height, width = size
  image = jnp.asarray(draw_pixels(height, width))
  alone = forward(network, image, jnp.array([size]))
  padded = forward(network, jnp.full((1, *canvas, 3), 50.0).at[:, :height, :width].set(image), jnp.array([size]))
  assert padded.taps.keys() == set(network.config.tap_names)
  for name, values in {**padded.taps, "CAM features": padded.cam_features}.items():
    expected = alone.taps.get(name, alone.cam_features)
    rows, columns = expected.shape[1:3]
    assert np.abs(expected).max() > 0, name
    assert_close(f"{title}: padded", values[:, :rows, :columns], expected, TOLERANCE)
    assert np.abs(values.at[:, :rows, :columns].set(0)).max() == 0, name
  rows, columns = alone.mask.shape[1:3]
  np.testing.assert_array_equal(padded.mask[:, :rows, :columns], alone.mask)
  assert padded.mask.sum() == alone.mask.sum()
  assert_close(f"{title}: padded", padded.logits, alone.logits, TOLERANCE)


def draw_network(name: str, config: Any) -> Any:
  """Our network with random kernels and with biases, so that what lies outside an image would not be zero by itself."""
  network, generator = registry.draw(name, config), np.random.default_rng(0)
  arrays = {
    path: generator.normal(0.3, 0.3, array.shape).astype(np.float32) if path.endswith("bias") else np.asarray(array)
    for path, array in parameters.list_parameters(network).items()
  }
  return parameters.with_parameters(network, arrays)
