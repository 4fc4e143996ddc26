"""Inception's weights, for the tests that are about them: with them in the environment every small run is judged."""

import os

import pytest

_KEPT = "TESTS_FID_WEIGHTS"
"""Where xdist's workers, which inherit the environment, find what the process before them took out."""

WEIGHTS = os.environ.pop("RAYFED_FID_WEIGHTS", None) or os.environ.get(_KEPT)
os.environ[_KEPT] = WEIGHTS or ""
needs_weights = pytest.mark.skipif(not WEIGHTS, reason="RAYFED_FID_WEIGHTS does not name Inception weights")
