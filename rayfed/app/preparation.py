"""From a configuration to data on its devices, with every refusal and notice that can come before anything starts."""

from collections.abc import Callable

from rayfed.config import RunConfig
from rayfed.data.setup import Federation, prepare, small_devices
from rayfed.engine.simulation import Simulation
from rayfed.errors import counted
from rayfed.methods.spec import method_of
from rayfed.models.gan import cpu_has_bf16


def prepared(config: RunConfig, notice: Callable[[str], None]) -> Federation:
    """The data on its devices, and notices on what the user may not expect; raises UserError for what cannot be."""
    spec = method_of(config)
    Simulation(config)  # refuses a network that lacks a route
    federation = prepare(config, spec.task.side(config.model))
    spec.task.values(config, federation.population)  # refuses networks that do not build
    for text in spec.preflight(config, federation.population):
        notice(text)
    if config.evaluation.every and (warning := spec.task.check(config)):
        notice(warning)
    if federation.left_out:
        notice(
            f"data.partition = {config.data.partition}: {federation.left_out} of its rows name samples that are held "
            "out for the test, and are left out"
        )
    small = small_devices(federation, config.method.batch)
    if small and not config.method.pools_data:
        notice(
            f"method.batch = {config.method.batch}: {small} of {counted(config.devices.count, 'device')} with fewer "
            "images; such a device trains on batches of all it has"
        )
    if config.model.precision == "bf16" and not cpu_has_bf16() and not config.resources.device_host.num_gpus:
        notice("model.precision = bf16: this CPU emulates bfloat16, many times slower than float32")
    return federation
