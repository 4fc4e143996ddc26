"""Who is who: two kinds of number that must not be taken for one another."""

from typing import NewType

ClientId = NewType("ClientId", int)
"""Who takes part in training: client k holds part k of the data and has row k of the class counts."""

DeviceId = NewType("DeviceId", int)
"""A physical device, on which calls run: a node of the twin's network. With most methods client k is device k; an
FSL-GAN client has several devices, which are numbered over all clients."""
