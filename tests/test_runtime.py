"""What the machine takes at a time, and what an index says of the machine that made it."""

from cwf_jax import runtime
from cwf_jax.protocol import Protocol


def test_rows_say_what_made_them():
  told = runtime.describe_versions("float32")
  for part in ("cwf_jax ", "jax ", "pylance ", "float32", "cpu"):
    assert part in told
  assert "\n" not in told


def test_a_batch_has_fewer_images_where_they_are_larger():
  assert runtime.default_batch_size(Protocol.paper(224)) > runtime.default_batch_size(Protocol.paper(320)) >= 1
  assert runtime.default_batch_size(Protocol.paper(4096)) == 1
