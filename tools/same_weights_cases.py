"""The cases of `same_weights.py`: every method, with each kind of option that changes what it computes, small.

A case is a configuration and overrides of it, as the command line takes them. Whatever a case is there for must happen
in it (`expects`), else it would compare two runs that test nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]
Rounds = list[dict[str, Any]]
"""What a run left behind, round by round: its `metrics`, `participants` and `facts`."""


@dataclass(frozen=True)
class Expectation:
    """Something that must happen in a run."""

    what: str
    """Said with "it never happens that" before it."""
    happens: Callable[[Rounds], bool]


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    tree: Tree
    overrides: tuple[str, ...] = ()
    expects: tuple[Expectation, ...] = ()
    resumed: bool = False
    """Interrupted after its first round, then resumed by another process."""


def _some_round(what: str, holds: Callable[[dict[str, float]], bool]) -> Expectation:
    return Expectation(what, lambda rounds: any(holds(each["metrics"]) for each in rounds if each["metrics"]))


def _told(text: str) -> Expectation:
    def happens(rounds: Rounds) -> bool:
        return any(text in sentence for each in rounds for _, sentence in each["facts"]["events"])

    return Expectation(f"an event says {text!r}", happens)


LATE = _some_round("a device is late", lambda metrics: metrics["sim_late"] > 0)
LEFT_OUT = _some_round("one is left out of several", lambda metrics: metrics["dropped"] > 0 < metrics["participants"])
ABANDONED = _some_round("a round is abandoned", lambda metrics: metrics["dropped"] > 0 == metrics["participants"])
SWAPPED = _some_round("devices send to devices", lambda metrics: metrics["bytes_across"] > 0)
JUDGED = _some_round("an FID is measured", lambda metrics: "fid_classifier" in metrics)
REPLANNED = (_told("moves to"),)
DRIFTED = (_told("computes in"), _told("moves to"))
DROPPED = (_told("is left out"),)


def _base(devices: int, method: Tree, rounds: int = 3, **sections: Any) -> Tree:
    small = {"model": {"name": "dcgan28", "width": 4}, "evaluation": {"every": 0}, "tracking": {"enabled": False}}
    shared = {"seed": 5, "rounds": rounds, "devices": {"count": devices}, "store": {"keep": 100}}
    return small | shared | {"method": {"batch": 6, "iterations": 2} | method} | sections


def _clients(*devices: list[tuple[float, float]]) -> list[Tree]:
    """Clients from the (capacity, time factor) of each of their devices."""
    return [
        {
            "name": "abc"[number],
            "devices": [{"name": f"{k}", "capacity": size, "time_factor": factor} for k, (size, factor) in pairs],
        }
        for number, pairs in enumerate(map(enumerate, devices))
    ]


NARROW = _clients(
    [(1_000, 0.5), (5_000, 2.0), (4_000, 1.5), (5_000, 1.0)],
    [(5_000, 3.0), (5_000, 1.0), (5_000, 2.0), (4_000, 4.0)],
    [(1_000, 1.0), (3_600, 2.0), (3_500, 0.8)],
)
"""The DCGAN's discriminator has 4,385 parameters in portions of 104, 808 and 3,473: the last client must split it."""
ROOMY = _clients([(1e6, 1.0), (1e6, 2.0), (1e6, 1.1)], [(1e6, 1.0), (1e6, 1.2)], [(1e6, 1.0), (1e6, 1.0)])
"""Every device has room for every discriminator here."""

