"""The house's one list of who may import whom, held by reading the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cwf_jax"

GROUND = {"ops", "models", "images", "datasets", "index"}
ENCODED = {"encoder", "load", *GROUND}
ALLOWED = {
  "version": set(),
  "errors": set(),
  "writing": set(),
  "home": set(),
  "protocol": set(),
  "ops": set(),
  "models": set(),
  "images": set(),
  "datasets": set(),
  "index": set(),
  "encoder": {"ops", "models"},
  "conversion": {"models"},
  "queries": {"encoder", "images", "ops"},
  "reasons": {"encoder", "images", "ops", "queries"},
  "explanation": {"queries", "reasons", *ENCODED},
  "load": {"encoder", "conversion", "models", "ops"},
  "export": ENCODED,
  "indexing": ENCODED,
  "retrieval": {"queries", "reasons", *ENCODED},
  "training": ENCODED,
  "figures": {"explanation", "queries", "reasons", "retrieval", *ENCODED},
  "evaluation": {"explanation", "indexing", "retrieval", "training", "figures", *ENCODED},
  "cli": {
    *("queries", "reasons", "evaluation", "conversion", "indexing", "retrieval", "training", "explanation", "figures"),
    *ENCODED,
  },
}
"""What each room may import besides itself and what lies below everything: `BELOW`."""

BELOW = {"errors", "version", "protocol", "writing", "home"}

_HEAVY = {"lance", "grain", "tensorflow_datasets", "absl"}
WITHOUT = dict.fromkeys(("ops", "models", "encoder", "load", "export", "training"), _HEAVY)
"""Third-party packages that a JAX programmer who wants the encoder need not have."""


def _imports(path: Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative imports hide where a name comes from"
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def _room(path: Path) -> str:
  return path.relative_to(PACKAGE).with_suffix("").parts[0]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_rooms_below_its_own(path):
  room = _room(path)
  assert room in ALLOWED, f"{room} is not in the list of rooms"
  names = _imports(path)
  rooms = {name.split(".")[1] for name in names if name.startswith("cwf_jax.")}
  assert rooms <= ALLOWED[room] | BELOW | {room}, f"{room} imports upward or sideways"
  assert not {name.split(".")[0] for name in names} & WITHOUT.get(room, set())


def test_only_the_command_line_knows_absl():
  users = {_room(path) for path in MODULES if any(name.split(".")[0] == "absl" for name in _imports(path))}
  assert users == {"cli"}


def test_main_imports_only_the_command_line():
  names = _imports(PACKAGE.parent / "main.py")
  assert {name for name in names if name.startswith("cwf_jax")} == {"cwf_jax.cli.entry"}
