"""Views of a photographed object: another camera, other light, something in front of it, a place in another scene.

A picture carries what is seen of each object in it, so that its box and its visible part are measured, not guessed. All
geometry is in closed form and all resampling is Pillow's on 8 bits, so that a seed gives the same pixels wherever NumPy and
Pillow are the same.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from cwf_jax.protocol import Box


class Seen(NamedTuple):
  """What is seen of an object.

  Attributes:
    mask: "L", of the picture's size: 255 where the object is seen.
    area: pixels that it would fill if nothing were cut off or covered.
  """

  mask: Image.Image
  area: float

  @property
  def visible(self) -> float:
    """The visible part of the object, 0 to 1."""
    return min(1.0, np.count_nonzero(np.asarray(self.mask) > 127) / self.area) if self.area else 0.0

  @property
  def box(self) -> Box | None:
    """Around what is seen; None if nothing is."""
    return self.mask.point(lambda value: 255 * (value > 127)).getbbox()


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image and the objects in it.

  Attributes:
    image: "RGB".
    seen: by the object's name.
  """

  image: Image.Image
  seen: dict[str, Seen]


@dataclasses.dataclass(frozen=True)
class Subject:
  """A photograph of an object, ready to be seen by cameras.

  Attributes:
    name: of the object.
    image: "RGB", the photograph in a blurred mirror image of itself, for views that reach beyond its edges.
    box: of the object, in pixels of `image`.
  """

  name: str
  image: Image.Image
  box: Box

  @classmethod
  def of(cls, name: str, photograph: Image.Image, box: Box) -> "Subject":
    """Of an object that fills `box` of the photograph ("RGB")."""
    edge = max(photograph.size)
    mirrored = Image.fromarray(np.pad(np.asarray(photograph), ((edge, edge), (edge, edge), (0, 0)), "reflect"))
    image = mirrored.filter(ImageFilter.GaussianBlur(edge / 20))
    inside = Image.new("L", image.size)
    inside.paste(255, (edge, edge, edge + photograph.width, edge + photograph.height))
    image.paste(mirrored, (0, 0), inside)
    return cls(name, image, tuple(side + edge for side in box))


_FAR = ((0, 3), (0, 1), (1, 2), (2, 3))
"""The corners of each side, where they are counted from the upper left with the clock."""


@dataclasses.dataclass(frozen=True)
class Camera:
  """Where a view is taken from.

  Attributes:
    size: (width, height) of the picture.
    fill: the part of the picture's side that the object spans; over 1 the object is cut off.
    angle: of a turn of the camera, in degrees.
    tilt: 0 to 0.5, of a view from the side: the far side of the picture spans 1 / (1 - tilt) as much of the photograph as the
      near one, so that the far side of the object looks shorter.
    side: the far side: 0 left, 1 top, 2 right, 3 bottom.
    shift: of the object from the middle before the turn, (across, down), as a part of the picture's sides.
  """

  size: tuple[int, int]
  fill: float = 0.9
  angle: float = 0.0
  tilt: float = 0.0
  side: int = 0
  shift: tuple[float, float] = (0.0, 0.0)

  def take(self, subject: Subject) -> Picture:
    """A view of an object."""
    left, top, right, bottom = subject.box
    whole = Image.new("L", subject.image.size)
    whole.paste(255, tuple(map(round, subject.box)))
    to_photograph = self._homography(subject.box)
    coefficients = tuple((to_photograph / to_photograph[2, 2]).ravel()[:8])
    image, mask = (
      one.transform(self.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
      for one in (subject.image, whole)
    )
    to_picture = _adjugate(to_photograph)  # the inverse but for a factor, which cancels
    corners = [_project(to_picture, *corner) for corner in ((left, top), (right, top), (right, bottom), (left, bottom))]
    return Picture(image, {subject.name: Seen(mask, _area(corners))})

  def _homography(self, box: Box) -> np.ndarray:
    """From pixels of the picture to pixels of the photograph, [3 3]."""
    width, height = self.size
    scale = max((box[2] - box[0]) / width, (box[3] - box[1]) / height) / self.fill
    middle = ((box[0] + box[2]) / 2 - self.shift[0] * width * scale, (box[1] + box[3]) / 2 - self.shift[1] * height * scale)
    # The far side looks shorter: the picture's corners there lie further out in the photograph.
    corners = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]
    for corner in _FAR[self.side]:
      corners[corner][1 - self.side % 2] /= 1 - self.tilt
    cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
    quad = []
    for across, down in corners:
      x, y = across * width * scale, down * height * scale
      quad.append((middle[0] + cosine * x - sine * y, middle[1] + sine * x + cosine * y))
    return _square_to_quad(quad) * np.array([1 / width, 1 / height, 1.0])


