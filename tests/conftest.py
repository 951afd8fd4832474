"""Fixtures for every suite. With TEST_BUNDLES=DIR nothing here needs torch.

What takes long is made once a run, whatever the number of workers that pytest-xdist starts.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from runtime.errors import SessionError
from runtime.kernels.build import LIBRARY, has_compiler
from runtime.kernels.library import Kernels
from tests.paths import SHARED

hypothesis.settings.register_profile("suite", deadline=None)  # the cores may be busy
hypothesis.settings.load_profile("suite")

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core: more threads would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW_FIXTURES = {"bundles", "shared_data"}
Make = Callable[[Path], object]


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs on a bundle that must be made first, or on data that not every tree has."""
    for item in items:
        if isinstance(item, pytest.Function) and SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """Gives a directory of all workers; whoever comes first makes it, and the others wait."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def directory(name: str, make: Make) -> Path:
        made, making = common / name, common / f"{name}.making"
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(making, ignore_errors=True)
                make(making)
                making.rename(made)
        return made

    return directory


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """The library that was built with the project, or what `make sanitize` names."""
    try:
        return Kernels(Path(os.environ.get("KERNELS_LIBRARY", LIBRARY)))
    except SessionError as error:
        if has_compiler():
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def bundles(made_once: Callable[[str, Make], Path]) -> Path:
    """Directory of the bundles that tests/bundles.py makes."""
    if "TEST_BUNDLES" in os.environ:
        return Path(os.environ["TEST_BUNDLES"]).absolute()
    from tests.bundles import make_bundles

    return made_once("bundles", make_bundles)


@pytest.fixture(scope="session")
def miniature_dir(bundles: Path) -> Path:
    """The miniature checkpoint."""
    return bundles / "checkpoint"


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's tokenizer, for tests that need no more of it."""
    from export.miniature import train_tokenizer

    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(train_tokenizer())
    return file


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Waiting for a second thread costs more than products as small as those of the tests."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout: a tokenizer and a small trained checkpoint."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def mini_exported(shared_data: Path, made_once: Callable[[str, Make], Path]) -> Path:
    """The small trained checkpoint of the shared data, exported with the profile cpu."""
    from tests.bundles import export_mini

    return made_once("mini-exported", lambda output: export_mini(shared_data, output))


@pytest.fixture(scope="session")
def torchair() -> Path:
    """Where Huawei's torchair was unzipped to; TORCHAIR_HOME of `make air-test` says it."""
    from toolchain.host.system import System
    from toolchain.host.torchair import find_torchair

    found = find_torchair(System.here())
    if found is None:
        pytest.skip("the wheel with torchair is not unzipped here: make air-test")
    return Path(found)
