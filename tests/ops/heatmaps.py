"""Heat maps whose components are hard to connect: coarse ones with many ties, spirals, combs and snakes."""

import numpy as np


def draw(shape, seed=0):
  """Cubes of even numbers: many components at high thresholds, few at low ones."""
  return (np.random.default_rng(seed).random(shape) ** 3).astype(np.float32)


def draw_coarse(shape, seed=0):
  """Quarters from 0 to 1: cells that equal a threshold, and components of equal size."""
  return (np.random.default_rng(seed).integers(0, 5, shape) / 4).astype(np.float32)


def parse(*lines):
  """A map of one image: 1 where the drawing has a #."""
  return np.array([[[float(character == "#") for character in line] for line in lines]], np.float32)


def draw_spiral(rows, columns):
  """One path from the first corner to the middle, a cell wide, with a cell between its turns."""
  spiral = np.zeros((rows, columns), np.float32)
  i, j, di, dj = 0, 0, 0, 1
  spiral[0, 0] = 1

  def is_free(i, j):
    return not (0 <= i < rows and 0 <= j < columns) or not spiral[i, j]

  turns = 0
  while turns < 2:
    if 0 <= i + di < rows and 0 <= j + dj < columns and is_free(i + di, j + dj) and is_free(i + 2 * di, j + 2 * dj):
      i, j, turns = i + di, j + dj, 0
      spiral[i, j] = 1
    else:
      di, dj, turns = dj, -di, turns + 1
  return spiral


def draw_comb(rows, columns, seed=None):
  """Teeth on every other column that meet in the last row; of random length if seeded."""
  comb = np.zeros((rows, columns), np.float32)
  comb[-1] = 1
  starts = np.zeros(columns, int) if seed is None else np.random.default_rng(seed).integers(0, rows, columns)
  starts[0] = 0
  for j in range(0, columns, 2):
    comb[starts[j] :, j] = 1
  return comb


def draw_snake(rows, columns):
  """Every other row, joined at alternating ends."""
  snake = np.zeros((rows, columns), np.float32)
  snake[::2] = 1
  snake[1::4, -1] = 1
  snake[3::4, 0] = 1
  return snake


def list_turned(heatmap):
  """The map in its eight positions, each [1 i j]."""
  turned = [np.rot90(heatmap, n) for n in range(4)]
  return [np.ascontiguousarray(each)[None] for position in turned for each in (position, position[:, ::-1])]


WORST = {"spiral": draw_spiral, "comb": draw_comb, "uneven comb": lambda *shape: draw_comb(*shape, seed=0), "snake": draw_snake}
