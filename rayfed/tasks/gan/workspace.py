"""One process's GAN and the wire's codecs: what the halves of every GAN method work with."""

import torch
from torch import Tensor

from rayfed.config import RunConfig
from rayfed.fleet.codec import Codec, Packed
from rayfed.models.flops import Meter
from rayfed.models.gan import gan_of
from rayfed.models.networks import architecture


class GanWorkspace:
    """Networks and optimizers that are loaded with a device's weights when it is that device's turn."""

    def __init__(self, config: RunConfig, channels: int, classes: int, processor: str = "cpu") -> None:
        """`channels` and `classes` are those of the data set."""
        self.gan = gan_of(config, channels, classes, processor)
        self.wire = config.wire
        sizes = self.gan.sizes
        self.codec = Codec(config.wire, sizes)
        """Of G and D together."""
        self.codecs = {name: Codec(config.wire, {name: sizes[name]}) for name in sizes}
        """Of each alone."""
        side = architecture(config.model.name).side
        self.shape = (channels, side, side)

    @property
    def meter(self) -> Meter:
        """Counts the operations of this process."""
        return self.gan.meter

    def pack_images(self, images: Tensor, kind: str) -> Packed:
        """Images or their gradients, float32 [B, C, H, W], as they cross the wire; `kind` is `fakes` or `feedback`."""
        flat = images.detach().contiguous().cpu().numpy().ravel()
        return self.image_codec(flat.size, kind).encode({"images": flat})

    def unpack_images(self, packed: Packed) -> Tensor:
        """What `pack_images` packed; raises ValueError for what is not images of this run."""
        values = self.image_codec(packed.data.size, packed.kind).values(packed)
        images = torch.tensor(values).view(-1, *self.shape)
        return images.to(self.gan.device, memory_format=torch.channels_last)

    def image_codec(self, size: int, kind: str) -> Codec:
        """The wire's layout of images of `size` values in all."""
        return Codec(self.wire, {"images": (size,)}, kind)
