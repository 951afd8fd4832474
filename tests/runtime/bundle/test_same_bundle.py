"""A copy of a bundle is opened where it is the bundle that is meant."""

from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from runtime.bundle.same_bundle import load_same_bundle
from runtime.errors import BundleError


def test_the_same_bundle_is_opened_and_another_or_none_is_refused(bundles: Path) -> None:
    small, other = (load_bundle(bundles / name) for name in ("small-fp32", "talk-int4"))
    assert load_same_bundle(small.path, small.digest) == small
    with pytest.raises(BundleError, match=rf"another bundle at {small.path}; got {small.digest}; "):
        load_same_bundle(small.path, other.digest)
    with pytest.raises(BundleError, match="no bundle at /nowhere; copy the bundle to every node"):
        load_same_bundle(Path("/nowhere"), small.digest)
