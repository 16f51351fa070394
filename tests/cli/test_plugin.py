"""`--plugin`: one file serves indexing, searching and evaluating."""

import json

from cwf_jax.systems.system import SYSTEMS
from tests.systems.test_plugin import MEAN, systems  # noqa: F401


def test_a_system_of_ones_own_is_indexed_and_searched(cli, refused, photographs, tiny_checkpoint, tmp_path):
  plugin, index = tmp_path / "mine.py", tmp_path / "index"
  plugin.write_text(MEAN)
  flags = (f"--plugin={plugin}", f"--index={index}")
  done = cli("--mode=index", f"--images={photographs}", f"--weights={tiny_checkpoint}", "--system=mean", *flags)
  assert done.code == 0, done.err
  query = next(photographs.rglob("*.png"))
  found = cli("--mode=search", f"--query={query}", "--format=json", "--top=1", *flags)
  assert json.loads(found.out)["results"][0]["score"] > 0.999
  SYSTEMS.pop("mean")
  line = refused("--mode=search", f"--query={query}", f"--index={index}")
  assert "is of the system mean, which a file of yours adds: --plugin=FILE" in line
