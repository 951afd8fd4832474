"""Tests that start a C++ compiler are left out where there is none, as on many a box."""

import os
import shutil

import pytest

__all__ = ["needs_compiler"]

needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler here, or none at CXX"
)
