"""Train the example in this process, and say how it goes: python watch.py."""

from collections.abc import Mapping
from pathlib import Path

import rayfed
from rayfed.engine.callbacks import Callback
from rayfed.tasks.base import EvaluationResult


class Watch(Callback):
    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        judged = f"FID {result.metrics['fid_classifier']:.1f}" if result.metrics else "as it began"
        print(f"round {result.round}: {judged}, {pictures['samples'].name}")


if __name__ == "__main__":
    rayfed.run("example.yaml", local=True, progress=False, tracking__enabled=False, callbacks=[Watch()])
