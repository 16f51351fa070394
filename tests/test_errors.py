"""What is left of other libraries' errors in a message."""

import pytest

from cwf_jax.errors import brief

_TENSORSTORE = (
  'OUT_OF_RANGE: Error opening "zarr" driver: Failed writing: "/tmp/x": Failed to write 12 bytes to file 18: File too large '
  "[tensorstore_spec='{}'] [os_error_code='27']"
)


@pytest.mark.parametrize(
  ("error", "expected"),
  [
    (ValueError(_TENSORSTORE), "File too large"),
    (ValueError("NOT_FOUND: no such key [tensorstore_spec='{}']"), "NOT_FOUND: no such key"),
    (ValueError("one\ntwo\n\nthree"), "one two"),
    (ValueError(""), "ValueError"),
    (ValueError("x" * 1000), "x" * 300),
  ],
)
def test_an_error_is_told_in_brief(error, expected):
  assert brief(error) == expected
