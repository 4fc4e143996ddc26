"""Adam beside torch's own."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from rayfed.models.adam import Adam


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_gives_the_bits_of_torchs_fused_adam(memory_format: torch.memory_format) -> None:
    """Over five steps, of which the third leaves one parameter without a gradient."""
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    adam = Adam(ours.to(memory_format=memory_format).parameters(), 2e-3, (0.5, 0.999))
    reference = torch.optim.Adam(theirs.to(memory_format=memory_format).parameters(), 2e-3, (0.5, 0.999), fused=True)
    for step in range(5):
        adam.zero_grad()
        reference.zero_grad()
        for number, (one, other) in enumerate(zip(ours.parameters(), theirs.parameters(), strict=True)):
            if (step, number) != (2, 1):
                one.grad = torch.randn_like(one)
                other.grad = one.grad.clone(memory_format=torch.preserve_format)
        adam.step()
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        for key, value in reference.state[other].items():
            assert torch.equal(adam.state[one][key], value), key


def test_without_a_gradient_nothing_happens() -> None:
    weight = nn.Parameter(torch.ones(3))
    Adam([weight], 0.1, (0.5, 0.9)).step()
    assert weight.tolist() == [1, 1, 1]


def test_it_does_without_torchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from rayfed.models.adam import Adam\n"
        "weight = torch.nn.Parameter(torch.ones(3))\n"
        "weight.grad = torch.ones(3)\n"
        "Adam([weight], 0.1, (0.5, 0.9)).step()\n"
        "assert weight[0] < 1\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
