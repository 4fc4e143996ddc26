"""What is trained and judged: the tasks by name."""

from rayfed import plugins
from rayfed.errors import UserError
from rayfed.tasks.base import Task
from rayfed.tasks.classification import ClassificationTask
from rayfed.tasks.gan import GanTask

TASKS: dict[str, Task] = {each.name: each for each in (GanTask(), ClassificationTask())}


def task(name: str) -> Task:
    """The task of a name, or of a dotted name; raises UserError for one that does not import."""
    if name in TASKS:
        return TASKS[name]
    found: Task = plugins.load_object("task", name)
    if isinstance(found, type) or not hasattr(found, "evaluator"):
        kind = "class" if isinstance(found, type) else type(found).__name__
        raise UserError(f"task = {name!r}: is a {kind}; it must be an object that is a rayfed.tasks.base.Task")
    return found
