"""A cluster that does not fit what is installed here is told before anything is sent."""

import platform

import pytest
import ray

from rayfed.cluster.jobs import Head, refuse_small_head, refuse_versions
from rayfed.errors import CapacityError, UserError

HERE = platform.python_version()


def is_refused(python: str) -> bool:
    try:
        refuse_versions("http://head:8265", ray.__version__, python)
    except UserError:
        return True
    return False


def test_the_same_versions_are_taken_whatever_pythons_third_number():
    major, minor, _ = HERE.split(".")
    other = f"{major}.{int(minor) + 1}.0"
    assert [is_refused(python) for python in (HERE, f"{major}.{minor}.99", other)] == [False, False, True]


def test_another_minor_python_is_refused():
    with pytest.raises(UserError, match=r"^http://head:8265: the cluster has Python 3\.1\.2, and here is Python 3\."):
        refuse_versions("http://head:8265", ray.__version__, "3.1.2")


def test_another_ray_is_refused():
    with pytest.raises(UserError, match=r"^http://head:8265: the cluster has Ray 2\.9\.0, and here is Ray "):
        refuse_versions("http://head:8265", "2.9.0", HERE)


def test_a_head_must_hold_the_driver():
    refuse_small_head(Head(1, "python"))
    with pytest.raises(CapacityError, match=r"^the head node has 0\.4 CPU, and a job's driver needs 0\.5 there"):
        refuse_small_head(Head(0.4, "python"))