FEGAN = _base(8, {"name": "fegan", "fraction": 0.5})
FL_VANILLA = _base(8, {"name": "fl-vanilla", "fraction": 0.5})
FEDGAN = _base(8, {"name": "fedgan", "fraction": 0.5})
CENTRALIZED = _base(6, {"name": "centralized"})
MD_GAN = _base(5, {"name": "md-gan", "swap_epochs": 0.05})
F2U = _base(4, {"name": "f2u"})
F2A = _base(4, {"name": "f2a", "forgiveness": 5.0})
ASYN_DGAN = _base(4, {"name": "asyn-dgan"})
REN = _base(4, {"name": "ren", "g_steps": 2})
SLOW = {"devices": [{"flops_per_s": 1e7}]}
FSL_GAN = _base(3, {"name": "fsl-gan", "clients": NARROW}, rounds=2, twin=SLOW)
FSL_ROOMY = _base(3, {"name": "fsl-gan", "clients": ROOMY}, rounds=4, twin=SLOW)

TIGHT = "twin={network: {kind: lan}, deadline_s: 0.5, drop_late: true, devices: [{time_factor: %g, jitter: 1.0}]}"
"""Who is late changes from round to round."""
AWAY = "twin.devices=[{dropout: 0.3}]"
LSGAN = ("model={name: lsgan}", "rounds=2")
CELL = "twin={network: {kind: cell}, devices: [{jitter: 0.2}, {time_factor: 3.0}]}"
UNEVEN = "twin.devices=[{time_factor: 5.0, up_mbps: 1.0}, {jitter: 0.5, latency_s: 0.3}, {drift: 0.5, down_mbps: 2.0}]"
LINEAR = ("method.load=linear", "method.batch=8", "devices.weak_fraction=0.5")


def _federated() -> list[Case]:
    """FedAvg of both networks: FeGAN with all that it shares with the others, then those."""
    return [
        Case("fegan", FEGAN),
        Case("fegan s=1 w=0", FEGAN, ("method.weighting=uniform",)),
        Case("fegan s=0 w=1", FEGAN, ("method.sampling=random",)),
        Case("fegan s=0 w=0", FEGAN, ("method.sampling=random", "method.weighting=uniform")),
        Case("fegan scheme linear", FEGAN, ("method.scheme=linear",)),
        Case("fegan scheme dirac", FEGAN, ("method.scheme=dirac", "method.fraction=0.25")),
        Case("fegan sign opposite", FEGAN, ("method.sign=opposite",)),
        Case("fegan moments fresh", FEGAN, ("method.moments=fresh",)),
        Case("fegan wire float16", FEGAN, ("wire=float16",)),
        Case("fegan wire int8", FEGAN, ("wire=int8",)),
        Case("fegan bf16", FEGAN, ("model.precision=bf16", "method.fraction=0.25", "rounds=2")),
        Case("fegan load linear", FEGAN, LINEAR),
        Case("fegan round-robin", FEGAN, ("method.sampling=round-robin",)),
        Case("fegan proportional-fair", FEGAN, ("method.sampling=proportional-fair", UNEVEN)),
        Case("fegan best-channel", FEGAN, ("method.sampling=best-channel", CELL)),
        Case("fegan partition iid", FEGAN, ("data.partition=iid",)),
        Case("fegan partition fegan", FEGAN, ("data.max_class=2", "data.max_samples=40")),
        Case("fegan partition classes", FEGAN, ("data.partition=classes", "data.classes_per_device=3")),
        Case("fegan partition dirichlet", FEGAN, ("data.partition=dirichlet", "data.alpha=0.3")),
        Case("fegan lsgan", FEGAN, ("devices.count=4", *LSGAN)),
        Case("fegan dcgan32", FEGAN, ("model.name=dcgan32",)),
        Case("fegan dcgan64", FEGAN, ("model={name: dcgan64, width: 2}", "rounds=2")),
        Case("fegan width", FEGAN, ("model.width=6",)),
        Case("fegan lr betas", FEGAN, ("model.lr=1e-3", "model.beta1=0.9", "model.beta2=0.99")),
        Case("fegan loss mse", FEGAN, ("model.loss=mse",)),
        Case("fegan twin uneven", FEGAN, (UNEVEN, "twin.server={flops_per_s: 1e8, jitter: 0.3}")),
        Case("fegan late", FEGAN, (TIGHT % 30, "method.quorum=0.1"), (LATE, LEFT_OUT)),
        Case("fegan waits for the late", FEGAN, ("twin={deadline_s: 0.1, devices: [{time_factor: 40.0}]}",), (LATE,)),
        Case("fegan quorum missed", FEGAN, (TIGHT % 35, "method.quorum=0.6"), (LATE, LEFT_OUT, ABANDONED)),
        Case("fegan lost", FEGAN, (AWAY,), (LEFT_OUT,)),
        Case("fegan resumed", FEGAN, ("seed=6", AWAY), resumed=True),
        Case("fegan judged", FEGAN, ("evaluation={every: 1, extractor: classifier, samples: 64}",), (JUDGED,)),
        Case("fl-vanilla", FL_VANILLA, ("seed=6",)),
        Case("fl-vanilla balanced", FL_VANILLA, ("method.sampling=balanced", "method.moments=fresh", "wire=float16")),
        Case("fedgan", FEDGAN),
        Case("fedgan load linear", FEDGAN, (*LINEAR, "method.sampling=round-robin", "wire=int8")),
        Case("centralized", CENTRALIZED),
        Case("centralized moments fresh", CENTRALIZED, ("method.moments=fresh",)),
        Case("centralized dcgan32", CENTRALIZED, ("model.name=dcgan32", "model.loss=mse", "data.partition=iid")),
        Case("centralized resumed", CENTRALIZED, ("seed=6",), resumed=True),
    ]


