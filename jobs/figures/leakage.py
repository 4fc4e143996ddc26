"""What IoTSL's devices give away, without noise and with the paper's: membership, and images from smashed data.

    python jobs/figures/leakage.py [KEY=VALUE ...]

Each run of jobs/figures/iotsl-13-privacy.yaml, with its first seed and in this process, to its first round of
fine-tuning. Of each device's generator two attacks guess who was in the device's data, among its own images and as many
test images of its classes: by LOGAN's discriminator, which knows real images of nobody's, and by the distance to the
nearest generated image. Of f_a a decoder restores the device's images; it was trained on the same images of nobody's.
Prints a line per run: epsilon, and the means over the devices. Minutes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rayfed.config import RunConfig
from rayfed.config.comparison import load_comparison
from rayfed.data.setup import Federation, prepare
from rayfed.engine.session import LocalSession
from rayfed.errors import UserError
from rayfed.methods.iotsl.device import G
from rayfed.methods.iotsl.settings import IotslState, settings_of
from rayfed.models.conditional import SIDE, ConditionalGAN
from rayfed.privacy.accountant import epsilon
from rayfed.privacy.attacks import membership_by_discriminator, membership_by_distance, reconstruct
from rayfed.seeding import generator
from rayfed.tasks.classification import DEVICE_PART, SERVER_PART
from rayfed.tasks.classification.workspace import ClassifierWorkspace

JOB = Path(__file__).with_name("iotsl-13-privacy.yaml")
KNOWN, MOST = 400, 300
"""Test images that the attacker knows, and images of each device at most that it is to guess."""


def trained(config: RunConfig, federation: Federation) -> IotslState:
    """The state after the first round of fine-tuning."""
    session = LocalSession(config, federation)
    session.start(None)
    for _ in range(settings_of(config).before_tuning):
        session.round()
    state = session.round().state
    assert isinstance(state, IotslState)
    return state


def attacked(config: RunConfig, federation: Federation, state: IotslState) -> Iterator[tuple[float, float, float]]:
    """Of each device: both attacks' AUC, and by how many dB the decoder is better than the mean image."""
    data, seed = federation.dataset, config.seed
    order = generator(seed, 0, 0, "attack").permutation(len(data.test_labels))
    known, unknown = order[:KNOWN], order[KNOWN:]
    gan = ConditionalGAN(federation.population.classes, settings_of(config).generator_width)
    workspace = ClassifierWorkspace(config, federation.population.channels, federation.population.classes)
    workspace.load_models({name: state.models[name] for name in (DEVICE_PART, SERVER_PART)})
    for client, own in enumerate(federation.parts):
        gan.load_models({G: state.models[f"{G}_{client}"]})
        labels = data.train_labels[own]
        generated = gan.generate(labels, seed)
        others = data.test_images[unknown[np.isin(data.test_labels[unknown], labels)]][:MOST]
        members = data.train_images[generator(seed, 0, client, "attack").permutation(own)[: len(others)]]
        reference = data.test_images[known[np.isin(data.test_labels[known], labels)]]
        by_discriminator = membership_by_discriminator(generated, reference, members, others, seed)
        restored = reconstruct(workspace.networks[DEVICE_PART].eval(), data.test_images[known], members, seed)
        yield by_discriminator, membership_by_distance(generated, members, others), restored.psnr - restored.mean_psnr


def main(overrides: list[str]) -> None:
    print(f"{'run':24} {'epsilon':>10} {'discriminator':>14} {'distance':>9} {'decoder':>8}")
    for name, seeds in load_comparison(JOB, overrides).configs().items():
        config = next(iter(seeds.values()))
        federation = prepare(config, SIDE)
        state = trained(config, federation)
        spent = max((epsilon(each, settings_of(config).privacy.delta) for each in state.spent.values()), default=np.inf)
        auc, distance, decibel = np.mean(list(attacked(config, federation, state)), axis=0)
        print(f"{name:24} {spent:10.4g} {auc:14.3f} {distance:9.3f} {decibel:5.1f} dB", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
