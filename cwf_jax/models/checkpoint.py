"""Checkpoints: a network's weights in a folder, with everything that it takes to use them, and nothing that runs.

    save_checkpoint("out/mine", network, network_name="vgg16_cam_quarter", classes=ClassList.imagenet())
    loaded = load_checkpoint("out/mine")

The folder:

    checkpoint.json   network, settings with preprocessing, classes, sha256, the table of parameters
    arrays/           the parameters, by orbax
    whitening.npz     optional: mean and projection, of class vectors
    cells.npz         optional: the same, of single cells of the features, for matching places
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from cwf_jax.errors import InputError, brief
from cwf_jax.files import home_folder
from cwf_jax.models import parameters, registry
from cwf_jax.models.class_names import ClassList
from cwf_jax.models.network import CamNetwork
from cwf_jax.models.parameters import hash_parameters

FORMAT = 1
JSON_NAME, ARRAYS_NAME = "checkpoint.json", "arrays"
WHITENING_NAME, CELLS_NAME = "whitening.npz", "cells.npz"
WHITENING_KEYS = ("mean", "projection")
STORED = {"float32": np.float32, "float16": np.float16}
# What people hand over by mistake; none of these is opened further than its first bytes.
MAGIC = {b"PK\x03\x04": "zip (a PyTorch, Keras or NumPy archive)", b"\x89HDF": "HDF5", b"\x80": "pickle", b"\x1f\x8b": "gzip"}


class CheckpointError(InputError):
  """A folder is not a checkpoint, or not a whole one; the message lists everything that is wrong with it."""


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedNetwork:
  """A network ready for use, and where it came from.

  Attributes:
    network: a Flax module of the registry.
    name: what outputs call these weights: "random:vgg16_cam_quarter", or the folder's name.
    network_name: the registry's name.
    classes: what it predicts.
    sha256: of the parameters, see `hash_parameters`.
    folder: the checkpoint's absolute path; None for random weights.
    is_random: whether the weights are random, so that the classes mean nothing.
    whitening: the checkpoint's own: {"mean", "projection"}, or None.
    cell_whitening: of single cells, the same, or None.
    metadata: what the checkpoint's maker noted.
  """

  network: CamNetwork
  name: str
  network_name: str
  classes: ClassList
  sha256: str
  folder: str | None = None
  is_random: bool = False
  whitening: Mapping[str, np.ndarray] | None = None
  cell_whitening: Mapping[str, np.ndarray] | None = None
  metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def search_folders() -> list[pathlib.Path]:
  """Where weights are looked for by name: in the package, then in `$CWF_JAX_HOME` (default: the user's cache folder)."""
  return [pathlib.Path(__file__).parent.parent / "weights", home_folder()]


def find_named(name: str) -> pathlib.Path | None:
  """The folder of the checkpoint of that name in one of `search_folders()`, or None; a path is no name."""
  if not name or pathlib.PurePath(name).name != name or name == "..":
    return None
  return next((folder / name for folder in search_folders() if (folder / name / JSON_NAME).is_file()), None)


def list_named() -> list[str]:
  """The names of the checkpoints in `search_folders()`."""
  return [entry.parent.name for folder in search_folders() for entry in sorted(folder.glob(f"*/{JSON_NAME}"))]


def find_by_sha256(sha256: str) -> pathlib.Path | None:
  """The folder of a checkpoint in `search_folders()` whose parameters have this hash, or None."""
  for folder in search_folders():
    for entry in sorted(folder.glob(f"*/{JSON_NAME}")):
      with contextlib.suppress(CheckpointError):
        if _read_json(entry.parent).get("sha256") == sha256:
          return entry.parent
  return None


def build_random(network_name: str, seed: int) -> LoadedNetwork:
  """Seeded random weights of a network of the registry, under the name "random:NETWORK"."""
  network = registry.build(network_name, seed=seed)
  count = network.config.num_classes
  return LoadedNetwork(
    network=network,
    name=f"random:{network_name}" + (f" (seed {seed})" if seed else ""),
    network_name=network_name,
    classes=ClassList.imagenet() if count == len(ClassList.imagenet()) else ClassList.numbered(count),
    sha256=hash_parameters(network),
    is_random=True,
  )


def save_checkpoint(
  folder: str | os.PathLike[str],
  network: CamNetwork,
  *,
  network_name: str,
  classes: ClassList,
  whitening: Mapping[str, np.ndarray] | None = None,
  cell_whitening: Mapping[str, np.ndarray] | None = None,
  metadata: Mapping[str, Any] | None = None,
  stored: str = "float32",
) -> None:
  """Writes a checkpoint whole or not at all: a temporary folder beside it is renamed when everything is in it.

  Args:
    folder: must not exist yet.
    network: a module of the registry with a `config`.
    network_name: the registry's name of it; the settings may differ from the name's own.
    classes: one for each output.
    whitening: "mean" [k] and "projection" [k d], to whiten class vectors with.
    cell_whitening: the same for single cells of the features.
    metadata: anything that JSON can hold, for people to read.
    stored: "float32", or "float16" for half the disk: the parameters are rounded first, so what is loaded, in float32
      again, is what was saved and hashed.

  Raises:
    InputError: the folder exists, or the parts do not fit together.
    OSError: the disk does not take it; nothing of it is left then.
  """
  target = pathlib.Path(folder).expanduser().absolute()
  if os.path.lexists(target):
    raise InputError(f"{target} exists already; a checkpoint is never written over: name another folder or remove it")
  arrays = jax.device_get(parameters.list_parameters(network))
  if stored not in STORED:
    raise InputError(f"parameters are stored as {' or '.join(STORED)}, not {stored!r}")
  with np.errstate(over="ignore"):  # what is too large is refused with everything else
    written = {path: array.astype(STORED[stored], copy=False) for path, array in arrays.items()}
  arrays = {path: array.astype(np.float32, copy=False) for path, array in written.items()}
  whitenings = {WHITENING_NAME: whitening, CELLS_NAME: cell_whitening}
  problems = _check_parts(network_name, network.config, arrays, classes)
  problems += [problem for one in whitenings.values() for problem in _check_whitening(one, network.config)]
  if problems:
    raise InputError(f"this network cannot be saved as {network_name!r}: {'; '.join(problems)}")
  content = {
    "format": FORMAT,
    "name": target.name,
    "network": network_name,
    "config": registry.config_to_json(network.config),
    "stored": stored,
    "sha256": parameters.hash_arrays(arrays),
    "whitening_sha256": None if whitening is None else parameters.hash_arrays(whitening),
    "cells_sha256": None if cell_whitening is None else parameters.hash_arrays(cell_whitening),
    "metadata": dict(metadata or {}),
    "parameters": parameters.describe_arrays(arrays),
    "classes": [list(pair) for pair in zip(classes.wnids, classes.names, strict=True)],
  }
  text = json.dumps(content, indent=1, allow_nan=False)
  target.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
  try:
    _write_arrays(temporary / ARRAYS_NAME, written)
    for name, one in whitenings.items():
      if one is not None:
        np.savez(temporary / name, **{key: np.asarray(one[key]) for key in WHITENING_KEYS})
    (temporary / JSON_NAME).write_text(text, encoding="utf-8")
    temporary.chmod(0o755)
    temporary.rename(target)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def load_checkpoint(folder: str | os.PathLike[str]) -> LoadedNetwork:
  """Reads a checkpoint's folder and verifies all of it.

  Raises:
    CheckpointError: with every problem: what is missing, superfluous, of another shape or dtype, or not what was saved.
  """
  path = pathlib.Path(folder).expanduser().absolute()
  content = _read_json(path)
  problems: list[str] = []
  name, config, classes = _read_settings(content, problems)
  arrays = _read_arrays(path / ARRAYS_NAME, content.get("stored", "float32"), problems)
  whitening = _read_whitening(path / WHITENING_NAME, content.get("whitening_sha256"), problems)
  cell_whitening = _read_whitening(path / CELLS_NAME, content.get("cells_sha256"), problems)
  if arrays is not None:
    if parameters.hash_arrays(arrays) != content.get("sha256"):
      problems.append(f"the sha256 of the arrays is not the one in {JSON_NAME}: they are not those that were saved")
    if parameters.describe_arrays(arrays) != content.get("parameters"):
      problems.append(f"{JSON_NAME} does not list the parameters that {ARRAYS_NAME}/ holds")
    if config is not None:
      problems += _check_parts(name, config, arrays, classes)
  if config is not None:
    problems += [*_check_whitening(whitening, config), *_check_whitening(cell_whitening, config)]
  if problems:
    raise CheckpointError(f"the checkpoint {path} cannot be used: {'; '.join(problems)}")
  return LoadedNetwork(
    network=parameters.with_parameters(registry.build_abstract(name, config), arrays),
    name=path.name,
    network_name=name,
    classes=classes,
    sha256=content["sha256"],
    folder=str(path),
    whitening=whitening,
    cell_whitening=cell_whitening,
    metadata=content.get("metadata", {}),
  )


def _check_parts(name: str, config: Any, arrays: Mapping[str, np.ndarray], classes: ClassList | None) -> list[str]:
  """What in `arrays` and `classes` does not fit the network `name` with `config`."""
  if not isinstance(config, type(registry.find_network(name).config)):
    return [f"its settings are a {type(config).__name__}"]
  expected = parameters.describe_arrays(parameters.list_parameters(registry.build_abstract(name, config)))
  found = parameters.describe_arrays(arrays)
  missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
  problems = [f"missing parameters: {', '.join(missing)}"] if missing else []
  problems += [f"extra parameters: {', '.join(extra)}"] if extra else []
  for path in sorted(expected.keys() & found.keys()):
    if expected[path] != found[path]:
      problems.append(f"{path} is {found[path]}, the network's is {expected[path]}")
    elif not np.isfinite(arrays[path]).all():
      problems.append(f"{path} holds values that are not finite")
  if classes is not None and len(classes) != config.num_classes:
    problems.append(f"{len(classes)} classes are named, the network has {config.num_classes}")
  return problems


def _check_whitening(whitening: Mapping[str, np.ndarray] | None, config: Any) -> list[str]:
  if whitening is None:
    return []
  if set(whitening) != set(WHITENING_KEYS):
    return [f"a whitening holds {' and '.join(WHITENING_KEYS)}, this one {', '.join(sorted(whitening)) or 'nothing'}"]
  mean, projection, channels = np.asarray(whitening["mean"]), np.asarray(whitening["projection"]), config.feature_channels
  if mean.shape != (channels,) or projection.ndim != 2 or projection.shape[0] != channels:
    return [f"the whitening's mean {mean.shape} and projection {projection.shape} are not ({channels},) and ({channels}, d)"]
  if mean.dtype != np.float32 or projection.dtype != np.float32:
    return [f"the whitening is float32, not {mean.dtype} and {projection.dtype}"]
  return [] if np.isfinite(mean).all() and np.isfinite(projection).all() else ["the whitening holds values not finite"]


def _write_arrays(folder: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  import orbax.checkpoint as ocp  # half a second: only those pay it who read or write a checkpoint

  try:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(folder, traverse_util.unflatten_dict(dict(arrays), sep="/"))
  except ValueError as error:  # TensorStore's name for a disk that takes no more
    raise OSError(f"the arrays cannot be written into {folder.parent.parent}: {brief(error)}") from error
  mark = folder / "commit_success.txt"
  if mark.exists():  # orbax names the temporary folder in it, which is nobody's concern
    mark.write_text("Checkpoint commit was successful\n", encoding="utf-8")


def _read_arrays(folder: pathlib.Path, stored: Any, problems: list[str]) -> dict[str, np.ndarray] | None:
  import orbax.checkpoint as ocp

  if not folder.is_dir():
    problems.append(f"it has no folder {ARRAYS_NAME}/")
    return None
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      tree = checkpointer.restore(folder)
    arrays = {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}
    halves = stored == "float16"
    return {path: array.astype(np.float32) if halves and array.dtype == np.float16 else array for path, array in arrays.items()}
  except Exception as error:  # a damaged folder fails in as many ways as orbax and TensorStore have parts
    problems.append(f"{ARRAYS_NAME}/ cannot be read: {brief(error)}")
    return None


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  """The content of checkpoint.json, or `CheckpointError` for what is no checkpoint at all."""
  if path.is_file():
    with path.open("rb") as file:
      start = file.read(4)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "other")
    raise CheckpointError(
      f"{path} is a file ({kind}), and a checkpoint is a folder with {JSON_NAME} in it; --mode=convert says whether it can "
      "become one"
    )
  if not path.is_dir():
    raise CheckpointError(f"there is no checkpoint {path}: no such folder")
  if not (path / JSON_NAME).is_file():
    raise CheckpointError(f"{path} is not a checkpoint: it holds no {JSON_NAME}")
  try:
    content = json.loads((path / JSON_NAME).read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise CheckpointError(f"{path / JSON_NAME} cannot be read as JSON: {brief(error)}") from error
  if not isinstance(content, dict):
    raise CheckpointError(f"{path / JSON_NAME} holds no JSON object")
  if content.get("format") != FORMAT:
    raise CheckpointError(f"{path} has format {content.get('format')!r}; this version of cwf_jax reads format {FORMAT}")
  return content


def _read_settings(content: dict[str, Any], problems: list[str]) -> tuple[str, Any, ClassList | None]:
  """The registry's name, the settings and the classes; None for what cannot be had, with its problem added."""
  name, config, classes = content.get("network"), None, None
  try:
    config = registry.config_from_json(str(name), content.get("config"))
  except InputError as error:
    problems.append(str(error))
  pairs = content.get("classes")
  try:
    classes = ClassList(tuple(str(wnid) for wnid, _ in pairs), tuple(str(text) for _, text in pairs))
  except (TypeError, ValueError) as error:
    problems.append(f"its classes are no list of [identifier, name]: {brief(error)}")
  return str(name), config, classes


def _read_whitening(file: pathlib.Path, sha256: Any, problems: list[str]) -> dict[str, np.ndarray] | None:
  if not file.exists() or sha256 is None:
    if file.exists() != (sha256 is not None):
      problems.append(f"{file.name} is {'not listed in ' + JSON_NAME if sha256 is None else 'missing'}")
    return None
  try:
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
      whitening = {key: archive[key] for key in archive.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # RuntimeError: encrypted
    reason = "it holds pickled objects, which are never loaded" if "allow_pickle" in str(error) else brief(error)
    problems.append(f"{file.name} cannot be read: {reason}")
    return None
  if parameters.hash_arrays(whitening) != sha256:
    problems.append(f"the sha256 of {file.name} is not the one in {JSON_NAME}")
  return whitening
