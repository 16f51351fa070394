"""The settings in which the paper and its published code differ, and the sizes at which images are computed.

Two presets, one engine: `Protocol.paper()` follows the text, `Protocol.reference()` the code of 2017 (METHOD 7).
Every image, crop and region is computed inside one of a few declared canvases, padded at the right and at the bottom, so
that a collection of any shapes needs a handful of compiled programs.

    >>> protocol = Protocol.paper()
    >>> protocol.resized(1536, 2048)
    (720, 960)
    >>> protocol.canvas(720, 960)
    (720, 960)
"""

import dataclasses
import hashlib
import json
import math

import numpy as np

from cwf_jax.errors import InputError

CELL = 16
"""Pixels a side of a cell of most feature maps; the least size of an image or box."""

Size = tuple[int, int]
"""(height, width)."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of the upright image, right and bottom exclusive."""


SIZE_RULES = ("shorter_side", "fixed_frame", "longer_side", "square")

FEATURE_MAPS = STRIDE16, LAST = ("stride16", "last")
"""The maps that class vectors are pooled from: the network's choice of stride 16, or the last one, of which CAMs are made."""


class BoxError(InputError):
  """A query box that lies outside its image, is empty, or is under 16 pixels a side."""


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How an image becomes a descriptor, apart from the weights.

  Attributes:
    name: the preset that the settings started from.
    size_rule: "shorter_side": the shorter side becomes `image_size`, the aspect is kept, a longer side of more than twice
      `image_size` shrinks the image. "fixed_frame": every image is stretched to the frame of 1024x720 (in proportion to
      `image_size`), turned for portraits; a square counts as landscape (METHOD 7.2 and 7.8). "longer_side": the longer side is
      at most `image_size`, the aspect is kept, nothing is enlarged but sides under 32 pixels. "square": stretched to a square.
    image_size: the shorter side, in pixels; under "longer_side" the most that the longer one has.
    num_classes: the classes summed into a descriptor.
    box_rule: how a query's box is laid on the cells. "scaled": scaled with the image; left and top down, right and bottom
      up. "unscaled": all four divided by a cell's side and floored as they are (METHOD 7.3).
    reversed_means: the preprocessing subtracts the channel means in reversed order (METHOD 7.1).
    expand_with_query: query expansion adds the query's own descriptor to the first answers' (METHOD 7.9).
    size_multiple: images are resized to multiples of it, in pixels; the network decides (MobileNetV2: 32).
    feature_map: X, which class vectors are pooled from: "stride16", with CAMs resized to it, or "last", the map A that CAMs are
      made of, as the authors' code has it for ResNet-50 and DenseNet-161 (METHOD 1).
    cell: pixels a side of that map's cells; the network decides.
  """

  name: str
  size_rule: str
  image_size: int
  num_classes: int = 64
  box_rule: str = "scaled"
  reversed_means: bool = False
  expand_with_query: bool = False
  size_multiple: int = 1
  feature_map: str = STRIDE16
  cell: int = CELL

  def __post_init__(self):
    named = (("size_rule", SIZE_RULES), ("box_rule", ("scaled", "unscaled")), ("feature_map", FEATURE_MAPS))
    for field, choices in named:
      if getattr(self, field) not in choices:
        raise InputError(f"{field} is one of {', '.join(choices)}; found {getattr(self, field)!r}")
    for field in ("image_size", "num_classes", "size_multiple", "cell"):
      if type(getattr(self, field)) is not int:
        raise InputError(f"{field} is a whole number; found {getattr(self, field)!r}")
    if not 2 * CELL <= self.image_size <= 4096:
      raise InputError(f"image_size is a number of pixels from {2 * CELL} to 4096; found {self.image_size}")
    for field in ("num_classes", "size_multiple", "cell"):
      if getattr(self, field) < 1:
        raise InputError(f"{field} is at least 1; found {getattr(self, field)}")

  @classmethod
  def paper(cls, image_size: int = 720, num_classes: int = 64) -> "Protocol":
    """The paper's text."""
    return cls("paper", "shorter_side", image_size, num_classes)

  @classmethod
  def reference(cls, image_size: int = 720, num_classes: int = 64) -> "Protocol":
    """The code that the paper's authors published."""
    return cls("reference", "fixed_frame", image_size, num_classes, box_rule="unscaled", reversed_means=True)

  @classmethod
  def preset(cls, name: str, image_size: int = 720, num_classes: int = 64) -> "Protocol":
    """The preset of that name: "paper" or "reference".

    Raises:
      InputError: there is no such preset.
    """
    presets = {"paper": cls.paper, "reference": cls.reference}
    if name not in presets:
      raise InputError(f"no protocol named {name!r}; there are {', '.join(presets)}")
    return presets[name](image_size, num_classes)

  def for_network(self, size_multiple: int, stride: int = CELL, cam_stride: int = CELL) -> "Protocol":
    """Adapts the protocol to a network's size multiple and to the stride of its map; see `CamConfig`."""
    if self.size_multiple % size_multiple == 0:
      size_multiple = self.size_multiple
    return dataclasses.replace(self, size_multiple=size_multiple, cell=cam_stride if self.feature_map == LAST else stride)

  @property
  def _frame(self) -> Size:
    """The fixed frame, landscape."""
    shorter, longer = self.image_size, round(self.image_size * 1024 / 720)
    return _scaled(shorter, longer, 1.0, self.size_multiple)

  @property
  def _unit(self) -> int:
    """Canvases and crops have whole cells and sizes that the network takes."""
    return math.lcm(self.cell, self.size_multiple)

  def resized(self, height: int, width: int) -> Size:
    """The (height, width) at which an indexed image of these pixels is computed; never under one cell a side.

    Example:
      >>> Protocol.paper().resized(480, 640), Protocol.reference().resized(480, 640)
      ((720, 960), (720, 1024))
    """
    if self.size_rule == "fixed_frame":
      return self._frame if width >= height else self._frame[::-1]
    if self.size_rule == "square":
      return _scaled(self.image_size, self.image_size, 1.0, self.size_multiple)
    if self.size_rule == "longer_side":
      height, width = (max(side, 2 * CELL) for side in self.shrunk(height, width))
      return _scaled(height, width, 1.0, self.size_multiple)
    scale = min(self.image_size / min(height, width), 2 * self.image_size / max(height, width))
    return _scaled(height, width, scale, self.size_multiple)

  def shrunk(self, height: float, width: float, whole: Size | None = None) -> tuple[float, float]:
    """The (height, width) of an image, or of a crop of the `whole` one, under "longer_side", before it is rounded."""
    scale = min(1.0, self.image_size / max(whole or (height, width)))
    return height * scale, width * scale

  def resized_crop(self, height: int, width: int) -> Size:
    """The size at which a query's crop is classified: its own, floored to whole cells, never enlarged (METHOD 7.4).

    A crop larger than every canvas is scaled down with its aspect kept.

    Example:
      >>> Protocol.paper().resized_crop(100, 210)
      (96, 208)
    """
    fit = max(min(h / height, w / width) for h, w in self.crop_canvases)
    height, width = _scaled(height, width, min(1.0, fit))
    unit = self._unit
    return max(unit, height // unit * unit), max(unit, width // unit * unit)

  @property
  def canvases(self) -> tuple[Size, ...]:
    """The declared canvases of indexed images, smallest first.

    The frame, the square, or squares, 4:3, 3:2 and 2:1 in both orientations; under "longer_side" of half the size, too.
    """
    if self.size_rule == "fixed_frame":
      return (self._frame, self._frame[::-1])
    if self.size_rule == "square":
      side = _ceil_to(self.resized(1, 1)[0], self._unit)
      return ((side, side),)
    if self.size_rule == "longer_side":
      longest = [_ceil_to(math.ceil(self.image_size * part), self._unit) for part in (1 / 2, 1)]
      pairs = [(_ceil_to(math.ceil(side * aspect), self._unit), side) for side in longest for aspect in (1 / 2, 3 / 4, 1)]
      return tuple(dict.fromkeys(pair for short, long in pairs for pair in ((short, long), (long, short))))
    shorter = _ceil_to(self.image_size, self._unit)
    longer = [_ceil_to(math.ceil(self.image_size * aspect), self._unit) for aspect in (4 / 3, 3 / 2, 2)]
    return ((shorter, shorter), *(pair for side in longer for pair in ((shorter, side), (side, shorter))))

  @property
  def crop_canvases(self) -> tuple[Size, ...]:
    """The declared canvases of query crops."""
    if self.size_rule == "fixed_frame":
      return ((self._frame[1], self._frame[1]),)
    if self.size_rule == "longer_side":  # crops have any shape, and are few: compiling costs more than padding
      return tuple(canvas for canvas in self.canvases if canvas[0] == canvas[1])
    return self.canvases

  def canvas(self, height: int, width: int) -> Size:
    """The smallest canvas that holds a resized image of (height, width)."""
    return _smallest(self.canvases, height, width)

  def crop_canvas(self, height: int, width: int) -> Size:
    """The smallest canvas that holds a resized crop of (height, width)."""
    return _smallest(self.crop_canvases, height, width)

  def box_to_cells(self, box: Box, original: Size, resized: Size) -> tuple[int, int, int, int]:
    """Lays a box on the feature map: (left, top, right, bottom) in cells, right and bottom exclusive, at least one cell.

    Args:
      box: in pixels of the original, checked by `check_box`.
      original: (height, width) of the upright original.
      resized: (height, width) at which the image is computed; the map has floor(size / cell) cells.

    Example:
      >>> box, original, resized = (100, 50, 400, 300), (600, 800), (720, 960)
      >>> Protocol.paper().box_to_cells(box, original, resized)
      (7, 3, 30, 23)
    """
    rows, columns = resized[0] // self.cell, resized[1] // self.cell
    left, top, right, bottom = box
    if self.box_rule == "unscaled":
      left, top, right, bottom = (int(side // self.cell) for side in box)
    else:
      # One division, so that an edge on a cell's border stays there.
      across, down = original[1] * self.cell, original[0] * self.cell
      left, top = math.floor(left * resized[1] / across), math.floor(top * resized[0] / down)
      right, bottom = math.ceil(right * resized[1] / across), math.ceil(bottom * resized[0] / down)
    left, top = min(max(left, 0), columns - 1), min(max(top, 0), rows - 1)
    return left, top, max(left + 1, min(right, columns)), max(top + 1, min(bottom, rows))

  def to_json(self) -> dict:
    """The settings as plain values, by name."""
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, values: dict) -> "Protocol":
    """The inverse of `to_json`; an older index lacks what was added since.

    Raises:
      InputError: another setting is missing, or one is unknown or out of range.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    if set(values) | {"size_multiple", "feature_map", "cell"} != names:
      raise InputError(f"the protocol's settings should be {sorted(names)}; found {sorted(values)}")
    return cls(**values)


def check_box(box: Box, size: Size) -> Box:
  """Clips a query's box to its image of `size` (height, width), or says why it cannot be a query's box.

  Raises:
    BoxError: the box is not four finite numbers, lies outside the image, is empty, or is under 16 pixels a side after
      clipping.

  Example:
    >>> check_box((100, 50, 900, 400), size=(600, 800))
    (100.0, 50.0, 800.0, 400.0)
    >>> check_box((0, 0, 8, 8), size=(600, 800))
    Traceback (most recent call last):
    cwf_jax.protocol.BoxError: the box 0,0,8,8 is 8x8 pixels (right - left, bottom - top); the least is 16x16
  """
  if len(box) != 4 or not all(math.isfinite(side) for side in box):
    raise BoxError(f"a box is four numbers, left,top,right,bottom; found {box}")
  left, top, right, bottom = (float(side) for side in box)
  shown = ",".join(f"{side:g}" for side in (left, top, right, bottom))
  height, width = size
  if right <= 0 or bottom <= 0 or left >= width or top >= height:
    raise BoxError(f"the box {shown} lies outside the image, which has {width}x{height} pixels (width x height)")
  inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
  across, down = inside[2] - inside[0], inside[3] - inside[1]
  if across < CELL or down < CELL:
    clipped = "" if inside == (left, top, right, bottom) else " inside the image"
    raise BoxError(
      f"the box {shown} is {across:g}x{down:g} pixels{clipped} (right - left, bottom - top); the least is {CELL}x{CELL}"
    )
  return inside


def check_pixel_range(pixels: np.ndarray) -> None:
  """Refuses floats from 0 to 1: the networks take 0 to 255, and such an image would count as black.

  Raises:
    InputError: the values are floats and their maximum is in (0, 1].
  """
  if pixels.dtype.kind == "f" and pixels.size and 0 < pixels.max() <= 1:
    raise InputError(
      f"pixels are from 0 to 255; found {pixels.dtype} values of at most {pixels.max():.3g}: "
      "multiply them by 255 and convert them to uint8"
    )


def fingerprint(weights_sha256: str, preprocessing: dict, tap: str, protocol: Protocol) -> str:
  """Names what a descriptor depends on: weights, preprocessing, tap, and the protocol's size rule and number of classes.

  Whitening, dtype, device and version are left out on purpose: an index holds its whitening, and records the others.
  """
  parts = {
    "weights": weights_sha256,
    "preprocessing": preprocessing,
    "tap": tap,
    "size_rule": protocol.size_rule,
    "image_size": protocol.image_size,
    "num_classes": protocol.num_classes,
  }
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _scaled(height: int, width: int, scale: float, multiple: int = 1) -> Size:
  least = max(CELL, multiple)
  return max(least, round(height * scale / multiple) * multiple), max(least, round(width * scale / multiple) * multiple)


def _ceil_to(pixels: int, unit: int) -> int:
  return -(-pixels // unit) * unit


def _smallest(canvases: tuple[Size, ...], height: int, width: int) -> Size:
  fitting = [canvas for canvas in canvases if canvas[0] >= height and canvas[1] >= width]
  if not fitting:
    raise InputError(f"no canvas holds {width}x{height} pixels (width x height); the canvases are {canvases}")
  return min(fitting, key=lambda canvas: canvas[0] * canvas[1])
