"""Fixtures for every suite. With TEST_BUNDLES=DIR nothing here needs torch."""

import os
from pathlib import Path

import pytest

from tests.paths import SHARED


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the bundles that tests/bundles.py makes."""
    if "TEST_BUNDLES" in os.environ:
        return Path(os.environ["TEST_BUNDLES"]).absolute()
    from tests.bundles import make_bundles

    return make_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def miniature_dir(bundles: Path) -> Path:
    """The miniature checkpoint."""
    return bundles / "checkpoint"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout: a tokenizer and a small trained checkpoint."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED
