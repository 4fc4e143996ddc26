"""The only room that imports ray. Call `prepare_environment` before importing its modules."""

import os
import secrets

FIXED = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on one machine Ray binds to the loopback address alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_prestart_worker_first_driver": "0",  # a private Ray's actors are forked; these would end unused
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SCHEDULER_EVENTS": "0",  # hosts that wait for room would make its autoscaler warn again and again
}


def prepare_environment(address: str | None) -> None:
    """Set what Ray reads when it is first imported; anything the user has set stays.

    A private Ray (no `address`, no RAY_ADDRESS) gets a random token of its own, so that no other user of the
    machine can reach it; a cluster's authentication is the user's to set.
    """
    for name, value in FIXED.items():
        os.environ.setdefault(name, value)
    if address is None and "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
