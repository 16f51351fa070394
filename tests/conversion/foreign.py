"""A small network as other libraries would save it: its tables, its weights, and files of them in both layouts."""

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

from cwf_jax.conversion.published import find_tables
from cwf_jax.conversion.rules import Normalization, Rule
from cwf_jax.conversion.tables import KERAS3, KERAS_H5, Table
from cwf_jax.models import parameters, registry

DATA = Path(__file__).parents[3] / "shared" / "data"
REAL = {KERAS_H5: DATA / "weights/mobilenet_v2_keras.h5", KERAS3: DATA / "weights/mobilenet_v2_keras3.weights.h5"}
EPSILON = 0.01
KERNELS = {"stem": (3, 3, 3, 4), "deep": (3, 3, 1, 4), "one": (1, 1, 4, 4), "two": (1, 1, 4, 4), "top": (4, 5)}
"""Of our layers. "one" and "two" have the same shapes, so that only a name or the order tells them apart."""

NAMES = ("Stem", "Stem_bn", "Deep", "Deep_bn", "One", "One_bn", "Two", "Two_bn", "Top")
GROUPS = ("conv2d", "batch_normalization", "depthwise_conv2d", "batch_normalization_1", "conv2d_1", "batch_normalization_2",
          "conv2d_2", "batch_normalization_3", "dense")  # fmt: skip
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def _rules(layers, norm, weight):
  pairs = zip(KERNELS, layers[::2], layers[1::2], strict=False)
  rules = [
    Rule(target, weight(layer, "kernel"), Normalization(*(f"{bn}/{part}" for part in norm)), EPSILON, target == "deep")
    for target, layer, bn in pairs
  ]
  return (*rules, Rule("top", weight(layers[-1], "kernel"), bias=weight(layers[-1], "bias")))


def small_tables():
  """By layout; the names of 2018 are aliases."""
  groups = [f"layers/{group}/vars" for group in GROUPS]
  return {
    KERAS_H5: (
      Table(
        _rules(NAMES, NORM, lambda layer, kind: f"{layer}/{kind}"),
        {name: name for name in NAMES},
        {f"old{name}": name for name in NAMES},
      ),
    ),
    KERAS3: (
      Table(
        _rules(groups, range(4), lambda layer, kind: f"{layer}/{int(kind == 'bias')}"), dict(zip(groups, NAMES, strict=True))
      ),
    ),
  }


def draw_weights(seed=0):
  """{layer: {kind: array}}, in the layers' order; kernels as Keras has them."""
  generator = np.random.default_rng(seed)
  weights = {}
  for target, layer in zip(KERNELS, NAMES[::2], strict=True):
    shape = KERNELS[target]
    shape = (*shape[:2], shape[3], shape[2]) if target == "deep" else shape
    weights[layer] = {"kernel": generator.normal(size=shape).astype(np.float32)}
    if layer != "Top":
      weights[f"{layer}_bn"] = {kind: generator.uniform(0.1, 2, 4).astype(np.float32) for kind in NORM}
  weights["Top"]["bias"] = generator.normal(size=5).astype(np.float32)
  return weights


def write_keras_h5(path, weights, root="", suffix=":0", depthwise="depthwise_kernel", **options):
  """As Keras 2 does; `options` go to every data set."""
  with h5py.File(path, "w") as file:
    group = file.create_group(root) if root else file
    group.attrs["layer_names"] = np.asarray([layer.encode() for layer in ("input", *weights)])
    group.create_group("input").attrs["weight_names"] = np.asarray([])
    for layer, arrays in weights.items():
      kinds = {kind: depthwise if kind == "kernel" and array.shape[2:] == (4, 1) else kind for kind, array in arrays.items()}
      part = group.create_group(layer)
      part.attrs["weight_names"] = [f"{layer}/{kinds[kind]}{suffix}".encode() for kind in arrays]
      for kind, array in arrays.items():
        part.create_dataset(f"{layer}/{kinds[kind]}{suffix}", data=array, **options)
  return path


def write_keras3(path, weights, names=True, **options):
  """As Keras 3 does; the layers are taken in their order, whatever they are called."""
  with h5py.File(path, "w") as file:
    file.create_group("layers/input_layer/vars")
    for group, (layer, arrays) in zip(GROUPS, weights.items(), strict=True):
      part = file.create_group(f"layers/{group}/vars")
      if names:
        part.attrs["name"] = layer
      for place, array in enumerate(arrays.values()):
        part.create_dataset(str(place), data=array, **options)
  return path


def pack_archive(path, weights, config):
  """As `model.save("x.keras")` does; `weights` is the path of a file of `write_keras3`."""
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("metadata.json", "{}")
    archive.writestr("config.json", json.dumps(config))
    archive.write(weights, "model.weights.h5")
  return path


WRITERS = {KERAS_H5: write_keras_h5, KERAS3: write_keras3}


def write_mobilenet_v2(path, changes=None):
  """All of MobileNetV2 as Keras 3 does, small: each weight is one number, 0.5 or the one of its key in `changes`."""
  expected = parameters.list_parameters(registry.build_abstract("mobilenet_v2"))
  with h5py.File(path, "w") as file:
    for rule in find_tables("mobilenet_v2")[KERAS3][0].rules:
      for key, shape in rule.sources(expected[f"{rule.target}/kernel"].shape).items():
        file.create_dataset(key, data=np.full(shape, (changes or {}).get(key, 0.5), np.float32), compression="gzip")
  return path