def _central_generator() -> list[Case]:
    """MD-GAN and its kin: one generator, feedback from every device in every iteration."""
    return [
        Case("md-gan", MD_GAN, (), (SWAPPED,)),
        Case("md-gan k=1", MD_GAN, ("method.batches=1", "method.swap_epochs=0")),
        Case("md-gan d_steps", MD_GAN, ("method.d_steps=2",), (SWAPPED,)),
        Case("md-gan wire float16", MD_GAN, ("wire=float16",), (SWAPPED,)),
        Case("md-gan wire int8", MD_GAN, ("wire=int8",), (SWAPPED,)),
        Case("md-gan bf16", MD_GAN, ("model.precision=bf16", "devices.count=2", "rounds=2", "method.iterations=1")),
        Case("md-gan lsgan", MD_GAN, ("devices.count=3", *LSGAN)),
        Case("md-gan dcgan32", MD_GAN, ("model.name=dcgan32", "method.swap_epochs=0.2"), (SWAPPED,)),
        Case("md-gan lan", MD_GAN, ("twin={network: {kind: lan}, devices: [{jitter: 0.3}]}",), (SWAPPED,)),
        Case("md-gan late", MD_GAN, (TIGHT % 100, "method.quorum=0.1"), (LATE, LEFT_OUT, SWAPPED)),
        Case("md-gan lost", MD_GAN, (AWAY,), (LEFT_OUT, SWAPPED)),
        Case("md-gan resumed", MD_GAN, ("seed=6", AWAY), (SWAPPED,), resumed=True),
        Case("f2u", F2U),
        Case("f2u wire int8", F2U, ("wire=int8", "data.partition=classes", "method.d_steps=2")),
        Case("f2a", F2A),
        Case("f2a forgiveness", F2A, ("method.forgiveness=0.5", "wire=float16", AWAY)),
        Case("asyn-dgan", ASYN_DGAN),
        Case("asyn-dgan d_steps", ASYN_DGAN, ("method.d_steps=2", "wire=float16")),
        Case("asyn-dgan dcgan32", ASYN_DGAN, ("model.name=dcgan32", "data.partition=dirichlet", AWAY)),
        Case("asyn-dgan resumed", ASYN_DGAN, ("seed=6",), resumed=True),
        Case("ren serial", REN),
        Case("ren parallel", REN, ("method.schedule=parallel",)),
        Case("ren g_steps", REN, ("method.g_steps=3", "method.iterations=1")),
        Case("ren cell", REN, (CELL, "method.sampling=best-channel", "method.fraction=0.5")),
        Case("ren parallel cell", REN, (CELL, "method.schedule=parallel", "method.fraction=0.75")),
        Case("ren moments fresh", REN, ("method.moments=fresh", "method.sampling=balanced", "method.fraction=0.5")),
        Case("ren load linear", REN, LINEAR),
        Case("ren wire int8", REN, ("wire=int8", "model.name=dcgan32")),
        Case("ren late", REN, (TIGHT % 100, "method.quorum=0.1"), (LATE, LEFT_OUT)),
        Case(
            "ren parallel late", REN, (TIGHT % 100, "method.quorum=0.1", "method.schedule=parallel"), (LATE, LEFT_OUT)
        ),
        Case("ren lost", REN, (AWAY,), (LEFT_OUT,)),
        Case("ren resumed", REN, ("seed=6", "method.sampling=proportional-fair", CELL), resumed=True),
    ]


