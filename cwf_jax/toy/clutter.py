"""Pictures of nothing that is looked for: towns, skies, still lifes and textures, drawn from a seed.

They are distractors, backgrounds, and what stands in front of things.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Extent = tuple[int, int]
"""(width, height)."""


def draw_clutter(size: Extent, generator: np.random.Generator, textures: tuple[Image.Image, ...] = ()) -> Image.Image:
  """Draws one picture.

  Args:
    size: of the picture.
    generator: decides what and how.
    textures: photographs of surfaces, parts of which are shown as they are or in another color.
  """
  kinds: list[Callable[[], Image.Image]] = [
    lambda: _town(size, generator),
    lambda: _sky(size, generator),
    lambda: _still_life(size, generator),
  ]
  if textures:
    kinds.append(lambda: _surface(size, generator, textures[int(generator.integers(len(textures)))]))
  return kinds[int(generator.integers(len(kinds)))]()


def draw_bar(size: Extent, box: tuple[float, float, float, float], part: float, generator: np.random.Generator) -> Image.Image:
  """A mask ("L") of a leaning bar that hides about `part` of a box, 0 to 1, beginning at one of its sides."""
  left, top, right, bottom = box
  mask = Image.new("L", size)
  draw = ImageDraw.Draw(mask)
  lean = generator.uniform(-0.15, 0.15)
  across, from_end = bool(generator.integers(2)), bool(generator.integers(2))
  width, height = right - left, bottom - top
  if across:
    low, high = (right - part * width, right + width) if from_end else (left - width, left + part * width)
    draw.polygon([(low - lean * width, top - 9), (high - lean * width, top - 9), (high + lean * width, bottom + 9),
                  (low + lean * width, bottom + 9)], fill=255)  # fmt: skip
  else:
    low, high = (bottom - part * height, bottom + height) if from_end else (top - height, top + part * height)
    draw.polygon([(left - 9, low - lean * height), (right + 9, low + lean * height), (right + 9, high + lean * height),
                  (left - 9, high - lean * height)], fill=255)  # fmt: skip
  return mask


def _noise(size: Extent, generator: np.random.Generator, channels: int = 3) -> np.ndarray:
  """Smooth random values, 0 to 1, [h w channels]: octaves of enlarged random pictures."""
  total, weights = np.zeros((size[1], size[0], channels)), 0.0
  for octave in range(2, 7):
    shape = (2**octave, 2**octave, channels)
    small = Image.fromarray(generator.integers(0, 256, shape, np.uint8).squeeze())
    weight = 2.0**-octave
    total += weight * np.asarray(small.resize(size, Image.Resampling.BICUBIC)).reshape(size[1], size[0], channels)
    weights += weight
  return total / (255 * weights)


def _color(generator: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, int, int]:
  """Of half the saturation that red, green and blue drawn apart would have."""
  levels = generator.integers(low, high, 3)
  return tuple(int(level) for level in (levels + levels.sum() // 3) // 2)


def _blend(first: tuple[int, int, int], second: tuple[int, int, int], weights: np.ndarray) -> np.ndarray:
  """[h w 3] between two colors, by weights [h w 1]."""
  return np.asarray(first) + weights * (np.asarray(second, np.float64) - np.asarray(first))


def _to_image(pixels: np.ndarray) -> Image.Image:
  return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _sky(size: Extent, generator: np.random.Generator) -> Image.Image:
  weights = _noise(size, generator, 1)
  weights = np.clip((weights - 0.35) / 0.3, 0, 1)
  return _to_image(_blend(_color(generator), _color(generator), weights) + 40 * (_noise(size, generator) - 0.5))


def _town(size: Extent, generator: np.random.Generator) -> Image.Image:
  width, height = size
  down = np.linspace(0, 1, height)[:, None, None] * np.ones((1, width, 1))
  image = _to_image(_blend(_color(generator, 90), _color(generator, 120), down) + 30 * (_noise(size, generator) - 0.5))
  draw = ImageDraw.Draw(image)
  for _ in range(int(generator.integers(5, 11))):
    left, right = sorted(int(x) for x in generator.integers(-40, width + 40, 2))
    right = max(right, left + 40)
    top = int(generator.integers(height // 8, height * 3 // 4))
    wall, pane = _color(generator, 30, 220), _color(generator)
    draw.rectangle((left, top, right, height), fill=wall)
    if generator.integers(2):
      draw.polygon([(left - 6, top), ((left + right) // 2, top - int(generator.integers(15, 70))), (right + 6, top)],
                   fill=_color(generator, 20, 200))  # fmt: skip
    step = int(generator.integers(14, 34))
    for x in range(left + step // 2, right - step // 2, step):
      for y in range(top + step // 2, height, int(step * 1.4)):
        draw.rectangle((x, y, x + step // 2, y + step * 2 // 3), fill=pane)
  return _to_image(np.asarray(image) * (0.8 + 0.4 * _noise(size, generator, 1)))


def _still_life(size: Extent, generator: np.random.Generator) -> Image.Image:
  width, height = size
  ground = _blend(_color(generator), _color(generator), _noise(size, generator, 1))
  image = _to_image(ground)
  for _ in range(int(generator.integers(4, 9))):
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    x, y = generator.integers(0, width), generator.integers(0, height)
    rx, ry = generator.integers(20, width // 3), generator.integers(20, height // 3)
    draw.ellipse((int(x - rx), int(y - ry), int(x + rx), int(y + ry)), fill=255)
    shade = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 1))
    surface = _blend(_color(generator), _color(generator), shade) * (0.7 + 0.6 * _noise(size, generator, 1))
    image.paste(_to_image(surface), (0, 0), mask)
  return image


def _surface(size: Extent, generator: np.random.Generator, texture: Image.Image) -> Image.Image:
  part = generator.uniform(0.35, 0.8)
  width, height = round(part * texture.width), round(part * texture.height)
  left, top = (int(generator.integers(0, whole - cut + 1)) for whole, cut in ((texture.width, width), (texture.height, height)))
  cut = texture.convert("L").crop((left, top, left + width, top + height)).resize(size, Image.Resampling.BICUBIC)
  gray = np.asarray(cut, np.float64)[..., None] / 255
  return _to_image(_blend(_color(generator, 0, 120), _color(generator, 120), gray))
