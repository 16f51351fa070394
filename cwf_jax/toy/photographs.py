"""The photographs that scikit-image and scikit-learn carry in their wheels: nothing is downloaded."""

import importlib.util
import os
from pathlib import Path

from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.files import write_if_changed

SOURCES = {
  "skimage": (
    *("data/astronaut.png", "data/brick.png", "data/camera.png", "data/cell.png", "data/chelsea.png"),
    *("data/clock_motion.png", "data/coffee.png", "data/coins.png", "data/grass.png", "data/gravel.png"),
    *("data/hubble_deep_field.jpg", "data/ihc.png", "data/moon.png", "data/motorcycle_left.png"),
    *("data/motorcycle_right.png", "data/page.png", "data/retina.jpg", "data/rocket.jpg", "data/text.png"),
  ),
  "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
"""The photographs of each package; drawings are left out. The two of the motorcycle are a stereo pair."""


def check_installed() -> None:
  """Finds the packages.

  Raises:
    InputError: one is not installed; the message says how to install it.
  """
  for package in SOURCES:
    _home(package)


def write_photographs(folder: str | os.PathLike) -> list[str]:
  """Copies the photographs into a folder as they are.

  Returns:
    Their names, without ending, sorted.

  Raises:
    InputError: a package is not installed.
  """
  check_installed()
  target = Path(folder)
  target.mkdir(parents=True, exist_ok=True)
  paths = [_home(package) / file for package, files in SOURCES.items() for file in files]
  for path in paths:
    write_if_changed(target / path.name, path.read_bytes())
  return sorted(path.stem for path in paths)


def open_photograph(name: str) -> Image.Image:
  """The photograph of that name (without ending), "RGB".

  Raises:
    InputError: there is none, or its package is not installed.
  """
  for package, files in SOURCES.items():
    for file in files:
      if Path(file).stem == name:
        with Image.open(_home(package) / file) as image:
          return image.convert("RGB")
  raise InputError(f"no photograph named {name!r} is carried by {' or '.join(SOURCES)}")


def _home(package: str) -> Path:
  found = importlib.util.find_spec(package)
  if found is None or not found.submodule_search_locations:
    raise InputError(f"the demo's photographs come with {package}, which is not installed: pip install 'cwf_jax[demo]'")
  return Path(next(iter(found.submodule_search_locations)))
