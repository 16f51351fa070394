"""A narrow VGG-16-CAM in every published form: files written by hand where the library that writes them is not needed."""

import zipfile

import h5py
import numpy as np
import safetensors.numpy

from cwf_jax.models import parameters, registry
from cwf_jax.models.vgg16_cam import VGG16CAMConfig
from tests.conversion.foreign import pack_archive, write_keras_h5
from tests.conversion.foreign_torch import Tensor, dump_legacy, pickle_state

CONFIG = VGG16CAMConfig(widths=(4, 4, 8, 8, 8), cam_channels=8, num_classes=6, image_size=64)
SHAPES = {
  path: leaf.shape for path, leaf in parameters.list_parameters(registry.build_abstract("vgg16_cam", CONFIG)).items()
}
KERNELS = {path.removesuffix("/kernel"): shape for path, shape in SHAPES.items() if path.endswith("/kernel")}
LAYERS = (*sorted(set(KERNELS) - {"cam", "classifier"}), "cam", "classifier")
"""In the network's order."""

CAFFE = (*LAYERS[:-2], "CAM_conv", "CAM_fc")
KERAS1 = (*(f"convolution2d_{number}" for number in range(4, 14)), "relu5_1", "convolution2d_14", "relu5_3", "CAM_relu",
          "dense_2")  # fmt: skip
"""As the authors' file: numbers by the order in which layers were made, which began before this network."""


def draw(seed=0):
  """{layer: (kernel, bias)} as our parameters, in the network's order."""
  generator = np.random.default_rng(seed)
  weights = {}
  for layer in LAYERS:
    shape = KERNELS[layer]
    kernel = generator.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
    weights[layer] = kernel.astype(np.float32), generator.normal(0, 0.1, shape[-1]).astype(np.float32)
  return weights


def renamed(weights, names):
  """The same under other names."""
  return dict(zip(names, weights.values(), strict=True))


def _out_in(kernel):
  return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)


def _theano(kernel):
  return _out_in(kernel[::-1, ::-1]) if kernel.ndim == 4 else kernel


def write_keras03(path, weights):
  """Layers without weights between the others, as `Sequential` counts them."""
  with h5py.File(path, "w") as file:
    number = 0
    for kernel, bias in weights.values():
      file.create_group(f"layer_{number}").attrs["nb_params"] = 0
      group = file.create_group(f"layer_{number + 1}")
      group.attrs["nb_params"] = 2
      group["param_0"], group["param_1"] = _theano(kernel), bias
      number += 2
    file.attrs["nb_layers"] = number
  return path


def write_keras1(path, weights, order="theano", **attributes):
  """`order` of the kernels: "theano" ([out in rows columns], turned), "unturned" (the same, not turned), "tensorflow" ([rows
  columns in out]), "tensorflow turned".
  """
  change = {"theano": _theano, "unturned": lambda kernel: _out_in(kernel) if kernel.ndim == 4 else kernel,
            "tensorflow": lambda kernel: kernel,
            "tensorflow turned": lambda kernel: kernel[::-1, ::-1] if kernel.ndim == 4 else kernel}[order]  # fmt: skip
  with h5py.File(path, "w") as file:
    names = []
    for place, (layer, (kernel, bias)) in enumerate(weights.items()):
      empty = f"zeropadding2d_{place}"
      file.create_group(empty).attrs["weight_names"] = np.asarray([])
      group = file.create_group(layer)
      group[f"{layer}_W"], group[f"{layer}_b"] = change(kernel), bias
      group.attrs["weight_names"] = [f"{layer}_W".encode(), f"{layer}_b".encode()]
      names += [empty.encode(), layer.encode()]
    file.attrs["layer_names"] = names
    for name, value in attributes.items():
      file.attrs[name] = value
  return path


def name_kinds(weights):
  """The same as `foreign.draw_weights` has it: {layer: {kind: array}}."""
  return {layer: {"kernel": kernel, "bias": bias} for layer, (kernel, bias) in weights.items()}


def write_keras3(path, weights):
  """Numbered by class."""
  with h5py.File(path, "w") as file:
    for number, (kernel, bias) in enumerate(weights.values()):
      name = "dense" if kernel.ndim == 2 else "conv2d" + f"_{number}" * bool(number)
      file[f"layers/{name}/vars/0"], file[f"layers/{name}/vars/1"] = kernel, bias
  return path


def _varint(number):
  out = b""
  while number >= 128:
    out, number = out + bytes([number & 127 | 128]), number >> 7
  return out + bytes([number])


