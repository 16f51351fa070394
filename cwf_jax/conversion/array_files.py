"""Arrays by name: state dicts of PyTorch, safetensors and NumPy's .npz, all with the same names.

A name reads "conv1_1.weight" as in PyTorch, with kernels as [out in rows columns]; or "conv1_1/kernel", a parameter's path in a
checkpoint of ours, with kernels as [rows columns in out]. "conv1_1_W" is taken for the latter. Only PyTorch's names show how
images are prepared for the network.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cwf_jax.conversion import files
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.sources import Source, Weight
from cwf_jax.conversion.tables import NPZ, SAFETENSORS, TORCH
from cwf_jax.conversion.torch_files import read_state_dict
from cwf_jax.errors import brief, printable

_TORCH = {
  "weight": "kernel", "bias": "bias", "running_mean": "moving_mean", "running_var": "moving_variance",
}  # fmt: skip
_OURS = re.compile(r"(?P<layer>.+)(?:/(?P<kind>kernel|bias|gamma|beta|moving_mean|moving_variance)|_(?P<letter>[Wb]))")
_WITHOUT_USE = "num_batches_tracked"


def read_arrays(path: Path, kind: str) -> Source:
  """Reads all arrays of a file by their names.

  Args:
    path: of the file.
    kind: `files.TORCH`, `files.SAFETENSORS` or `files.NPZ`.

  Raises:
    ConversionError: the file is damaged, or a pickle that names what no state dict needs.
  """
  if kind == files.TORCH:
    with path.open("rb") as file:
      return list_layers(read_state_dict(file, str(path)), path, TORCH)
  read, layout = (_read_safetensors, SAFETENSORS) if kind == files.SAFETENSORS else (_read_npz, NPZ)
  try:
    return list_layers(read(path), path, layout)
  except ConversionError:
    raise
  except Exception as error:  # a damaged file fails in many ways
    raise ConversionError(f"{printable(path)} cannot be read, it is damaged: {printable(brief(error))}") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  """The tensors by name; the format sorts them by their size, so the order is that of the numbers in their names."""
  import safetensors.numpy

  with safetensors.safe_open(path, framework="np") as file:
    return {name: file.get_tensor(name) for name in sorted(file.keys(), key=_split_numbers)}


def _split_numbers(name: str) -> list[tuple[int, str]]:
  return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  with np.load(path, allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}


def list_layers(arrays: Mapping[str, np.ndarray], path: Path, layout: str) -> Source:
  """Sorts arrays into layers by their names."""
  layers: dict[str, dict[str, Weight]] = {}
  unlisted = []
  for name, array in arrays.items():
    layer, kind, axes = _split_name(name, array)
    if kind == _WITHOUT_USE:
      continue
    weight = Weight(name, array, axes, is_channels_first=bool(axes))
    if not layer or kind in layers.get(layer, {}):
      unlisted.append(weight)
    else:
      layers.setdefault(layer, {})[kind] = weight
  for kinds in layers.values():
    if "moving_mean" in kinds and "bias" in kinds:
      kinds["beta"] = kinds.pop("bias")
  return Source(
    printable(path),
    layout,
    layers,
    unlisted=tuple(unlisted),
    is_publisher_known=not any(map(_OURS.fullmatch, arrays)),
    may_lack_biases=True,
  )


def _split_name(name: str, array: np.ndarray) -> tuple[str, str, str]:
  """A weight's layer, its kind and the order of its axes."""
  ours = _OURS.fullmatch(name)
  if ours:
    return ours["layer"], ours["kind"] or {"W": "kernel", "b": "bias"}[ours["letter"]], ""
  layer, _, kind = name.rpartition(".")
  if kind == "weight" and array.ndim == 1:
    return layer, "gamma", ""
  return layer, _TORCH.get(kind, kind), {2: "oi", 4: "oihw"}.get(array.ndim, "") if kind == "weight" else ""
