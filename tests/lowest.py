"""Prints the lowest versions that setup.cfg allows, as pins for pip: `python tests/lowest.py test,heif`."""

import configparser
import re
import sys
from pathlib import Path

SETUP = Path(__file__).parents[1] / "setup.cfg"


def list_pins(extras: list[str]) -> list[str]:
  """One NAME==VERSION for each requirement with a lower bound, of the package and of these extras."""
  setup = configparser.ConfigParser()
  setup.read(SETUP, encoding="utf-8")
  lists = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
  bounds = re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(lists), re.MULTILINE)
  return sorted({f"{name}=={version}" for name, version in bounds})


if __name__ == "__main__":
  print("\n".join(list_pins(sys.argv[1].split(","))))