def _field(number, content):
  """A field of protocol buffers: bytes with their length, or a whole number."""
  if isinstance(content, int):
    return _varint(number << 3) + _varint(content)
  return _varint(number << 3 | 2) + _varint(len(content)) + content


def _blob(array, is_old, is_double=False):
  if is_old:
    shape = b"".join(_field(place, side) for place, side in enumerate((1,) * (4 - array.ndim) + array.shape, 1))
  else:
    shape = _field(7, _field(1, b"".join(map(_varint, array.shape))))
  return (_field(8, array.astype("<f8").tobytes()) if is_double else _field(5, array.astype("<f4").tobytes())) + shape


def write_caffe(path, weights, is_old=False, groups=None, is_double=False, without_bias=()):
  """As new layers, or as V1's. `groups`: {layer: number}, of the convolutions whose kernels are already of one group."""
  out = _field(1, b"VGG-16-CAM")
  for layer, (kernel, bias) in weights.items():
    blobs = [_out_in(kernel)] + ([] if layer in without_bias else [bias])
    blobs = b"".join(_field(6 if is_old else 7, _blob(array, is_old, is_double)) for array in blobs)
    kind = (14, b"InnerProduct") if kernel.ndim == 2 else (4, b"Convolution")
    group = _field(10 if is_old else 106, _field(5, (groups or {}).get(layer, 1))) if kernel.ndim == 4 else b""
    if is_old:
      out += _field(2, _field(4, layer.encode()) + _field(5, kind[0]) + blobs + group)
      out += _field(2, _field(4, b"relu") + _field(5, 18))
    else:
      out += _field(100, _field(1, layer.encode()) + _field(2, kind[1]) + blobs + group)
      out += _field(100, _field(1, b"relu") + _field(2, b"ReLU"))
  path.write_bytes(out)
  return path


def to_state(weights, prefix=""):
  """A state dict of NumPy arrays."""
  state = {}
  for layer, (kernel, bias) in weights.items():
    state[f"{prefix}{layer}.weight"], state[f"{prefix}{layer}.bias"] = _out_in(kernel), bias
  return state


_STORAGES = {"float32": "FloatStorage", "bfloat16": "BFloat16Storage", "int64": "LongStorage"}


def _refer(state):
  """Tensors that fill the storages "0", "1", ... in order."""
  return {
    name: Tensor(
      str(key), _STORAGES[array.dtype.name], array.size, 0, array.shape, [stride // array.itemsize for stride in array.strides]
    )
    for key, (name, array) in enumerate(state.items())
  }


def write_torch(path, state, order="little", wrapper=None):
  """The zip format."""
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x/data.pkl", pickle_state(_refer(state), wrapper=wrapper))
    archive.writestr("x/byteorder", order)
    for key, array in enumerate(state.values()):
      archive.writestr(f"x/data/{key}", array.astype(array.dtype.newbyteorder(order)).tobytes())
    archive.writestr("x/version", "3\n")
  return path


def write_torch_legacy(path, state):
  """The format before PyTorch 1.6."""
  path.write_bytes(dump_legacy(_refer(state), {str(key): array for key, array in enumerate(state.values())}))
  return path


def write_safetensors(path, state):
  """Writes with the library of the format."""
  safetensors.numpy.save_file(state, path)
  return path


def write_npz(path, state):
  """Writes with NumPy."""
  with path.open("wb") as file:
    np.savez(file, **state)
  return path


WRITERS = {
  "keras03": write_keras03,
  "keras1-theano": lambda path, weights: write_keras1(path, renamed(weights, KERAS1)),
  "keras1-tensorflow": lambda path, weights: write_keras1(path, renamed(weights, KERAS1), "tensorflow"),
  "keras-h5": lambda path, weights: write_keras_h5(path, name_kinds(renamed(weights, CAFFE))),
  "keras3": write_keras3,
  "keras": lambda path, weights: pack_archive(path, write_keras3(path.with_suffix(".h5"), weights), {"config": {"layers": []}}),
  "caffe": lambda path, weights: write_caffe(path, renamed(weights, CAFFE)),
  "caffe-v1": lambda path, weights: write_caffe(path, renamed(weights, CAFFE), is_old=True),
  "torch": lambda path, weights: write_torch(path, to_state(renamed(weights, CAFFE))),
  "torch-legacy": lambda path, weights: write_torch_legacy(path, to_state(renamed(weights, CAFFE))),
  "safetensors": lambda path, weights: write_safetensors(path, to_state(renamed(weights, CAFFE))),
  "npz": lambda path, weights: write_npz(path, to_state(renamed(weights, CAFFE))),
}
"""One writer for each kind of file."""
