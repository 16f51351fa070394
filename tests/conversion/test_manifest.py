"""The package's manifest."""

import re

import pytest

from cwf_jax.conversion import published, tables
from cwf_jax.conversion.download import split_address
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.manifest import check_sha256, read_manifest
from cwf_jax.models import registry


@pytest.mark.parametrize("name", read_manifest())
def test_an_entry_of_the_package_can_be_converted(name):
  entry = read_manifest()[name]
  assert entry.name == name and entry.network in registry.network_names() and entry.citation and entry.sources
  for source in entry.sources:
    assert split_address(source.address).scheme in ("http", "https") and source.license
    assert source.layout in (tables.AUTO, *published.find_tables(entry.network))
    assert source.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", source.sha256)
    assert source.md5 is None or re.fullmatch(r"[0-9a-f]{32}", source.md5)
    assert source.bytes is None or source.bytes > 10_000_000
    if source.layout == tables.TORCH:  # torchvision's names end in the first digits of the sha256
      digits = re.search(r"-([0-9a-f]{8})\.pth$", source.address)[1]
      assert source.sha256.startswith(digits)


def test_a_sha256_may_be_in_upper_case():
  assert check_sha256(" " + "AB" * 32 + "\n") == "ab" * 32
  for text in ("", "ab" * 31, "g" * 64, "sha256:" + "0" * 57):
    with pytest.raises(ConversionError, match="a sha256 is 64 digits of 0-9 and a-f"):
      check_sha256(text)
