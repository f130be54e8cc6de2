"""The training loop: steps over a plan, with stages, averaging, checkpoints, signals and a log. torchrun starts it on many GPUs."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fschemas.failures import IntegrityError, NonFiniteError, Terminated
from fschemas.publish import publish_json
from fschemas.shard_set import ShardSet
from ftrain import checkpoint
from ftrain.checkpoint import TrainingState
from ftrain.config import FitConfig, RunConfig
from ftrain.distributed import Processes
from ftrain.evaluation import results_of_split, to_device
from ftrain.gradients import Losses, accumulate, accumulate_exactly, split_batch
from ftrain.optimisation import enter_stage, make_optimizer, rate_at, set_rate, stage_at
from ftrain.plan import TrainingPlan, Windowed, extend_ledger, micro_batches_of_rank, shuffled
from ftrain.stream import Batch, training_batches
from ftrain.task import Stage, Task
from ftrain.tracking import Tracker


class Trainer:
    """One run of one task. `train()` goes from the newest checkpoint of `folder` to the last step."""

    def __init__(
        self, task: Task, config: RunConfig, shards: ShardSet, folder: Path, processes: Processes, tracker: Tracker,
        *, workers: int, limit_steps: int | None = None,
    ) -> None:  # fmt: skip
        self.task, self.config, self.shards, self.processes, self.tracker = task, config, shards, processes, tracker
        self.workers, self.folder, self.checkpoints = workers, folder, folder / "checkpoints"
        self.fit: FitConfig = config.fit
        rows = task.rows_of_interest(task.config, shards.columns, shards.rows(config.train_split))
        sampler = Windowed(shards.columns["shard"]) if self.fit.sampler == "windowed" else shuffled
        self.plan = TrainingPlan(rows, self.fit.batch_size, self.fit.seed, sampler)
        self.num_steps = max(1, round(self.fit.epochs * self.plan.steps_per_epoch))
        self.stop_at = min(self.num_steps, limit_steps or self.num_steps)
        self.validate_every = max(1, round(self.fit.validate_every * self.plan.steps_per_epoch))
        micro_batches = max(self.fit.micro_batches, processes.world_size)
        self.positions = micro_batches_of_rank(self.fit.batch_size, micro_batches, processes.rank, processes.world_size)
        task.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(task, self.fit)
        self.average: AveragedModel | None = None
        if self.fit.average:
            self.average = AveragedModel(task, multi_avg_fn=get_ema_multi_avg_fn(self.fit.average), use_buffers=True)
        self.state = TrainingState(seed=self.fit.seed, plan_id=shards.plan_id, config_digest=config.digest)
        self.forward: Callable[[Batch], Losses] = task
        self.stage: Stage | None = None
        self.stop_signal = 0

    def train(self) -> TrainingState:
        """Train to the last step; raises `NonFiniteError` on NaN, `Terminated` or `KeyboardInterrupt` after a clean stop."""
        self.resume()
        previous = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._steps()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.state

    def resume(self) -> None:
        """Take up the newest sound checkpoint, if there is one."""
        if self.processes.is_main:
            checkpoint.clean(self.checkpoints)
        self.processes.wait()
        found = checkpoint.newest(self.checkpoints)
        if found is None:
            return
        path, state, reasons = found
        for reason in reasons:
            self._say(reason)
        if (state.config_digest, state.plan_id) != (self.state.config_digest, self.state.plan_id):
            raise IntegrityError(f"{path}: belongs to another configuration or shard set; train into another folder")
        self.state = state
        load_weights(self.task, checkpoint.load_tensors(path, "model"), path)
        checkpoint.unpack_optimizer(self.optimizer, self.task, checkpoint.load_tensors(path, "optimizer"))
        if self.average is not None:
            self.average.load_state_dict(checkpoint.load_tensors(path, "average"))
        if self.processes.is_main and state.best:
            checkpoint.mark_best(self.checkpoints, state)
        self.tracker.rewind(state.step)
        self._say(f"resumed at step {state.step} of {self.num_steps}")

    def _steps(self) -> None:
        batches = training_batches(
            self.shards, self.task.encoder, self.plan,
            positions=self.positions.reshape(-1), start=self.state.step, stop=self.stop_at, workers=self.workers,
        )  # fmt: skip
        clock = _Clock()
        for batch in batches:
            clock.data_arrived()
            step = self.state.step
            losses = self._step(step, to_device(batch, self.processes.device))
            rows = self.plan.batch(step)
            self.state.ledger = extend_ledger(self.state.ledger, rows)
            self.state.step = step + 1
            clock.step_done(len(rows))
            self._after_step(losses, clock)
        if self.state.step == self.stop_at:
            self._save()

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        self._enter_stage(stage_at(step, self.num_steps, self.fit.stages))
        assert self.stage is not None
        rate = rate_at(step, self.num_steps, self.fit) * self.stage.rate
        set_rate(self.optimizer, rate)
        self.state.learning_rate = rate
        self.optimizer.zero_grad(set_to_none=True)
        gather = accumulate_exactly if self.fit.exact else accumulate
        model = self.task if self.fit.exact else self.forward
        tensors = gather(split_batch(batch, len(self.positions)), self._losses, model, self.processes)  # type: ignore[arg-type]
        norm = nn.utils.clip_grad_norm_(self.task.parameters(), self.fit.clip_norm)
        losses = {name: float(value) for name, value in tensors.items()}
        self._stop_if_not_finite(step, {**losses, "gradient_norm": float(norm)})
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.task)
        return losses

    def _losses(self, part: Batch, number: int) -> Losses:
        assert self.stage is not None
        # What is random inside a model depends on seed and place alone, so that a resumed run draws the same.
        torch.manual_seed((self.fit.seed * 1_000_003 + self.state.step) * 4099 + number)
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.fit.amp == "bf16"):
            losses = self.forward(part)
        if self.stage.losses:
            weights = self.stage.losses
            parts = [weights.get(name, 1.0) * value for name, value in losses.items() if name != "loss"]
            losses = {**losses, "loss": torch.stack(parts).sum()}
        return losses

    def _enter_stage(self, stage: Stage) -> None:
        if stage is self.stage:
            return
        self.stage = stage
        self.task.train()
        enter_stage(self.task, stage)
        model: Any = torch.compile(self.task) if self.fit.compile else self.task
        if self.processes.world_size > 1 and not self.fit.exact:
            device_ids = [self.processes.device.index] if self.processes.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=device_ids)
        self.forward = model

    def _stop_if_not_finite(self, step: int, values: dict[str, float]) -> None:
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        if not self.processes.any(bool(bad)):
            return
        rows = self.plan.batch(step)
        if self.processes.is_main:
            keys = [str(key) for key in self.shards.columns["key"][rows]]
            found = {name: repr(value) for name, value in values.items()}
            publish_json(self.folder / "non_finite.json", {"step": step, "seed": self.fit.seed, "values": found, "keys": keys})
        raise NonFiniteError(
            f"step {step}: {', '.join(bad) or 'another process'} is not finite; the samples stand in "
            f"{self.folder}/non_finite.json and the last good checkpoint is kept; lower fit.learning_rate or mend the data"
        )

    def _after_step(self, losses: dict[str, float], clock: _Clock) -> None:
        step = self.state.step
        last = step == self.num_steps
        validates = last or step % self.validate_every == 0
        stop = self.processes.any(bool(self.stop_signal))
        if validates or stop or step == self.stop_at or step % self.fit.log_every == 0:
            self._log(losses, clock)
        if validates and not stop:
            self._validate()
            clock.restart()
        if validates or stop or step % self.fit.checkpoint_every == 0:
            self._save()
        if stop and self.stop_signal == signal.SIGINT:
            raise KeyboardInterrupt
        if stop:
            raise Terminated(f"stopped by a signal after step {step}, which is saved; run the same command again to go on")

    def _log(self, losses: dict[str, float], clock: _Clock) -> None:
        step, rates = self.state.step, clock.rates()
        epoch = step / self.plan.steps_per_epoch
        self.tracker.log("training", step, {**losses, "learning_rate": self.state.learning_rate, "epoch": epoch, **rates})
        self._say(
            f"step {step}/{self.num_steps}  loss {losses['loss']:.4f}  {rates['images_per_second']:.0f} images/s  "
            f"waiting for data {rates['waiting_share']:.0%}"
        )

    def _validate(self) -> None:
        model = self.average.module if self.average is not None else self.task
        rows = self.task.rows_of_interest(self.task.config, self.shards.columns, self.shards.rows(self.config.validation_split))
        results = results_of_split(model, self.shards, rows, self.processes, self.fit.batch_size, self.workers)
        metrics = self.task.measure(results)
        assert self.stage is not None
        self.task.train()
        enter_stage(self.task, self.stage)
        metric, direction = self.task.selected_by
        value = float(metrics[metric])
        sign = 1 if direction == "min" else -1
        if np.isfinite(value) and (not self.state.best or sign * value < sign * self.state.best["value"]):
            self.state.best = {"metric": metric, "value": value, "step": self.state.step}
        self.tracker.log("validation", self.state.step, {name: v for name, v in metrics.items() if isinstance(v, float)})
        self._say(f"step {self.state.step}/{self.num_steps}  validation {metric} {value:.4f}")

    def _save(self) -> None:
        if self.processes.is_main:
            tensors = {"model": self.task.state_dict(), "optimizer": checkpoint.pack_optimizer(self.optimizer, self.task)}
            if self.average is not None:
                tensors["average"] = self.average.state_dict()
            checkpoint.save_checkpoint(self.checkpoints, self.state, tensors, keep=self.fit.keep_checkpoints)
            if self.state.best:
                checkpoint.mark_best(self.checkpoints, self.state)
        self.processes.wait()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stop_signal = number

    def _say(self, sentence: str) -> None:
        if self.processes.is_main:
            print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - the progress of a command line


def load_weights(task: nn.Module, tensors: dict[str, torch.Tensor], place: Path) -> None:
    """Load a state into a task; raises `IntegrityError` naming the first tensor that does not fit."""
    own = task.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise IntegrityError(f"{place}: tensor {name} is {'missing' if name in own else 'unknown to this model'}")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
            raise IntegrityError(f"{place}: tensor {name} has shape {shapes}; it belongs to another model or landmark set")
    task.load_state_dict(tensors)


class _Clock:
    """Splits the time between two logs into waiting for data and computing."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.start = self.mark = time.perf_counter()
        self.waited, self.images = 0.0, 0

    def data_arrived(self) -> None:
        self.waited += time.perf_counter() - self.mark

    def step_done(self, images: int) -> None:
        self.images += images
        self.mark = time.perf_counter()

    def rates(self) -> dict[str, float]:
        seconds = max(1e-9, time.perf_counter() - self.start)
        rates = {"images_per_second": self.images / seconds, "waiting_share": self.waited / seconds}
        self.restart()
        return rates
