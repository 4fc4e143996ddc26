"""IoTSL (Feng et al., "IoTSL: Toward Efficient Distributed Learning for Resource-Constrained IoT Systems", IEEE IoT-J
2023), Algorithms 1 and 2.

The rounds of a run are, one after the other, those of its four steps: the devices train private generators (1); the
server trains the whole network on what these draw (2); devices that miss classes get them from others' generators (3);
and split learning, or SplitFed, goes on from the pretrained halves (4).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rayfed.errors import UserError
from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.protocol import Arrays, Fleet, Missing
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Report, choose_group, is_valid
from rayfed.methods.iotsl import budgets
from rayfed.methods.iotsl.device import G, Trained, codec, count_codec, gan_of
from rayfed.methods.iotsl.events import Paired, WithoutGenerator
from rayfed.methods.iotsl.pairing import paired
from rayfed.methods.iotsl.settings import IotslState, settings_of
from rayfed.methods.split_learning import algorithm as split_learning
from rayfed.methods.split_learning.halves import ServerHalf, means
from rayfed.methods.splitfed.algorithm import all_at_once
from rayfed.methods.state import State
from rayfed.models.conditional import ConditionalGAN
from rayfed.scheduling.load import Load, epoch
from rayfed.scheduling.scheduler import SamplerState, Scheduler
from rayfed.seeding import SERVER, generator, torch_seed
from rayfed.tasks.classification.workspace import ClassifierWorkspace


class Server(split_learning.Server):
    """The server. `IotslState.models` has each device's generator beside f_a and f_b."""

    def __init__(self, context: ServerContext[ClassifierWorkspace, Scheduler]) -> None:
        super().__init__(context)
        self.settings = settings_of(context.config)
        self.samples = self.scheduler.class_counts().sum(axis=1)
        self.imputed: dict[ClientId, int] = {}
        """The samples that were drawn for each defective device."""
        self._drawn: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None
        """The data set D, once it is drawn."""

    def init(self) -> State:
        """Fresh halves, and no generators yet."""
        state = super().init()
        return IotslState(0, state.models, sampler=state.sampler)

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """A round of whichever step it belongs to."""
        assert isinstance(state, IotslState)
        match self.settings.step(state.round + 1):
            case "generators":
                return self.train_generators(state, fleet)
            case "pretraining":
                return self.pretrain(state, fleet)
            case "imputation":
                return self.impute(state, fleet)
        if state.round == self.settings.before_tuning:
            state = replace(state, optimizer={})
        self.imputed = {ClientId(int(client)): count for client, count in state.imputed.items()}
        return super().round(state, fleet)

    def train_generators(self, state: IotslState, fleet: Fleet) -> tuple[State, list[Report]]:
        """Step 1 (Algorithm 1, lines 4 to 10): the devices train; in the last round they send their generators."""
        round = state.round + 1
        last = round == self.settings.generator_rounds
        loads, sampler = choose_group(self.scheduler, round, state.sampler)
        steps = {client: budgets.steps(self.settings, state.spent.get(str(client), [])) for client in loads}
        futures = [
            fleet.submit(DeviceId(k), "train_generator", (steps[k], last), round, cost=steps[k], last=True)
            for k in loads
        ]
        replies = [reply for reply in fleet.collect(futures) if self.accepts(fleet, reply, last)]
        spent = budgets.charged(self.settings, state.spent, steps)
        models = dict(state.models)
        log = np.array(state.log) if state.log else np.zeros((len(self.samples), self.workspace.classes), np.int64)
        for reply in replies:
            if reply.generator is not None and reply.counts is not None:
                models |= {f"{G}_{reply.client}": self.codec.values(reply.generator)}
                log[reply.client] = self.counts.values(reply.counts)
        events, worst = budgets.told(self.settings, spent, steps)
        if last and (absent := sorted(set(loads) - {reply.client for reply in replies})):
            events = (*events, WithoutGenerator(tuple(absent)))
        examples = self.settings.critic_steps * self.settings.generator_batch
        reports = [Report(r.client, steps[r.client] * examples, {**r.metrics, **worst}) for r in replies]
        state = replace(
            state, round=round, models=models, sampler=sampler, log=log.tolist(), spent=spent, events=events
        )
        return state, reports

    def accepts(self, fleet: Fleet, reply: Trained | Missing, last: bool) -> bool:
        """Whether a reply has what it should; the ledger notes one that has not."""
        if isinstance(reply, Missing):
            return False
        valid = bool(np.isfinite(list(reply.metrics.values())).all())
        if last:
            sent = (reply.generator, self.codec), (reply.counts, self.counts)
            valid = valid and all(isinstance(each, Packed) and is_valid(each, layout) for each, layout in sent)
        if not valid:
            fleet.reject(reply.client)
        return valid

    def pretrain(self, state: IotslState, fleet: Fleet) -> tuple[State, list[Report]]:
        """Step 2 (lines 11 and 12, 16 to 21): an epoch of the whole f on the generated data D."""
        round, workspace, batch = state.round + 1, self.workspace, self.method.batch
        workspace.load_models({name: state.models[name] for name in workspace.networks})
        kept = state.optimizer if self.method.keeps_optimizer_state else {}
        workspace.load_optimizer_state(kept or None)
        with fleet.work("pretrain", workspace.meter.take):
            images, labels = self.generated(state)
            order = generator(self.context.seed, round, SERVER, "pretraining").permutation(len(labels))
            chosen = [order[at : at + batch] for at in range(0, len(order), batch)]
            losses = [workspace.train(images[each], labels[each]) for each in chosen]
        loss = means(losses) if losses else {}
        reports = [Report(ClientId(k), 0, loss) for k, counts in enumerate(state.log) if any(counts)]
        models = state.models | workspace.models()
        return replace(state, round=round, models=models, optimizer=workspace.optimizer_state()), reports

    def generated(self, state: IotslState) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The data set D: each generator draws what the log says (section IV-B)."""
        if self._drawn is None:
            if not any(f"{G}_{client}" in state.models for client in range(len(state.log))):
                raise UserError(
                    f"round {state.round + 1}: no device's generator has come, so there is nothing to pretrain on; "
                    "see the events of the rounds before, or set method.pretraining_rounds = 0"
                )
            gan, images, labels = self.gan, [], []
            for client, counts in enumerate(state.log):
                if f"{G}_{client}" in state.models:
                    gan.load_models({G: state.models[f"{G}_{client}"]})
                    labels.append(np.repeat(np.arange(len(counts)), counts))
                    images.append(gan.generate(labels[-1], torch_seed(self.context.seed, 0, client, "generated")))
            self._drawn = np.concatenate(images), np.concatenate(labels)
        return self._drawn

    def impute(self, state: IotslState, fleet: Fleet) -> tuple[State, list[Report]]:
        """Step 3 (Algorithm 2): pair the defective devices, send them generators, and let them draw."""
        round, log = state.round + 1, np.array(state.log)
        plans = {k: paired(k, log, self.settings.scarce) for k in range(len(log)) if log[k].any()}
        needed = sorted({other for plan in plans.values() for other in plan})
        shared = {k: fleet.share(self.codec.encode({G: state.models[f"{G}_{k}"]})) for k in needed}
        events, futures = [], []
        for client, plan in plans.items():
            if plan:
                wanted = tuple(tuple(counts.items()) for counts in plan.values())
                given = [shared[other] for other in plan]
                futures.append(fleet.submit(DeviceId(client), "impute", wanted, round, *given, last=True))
                classes = tuple(sorted(c for counts in plan.values() for c in counts))
                drawn = sum(sum(counts.values()) for counts in plan.values())
                events.append(Paired(client, classes, tuple(plan), drawn))
        answered = zip(events, fleet.collect(futures), strict=True)
        imputed = {str(event.device): reply for event, reply in answered if isinstance(reply, int)}
        reports = [Report(ClientId(k), 0, {}) for k in plans]
        return replace(state, round=round, imputed=imputed, events=tuple(events)), reports

    def group(self, round: int, sampler: SamplerState) -> tuple[dict[ClientId, Load], SamplerState]:
        """The devices with their imputed samples."""
        loads, sampler = super().group(round, sampler)
        if not self.method.iterations:
            loads = {k: epoch(load.images + self.imputed.get(k, 0), load.batch) for k, load in loads.items()}
        return loads, sampler

    def turns(self, fleet: Fleet, half: ServerHalf, loads: dict[ClientId, Load], round: int, models: Arrays) -> Arrays:
        """The devices in turn; as SplitFed, all at once, f_a weighted by what they train on, imputed samples too."""
        if self.settings.fine_tuning == "split-learning":
            return super().turns(fleet, half, loads, round, models)
        samples = self.samples + [self.imputed.get(ClientId(k), 0) for k in range(len(self.samples))]
        return all_at_once(self, fleet, half, loads, round, models, samples)

    @property
    def gan(self) -> ConditionalGAN:
        """The process's generator."""
        return gan_of(self.workspace, self.workspace.classes, self.settings)

    @property
    def codec(self) -> Codec:
        """Of a generator."""
        return codec(self.gan, self.workspace.wire)

    @property
    def counts(self) -> Codec:
        """Of class counts."""
        return count_codec(self.workspace.classes)
