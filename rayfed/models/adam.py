"""Adam (Kingma and Ba 2015) in torch's fused kernel, on parameters of one processor.

The same bits as torch.optim.Adam(fused=True), whose first use imports torch's compiler: a second and 80 MB for each
process.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
EPS = 1e-8


class Adam:
    """Trains the parameters that have a gradient; `state` has step, exp_avg and exp_avg_sq of each parameter."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float]) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self.betas = betas
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    def reset(self) -> None:
        """Begin at zero, for all parameters."""
        for parameter in self.parameters:
            self._begin(parameter)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step; a parameter's first begins its state at zero."""
        trained = [parameter for parameter in self.parameters if parameter.grad is not None]
        if not trained:
            return
        for parameter in trained:
            if parameter not in self.state:
                self._begin(parameter)
        weights: list[Tensor] = list(trained)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        steps, averages, squares = ([self.state[parameter][key] for parameter in trained] for key in MOMENTS)
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            weights,
            gradients,
            averages,
            squares,
            [],
            steps,
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def _begin(self, parameter: nn.Parameter) -> None:
        moments = {key: torch.zeros_like(parameter, requires_grad=False) for key in MOMENTS[1:]}
        self.state[parameter] = {"step": torch.zeros((), device=parameter.device), **moments}
