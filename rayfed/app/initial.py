"""A warm start: the networks of an earlier run as those with which a new one begins."""

from rayfed.config import RunConfig
from rayfed.data.population import Population
from rayfed.errors import UserError
from rayfed.fleet.protocol import Arrays
from rayfed.methods.spec import method_of
from rayfed.store import Store


def initial_networks(config: RunConfig, population: Population, store: Store) -> Arrays | None:
    """The networks of the run `init_from` names that this run has too, by name; None where it names none.

    Raises UserError for a run that is not in the store or has no commit, and where a network differs in size.
    """
    source = config.init_from
    if source is None:
        return None
    record, commit = store.run(source), store.latest(source)
    if commit is None:
        raise UserError(f"init_from = {source!r}: has no committed round yet; wait for its first")
    sizes = method_of(config).task.values(config, population)
    found = {name: commit.arrays[name] for name in sizes if name in commit.arrays}
    if not found:
        raise UserError(
            f"init_from = {source!r}: has no {' or '.join(sizes)}; take a run that trains the same networks"
        )
    for name, array in found.items():
        if array.shape != (sizes[name],):
            raise UserError(
                f"init_from = {source!r}: its {name} has {array.size:,} values (model.name = "
                f"{record.config['model']['name']}), this run's {sizes[name]:,}; the networks must be "
                "the same"
            )
    return found