def _split() -> list[Case]:
    """FSL-GAN: discriminators split over the devices of each client."""
    strategies = ("pipelined", "sorted_multiple", "sorted_single", "random_multiple", "random_single")
    lan = "twin.network={kind: lan, hop_s: 0.01}"
    two = "method.micro_batches=2"
    return [
        Case("fsl-gan", FSL_GAN, (), (SWAPPED,)),
        *(Case(f"fsl-gan {name}", FSL_GAN, (f"method.strategy={name}",), (SWAPPED,)) for name in strategies),
        Case("fsl-gan blocks", FSL_GAN, ("method.portions=blocks", "method.strategy=random_single"), (SWAPPED,)),
        Case("fsl-gan micro-batches", FSL_GAN, (two, "method.strategy=pipelined"), (SWAPPED,)),
        Case("fsl-gan drop_slowest", FSL_GAN, ("method.drop_slowest=true",), DROPPED),
        Case("fsl-gan wire float16", FSL_GAN, ("wire=float16",), (SWAPPED,)),
        Case("fsl-gan wire int8", FSL_GAN, ("wire=int8", two), (SWAPPED,)),
        Case("fsl-gan bf16", FSL_GAN, ("model.precision=bf16", "method.iterations=1", "rounds=1")),
        Case("fsl-gan lan", FSL_GAN, (lan, "method.strategy=pipelined"), (SWAPPED,)),
        Case("fsl-gan wired", FSL_GAN, ("twin.network={kind: wired, up_mbps: 2.0, latency_s: 0.003}",), (SWAPPED,)),
        Case("fsl-gan lsgan", FSL_ROOMY, (*LSGAN, "method.strategy=sorted_multiple", "method.batch=4")),
        Case("fsl-gan lsgan split", FSL_ROOMY, (*LSGAN, "method.strategy=pipelined", "method.batch=4"), (SWAPPED,)),
        Case(
            "fsl-gan dcgan32",
            FSL_ROOMY,
            ("model.name=dcgan32", "method.strategy=pipelined", "data.partition=iid"),
            (SWAPPED,),
        ),
        Case("fsl-gan late", FSL_GAN, ("twin.deadline_s=1.0",), (LATE,)),
        Case("fsl-gan lost", FSL_ROOMY, ("twin.devices=[{flops_per_s: 1e7, dropout: 0.3}]",), REPLANNED),
        Case("fsl-gan drift", FSL_ROOMY, ("twin.devices=[{flops_per_s: 1e7, drift: 1.0}]",), DRIFTED),
        Case("fsl-gan jitter", FSL_ROOMY, (two, "twin.devices=[{flops_per_s: 1e7, jitter: 1.0}]"), DRIFTED),
        Case(
            "fsl-gan resumed",
            FSL_ROOMY,
            ("seed=6", "twin.devices=[{flops_per_s: 1e7, drift: 1.0, dropout: 0.2}]"),
            DRIFTED,
            resumed=True,
        ),
    ]


CASES = {case.name: case for case in (*_federated(), *_central_generator(), *_split())}
