"""Networks of PyTorch and Keras with random weights and batch norm statistics, saved by these libraries and converted."""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import forward as benchmark
from cwf_jax.conversion import published, reading, sources
from cwf_jax.models import parameters, registry
from tests.oracle.deviation import assert_close

# Float32 sums in another order, and float32 roundings of folded kernels, through up to 160 layers.
TOLERANCE = 1e-4
# The same sums in another order: up to 4e-6 of the maximum.
PADDED_TOLERANCE = 5e-5


def convert(path: Path, name: str, config: Any = None) -> Any:
  """Our network from a file that a peer saved.

  Args:
    path: of the file.
    name: of the network.
    config: where the file's network is narrower than the published one: its settings, but for the publisher's own.
  """
  shapes, tables = published.list_shapes(name, config), published.find_tables(name)
  read = reading.read(path, tables, "auto", shapes)
  assert read.matched.problems.list_all() == []
  assert read.matched.notes == []
  arrays = sources.apply_table(tables[read.layout][read.form], read.matched)
  form = published.find_published(name, read.layout)[read.form]
  network = registry.build_abstract(name, form.config if config is None else config)
  assert arrays.keys() == parameters.list_parameters(network).keys()
  assert config is None or config.preprocessing == form.config.preprocessing
  return parameters.with_parameters(network, arrays)


def convert_torch(module: Any, name: str, folder: Path, config: Any = None) -> Any:
  """As `convert`, of what PyTorch saves of a module."""
  import torch

  torch.save(module.state_dict(), folder / "peer.pth")
  return convert(folder / "peer.pth", name, config)


def convert_keras(model: Any, name: str, folder: Path, file_name: str = "peer.weights.h5") -> Any:
  """As `convert`, of what Keras saves of a model: its weights, or all of it as "NAME.h5" or "NAME.keras"."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Keras's own, of NumPy 2 and of its format of old
    (model.save_weights if file_name.endswith(".weights.h5") else model.save)(folder / file_name)
  return convert(folder / file_name, name)


def assert_same(network: Any, other: Any) -> None:
  """Two networks have the same settings and the same parameters to the bit."""
  assert network.config == other.config
  ours, theirs = parameters.list_parameters(network), parameters.list_parameters(other)
  for path, array in ours.items():
    np.testing.assert_array_equal(array, theirs[path], err_msg=path)


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
      torch.nn.init.uniform_(part.running_var, -6.0, 0.3)
      part.running_var.copy_(10.0**part.running_var)  # from far below epsilon to far above
      torch.nn.init.uniform_(part.weight, 0.5, 1.2)
      part.weight.data *= part.running_var.sqrt()
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
    for weight in reversed(layer.weights):  # a variance before its gamma
      shape, kind = weight.shape, weight.name
      if kind == "kernel":
        gain = 2.0 if len(shape) == 4 else linear_gain
        values = generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(gain / math.prod(shape[:-1])))
      elif kind == "moving_variance":
        variance = values = 10.0 ** generator.uniform(-6, 0.3, shape)  # from far below epsilon to far above
      elif kind == "gamma":
        values = generator.uniform(0.5, 1.2, shape) * np.sqrt(variance)
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
    assert_close(f"{title}: padded", values[:, :rows, :columns], expected, PADDED_TOLERANCE)
    assert np.abs(values.at[:, :rows, :columns].set(0)).max() == 0, name
  rows, columns = alone.mask.shape[1:3]
  np.testing.assert_array_equal(padded.mask[:, :rows, :columns], alone.mask)
  assert padded.mask.sum() == alone.mask.sum()
  assert_close(f"{title}: padded", padded.logits, alone.logits, PADDED_TOLERANCE)


def assert_benchmark_equals(title: str, network: Any, size: tuple[int, int]) -> None:
  """A network equals the one that the benchmark writes in PyTorch, in what both return; skips without PyTorch."""
  pytest.importorskip("torch", reason="torch is in the extra `peers`")
  pixels = draw_pixels(*size)
  here, there = benchmark.prepare_jax(network, pixels)[0](), benchmark.prepare_torch(network, pixels)()
  for ours, theirs in zip(here, there, strict=True):
    assert_close(title, ours, theirs, TOLERANCE)


def draw_network(name: str, config: Any) -> Any:
  """Our network with random kernels and with biases, so that what lies outside an image would not be zero by itself."""
  network, generator = registry.build(name, config), np.random.default_rng(0)
  arrays = {
    path: generator.normal(0.3, 0.3, array.shape).astype(np.float32) if path.endswith("bias") else np.asarray(array)
    for path, array in parameters.list_parameters(network).items()
  }
  return parameters.with_parameters(network, arrays)