def _square_to_quad(quad: list[tuple[float, float]]) -> np.ndarray:
  """The homography of the unit square's corners (0,0), (1,0), (1,1), (0,1) to those of a quadrilateral, [3 3].

  Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989, section 2.2.3.
  """
  (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad
  dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
  dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
  determinant = dx1 * dy2 - dx2 * dy1
  g, h = (sx * dy2 - dx2 * sy) / determinant, (dx1 * sy - sx * dy1) / determinant
  return np.array([[x1 - x0 + g * x1, x3 - x0 + h * x3, x0], [y1 - y0 + g * y1, y3 - y0 + h * y3, y0], [g, h, 1.0]])


def _adjugate(matrix: np.ndarray) -> np.ndarray:
  first, second, third = matrix.T
  return np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)])


def _project(homography: np.ndarray, x: float, y: float) -> tuple[float, float]:
  across, down, depth = (row[0] * x + row[1] * y + row[2] for row in homography)
  return across / depth, down / depth


def _area(corners: list[tuple[float, float]]) -> float:
  pairs = zip(corners, corners[1:] + corners[:1], strict=True)
  return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


def cover(picture: Picture, cover_with: Image.Image, mask: Image.Image) -> Picture:
  """Puts something in front: what `mask` ("L") hides of the objects is not seen any more."""
  image = picture.image.copy()
  image.paste(cover_with, (0, 0), mask)
  shown = ImageChops.invert(mask)
  return Picture(image, {name: Seen(ImageChops.multiply(seen.mask, shown), seen.area) for name, seen in picture.seen.items()})


def paste(picture: Picture, host: Picture, name: str) -> Picture:
  """Puts the object `name` of a picture into a host of the same size, in front of what is there."""
  soft = picture.seen[name].mask.filter(ImageFilter.GaussianBlur(1.0))
  covered = cover(host, picture.image, soft)
  return Picture(covered.image, covered.seen | {name: picture.seen[name]})


@dataclasses.dataclass(frozen=True)
class Light:
  """What light, lens and file make of a view.

  Attributes:
    gain: of red, green and blue.
    gamma: under 1 is brighter.
    ramp: how much darker the picture is on its dark side, 0 to 1.
    ramp_side: the dark side, as `Camera.side`.
    blur: radius of a Gaussian, in pixels.
    noise: standard deviation, in gray levels.
    detail: the side of the sensor as a part of the picture's; under 1 detail is lost.
    quality: of the JPEG, 1 to 95.
  """

  gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
  gamma: float = 1.0
  ramp: float = 0.0
  ramp_side: int = 0
  blur: float = 0.0
  noise: float = 0.0
  detail: float = 1.0
  quality: int = 85

  def shine(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """The image in this light; the noise is the generator's."""
    if self.detail < 1:
      small = tuple(max(1, round(self.detail * side)) for side in image.size)
      image = image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)
    if self.blur:
      image = image.filter(ImageFilter.GaussianBlur(self.blur))
    levels = np.arange(256) / 255
    table = np.clip(np.rint(255 * np.outer(self.gain, levels**self.gamma)), 0, 255).astype(int)
    pixels = np.asarray(image.point(table.ravel().tolist())).astype(np.float64)
    across = np.linspace(1.0, 1.0 - self.ramp, pixels.shape[1 - self.ramp_side % 2])
    across = across[::-1] if self.ramp_side < 2 else across
    pixels *= across[None, :, None] if self.ramp_side % 2 == 0 else across[:, None, None]
    pixels += generator.normal(0.0, 1.0, pixels.shape) * self.noise
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
