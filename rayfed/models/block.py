"""What one block, or one portion, of a network needs: plain numbers, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Block:
    """Consecutive layers that one device computes; per image unless said otherwise."""

    name: str
    parameters: int
    """In all; FSL-GAN's measure of memory."""
    activation: int
    """Float32 values that the block hands on, and whose gradient it gets back."""
    flops_forward: int
    flops_backward: int
    flops_input: int
    """Of a backward pass that gives the gradient of the input alone."""


def merge(blocks: Sequence[Block], ends: Sequence[int]) -> list[Block]:
    """Portions of consecutive blocks, each up to and without the next of `ends`; the last end is len(blocks)."""
    assert ends[-1] == len(blocks)
    return [_joined(blocks[first:end]) for first, end in pairwise((0, *ends))]


def paper_ends(blocks: int) -> tuple[int, ...]:
    """Where FSL-GAN's portions of so many blocks end: each block is one, and the last stays with the one before it."""
    return (*range(1, blocks - 1), blocks)


def _joined(blocks: Sequence[Block]) -> Block:
    return Block(
        name=" + ".join(block.name for block in blocks),
        parameters=sum(block.parameters for block in blocks),
        activation=blocks[-1].activation,
        flops_forward=sum(block.flops_forward for block in blocks),
        flops_backward=sum(block.flops_backward for block in blocks),
        flops_input=sum(block.flops_input for block in blocks),
    )
