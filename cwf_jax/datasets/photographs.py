"""The photographs that scikit-image and scikit-learn carry in their wheels, and changed views of them as queries.

Nothing is downloaded. Every change is drawn from a seed, so the same files come out on every machine that has the same
version of Pillow.
"""

import importlib.util
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from cwf_jax.errors import InputError

SOURCES = {
  "skimage": (
    *("data/astronaut.png", "data/brick.png", "data/camera.png", "data/chelsea.png", "data/clock_motion.png"),
    *("data/coffee.png", "data/coins.png", "data/grass.png", "data/gravel.png", "data/hubble_deep_field.jpg"),
    *("data/ihc.png", "data/moon.png", "data/motorcycle_left.png", "data/retina.jpg", "data/rocket.jpg"),
  ),
  "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
"""The photographs of each package; drawings and pages of text are left out."""

REAL_VIEWS = {"motorcycle_left": ("skimage", "data/motorcycle_right.png")}
"""A second photograph of the same object, by the first one's name."""

VIEWS = ("closer", "tilted")


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
  names = []
  for package, files in SOURCES.items():
    for file in files:
      _write(target / Path(file).name, (_home(package) / file).read_bytes())
      names.append(Path(file).stem)
  return sorted(names)


def write_views(photographs: str | os.PathLike, folder: str | os.PathLike, seed: int = 0) -> dict[str, str]:
  """Writes changed views of each photograph: nearer, from another side, in other light, blurred, noisy, compressed.

  Args:
    photographs: of `write_photographs`.
    folder: where the views go.
    seed: of all changes.

  Returns:
    The name of the photograph that each view shows, by the view's file name.
  """
  target = Path(folder)
  target.mkdir(parents=True, exist_ok=True)
  shows = {}
  for path in sorted(Path(photographs) / Path(file).name for files in SOURCES.values() for file in files):
    with Image.open(path) as opened:
      image = opened.convert("RGB")
    for number, view in enumerate(VIEWS):
      generator = np.random.default_rng([seed, number, *path.stem.encode()])
      name = f"{path.stem}_{view}.jpg"
      changed = _closer(image, generator) if view == "closer" else _tilted(image, generator)
      content = io.BytesIO()
      _spoil(changed, generator).save(content, "jpeg", quality=int(generator.integers(40, 75)))
      _write(target / name, content.getvalue())
      shows[name] = path.stem
    if path.stem in REAL_VIEWS:
      package, file = REAL_VIEWS[path.stem]
      _write(target / Path(file).name, (_home(package) / file).read_bytes())
      shows[Path(file).name] = path.stem
  return shows


def _home(package: str) -> Path:
  found = importlib.util.find_spec(package)
  if found is None or not found.submodule_search_locations:
    raise InputError(f"the demo's photographs come with {package}, which is not installed: pip install 'cwf_jax[demo]'")
  return Path(next(iter(found.submodule_search_locations)))


def _write(target: Path, content: bytes) -> None:
  if not target.exists() or target.read_bytes() != content:
    target.write_bytes(content)


def _closer(image: Image.Image, generator: np.random.Generator) -> Image.Image:
  """A part of 55 to 75 % of each side."""
  part = generator.uniform(0.55, 0.75)
  width, height = round(part * image.width), round(part * image.height)
  left, top = generator.integers(0, image.width - width + 1), generator.integers(0, image.height - height + 1)
  return image.crop((int(left), int(top), int(left) + width, int(top) + height))


def _tilted(image: Image.Image, generator: np.random.Generator) -> Image.Image:
  """As seen from another side: each corner moves inwards by up to 18 % of the sides."""
  moves = generator.uniform(0.0, 0.18, (4, 2)) * (image.width, image.height)
  right, bottom = image.width, image.height
  (x0, y0), (x1, y1), (x2, y2), (x3, y3) = moves
  corners = (x0, y0, x1, bottom - y1, right - x2, bottom - y2, right - x3, y3)
  return image.transform(image.size, Image.Transform.QUAD, tuple(map(float, corners)), Image.Resampling.BICUBIC)


def _spoil(image: Image.Image, generator: np.random.Generator) -> Image.Image:
  """Another size, light and color, a little blur and noise."""
  scale = generator.uniform(0.6, 0.95)
  image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BILINEAR)
  image = ImageEnhance.Brightness(image).enhance(generator.uniform(0.6, 1.4))
  image = ImageEnhance.Contrast(image).enhance(generator.uniform(0.7, 1.2))
  image = ImageEnhance.Color(image).enhance(generator.uniform(0.6, 1.3))
  image = image.filter(ImageFilter.GaussianBlur(generator.uniform(0.0, 1.2)))
  pixels = np.asarray(image, np.float32) + generator.normal(0.0, 6.0, (image.height, image.width, 3))
  return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
