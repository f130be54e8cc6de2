"""Training loop: optimizer steps over a plan, with stages, EMA, checkpoints, signals and logging.

Launched by torchrun.
"""

import gc
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fschemas.failures import IntegrityError, NonFiniteError
from fschemas.progress import is_live, log_line, log_progress, show
from fschemas.publish import publish_json
from fschemas.wording import count
from ftrain.data.config import FitConfig, RunConfig, Stage
from ftrain.data.plan import extend_ledger, model_seed
from ftrain.data.stream import Batch
from ftrain.data.types import Rows
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState, amend_state
from ftrain.fit.checkpoint_writer import CheckpointWriter
from ftrain.fit.clock import Clock
from ftrain.fit.distributed import Agreement, Processes
from ftrain.fit.evaluation import predict_batches
from ftrain.fit.gradients import GlobalBatch, Losses, accumulate, accumulate_exactly, split_batch
from ftrain.fit.optimization import (
    autocast,
    check_stages,
    ema_decay_at,
    enter_stage,
    make_optimizer,
    rate_at,
    seed_torch,
    set_rate,
    stage_at,
    start_momentum,
    weigh,
)
from ftrain.fit.run_data import RunData, RunPool
from ftrain.fit.signals import StopSignals, stop_for
from ftrain.fit.step_values import MOST_PENDING, StepValues
from ftrain.fit.sync_batch_norm import synchronize_batch_norm
from ftrain.fit.tracking import Tracker
from ftrain.fit.weight_average import WeightAverage
from ftrain.tasks.task import Task, task_function

NON_FINITE_FILE = "non_finite.json"


class Trainer:
    """One run of one task. `train()` continues from the newest checkpoint in `folder` to the last step."""

    def __init__(
        self, config: RunConfig, data: RunData, pool: RunPool, folder: Path, processes: Processes, tracker: Tracker,
        *, limit_steps: int | None = None,
    ) -> None:  # fmt: skip
        self.config, self.data, self.pool, self.processes, self.tracker = config, data, pool, processes, tracker
        self.folder, self.checkpoints = folder, folder / "checkpoints"
        self.task, self.plan, self.validation_rows = data.task, data.plan, data.validation_rows
        self.fit: FitConfig = config.fit
        task, shards, fit = data.task, data.shards, config.fit
        task.observe_training(Rows(shards, data.training_rows))
        if data.holds_out:
            self._log_line(
                f"{count(len(self.validation_rows), 'training image')} held out for validation (validation_split={config.validation_split})"
            )
        if missing := len(data.training_rows) - len(self.plan.rows):
            self._log_line(f"{missing} of {len(data.training_rows)} training images have no label or no partner")
        self.num_steps = max(1, round(fit.epochs * self.plan.steps_per_epoch))
        self.stop_at = min(self.num_steps, limit_steps or self.num_steps)
        self.validate_every = max(1, round(fit.validate_every_epochs * self.plan.steps_per_epoch))
        task.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if processes.world_size > 1 and fit.sync_batch_norm and not fit.exact:
            synchronize_batch_norm(task, processes.device)
        check_stages(task, fit.stages)
        self.optimizer = make_optimizer(task, fit)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=fit.amp == "fp16")
        self.ema = WeightAverage(task) if fit.ema_decay else None
        self.values, self.one = StepValues(), torch.ones((), device=processes.device)
        # 1 once a value was not finite, on the device: from then on, no step changes weights, moments and averages.
        self.failed = torch.zeros((), device=processes.device)
        self.state = TrainingState(
            seed=fit.seed,
            plan_id=shards.plan_id,
            config_digest=config.digest,
            made_with=_environment(processes, fit, pool),
        )
        self.compiled: Any = torch.compile(task, dynamic=False) if fit.compile else task
        self.forward: Callable[[Batch], Losses] = self.compiled
        self.global_batch = GlobalBatch(task, processes, compiled=fit.compile)
        self.wrapped_for: list[str] = []  # names of its trainable parameters
        self.stage: Stage | None = None
        self.signals, self.stop = StopSignals(), 0
        self.agreement: Agreement | None = None
        self.writer = CheckpointWriter(self.checkpoints, processes.device, keep=fit.keep_checkpoints)

    def train(self) -> TrainingState:
        """Train to the last step.

        Raises `NonFiniteError` on NaN or infinity, and `Terminated` or `KeyboardInterrupt` after a clean stop.
        """
        self.agreement = Agreement(self.processes)
        self.resume()
        self.processes.share(tensor for module in self._modules() for tensor in module.state_dict().values())
        with self.signals, self.writer, self.pool:
            if self.state.validation_due:
                self._validate()
            self._steps()
            self._finish_save()
        return self.state

    def resume(self) -> None:
        """Load the newest valid checkpoint of the main process, if there is one, in all processes."""
        processes = self.processes
        state = processes.on_main(self._load_newest)
        if state is None:
            self.tracker.rewind(0)
            return
        if processes.world_size > 1:  # `train` sends the weights
            own = checkpoint.pack_optimizer(self.optimizer, self.task) if processes.is_main else {}
            sent = processes.share_dict(own)
            if not processes.is_main:
                checkpoint.unpack_optimizer(self.optimizer, self.task, sent)
        now, before = self.state.made_with, state.made_with
        changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now if now[name] != before.get(name)]
        if changed:
            self._log_line(
                f"environment changed since the last checkpoint ({', '.join(changed)}); results may differ from an uninterrupted run in the last bits"
            )
        self.state, self.state.made_with = state, now
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        self.tracker.rewind(state.step, validated=not state.validation_due)
        self._log_line(f"resumed at step {state.step} of {self.num_steps}")

    def _load_newest(self) -> TrainingState | None:
        """Load the newest valid checkpoint in this process and return its state; None without a checkpoint."""
        (self.folder / NON_FINITE_FILE).unlink(missing_ok=True)
        for reason in checkpoint.clean(self.checkpoints, keep=self.fit.keep_checkpoints):
            self._log_line(reason)
        found = checkpoint.newest(self.checkpoints)
        if found is None:
            return None
        path, state, _ = found
        if (state.config_digest, state.plan_id) != (self.state.config_digest, self.state.plan_id):
            raise IntegrityError(f"{path}: belongs to another configuration or shard set; train into another folder")
        checkpoint.load_weights(self.task, checkpoint.load_tensors(path, "model"), path)
        checkpoint.unpack_optimizer(self.optimizer, self.task, checkpoint.load_tensors(path, "optimizer"))
        if self.ema is not None:
            averages = checkpoint.load_tensors(path, "ema")
            averages.pop("n_averaged", None)  # of an older version
            checkpoint.load_weights(self.ema, averages, path)
        return state

    def _steps(self) -> None:
        batches = self.pool.training(range(self.state.step, self.stop_at), self.processes.device)
        clock = Clock(self.pool)
        with closing(batches):
            for batch in batches:
                clock.data_arrived()
                step, rows = self.state.step, self.plan.batch(self.state.step)
                self._step(step, batch)
                self.state.ledger = extend_ledger(self.state.ledger, rows)
                self.state.step = step + 1
                clock.step_done(len(rows))
                self._after_step(clock)

    def _step(self, step: int, batch: Batch) -> None:
        """Queue a step on the device. The host reads nothing; what it would have done with a value, the device does."""
        stage = self._enter_stage(stage_at(step, self.num_steps, self.fit.stages))
        self.state.learning_rate = rate_at(step, self.num_steps, self.fit) * stage.lr_scale
        set_rate(self.optimizer, self.state.learning_rate, stage.lr_scales)
        self.optimizer.zero_grad(set_to_none=True)
        micro_batches = split_batch(batch, len(self.data.positions))
        if self.fit.exact:
            losses = accumulate_exactly(micro_batches, self._losses, self.task, self.global_batch, self._backward)
        else:
            losses = accumulate(micro_batches, self._losses, self.forward, self.global_batch, self._backward)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.task.parameters(), self.fit.max_grad_norm, foreach=True)
        self._guard(step, norm, losses)
        self.optimizer.step()
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(ema_decay_at(self.fit.ema_decay, step), self.failed)

    def _guard(self, step: int, norm: torch.Tensor, losses: Losses) -> None:
        """Let the optimizer skip this step if a value is not finite in any process, and this and all later steps then.

        A gradient that overflowed because it was scaled is not a failure: the scaler lowers the scale.
        """
        overflows = ~norm.isfinite() & (self.scaler.scale(self.one) > 1)
        norm = norm.float().masked_fill(overflows, 0.0)
        values = self.processes.mean(torch.stack([norm, *(value.float() for value in losses.values())]))
        self.failed = torch.maximum(self.failed, (~values.isfinite()).any().float())
        self.optimizer.found_inf = torch.maximum(self.failed, overflows.float())  # type: ignore[attr-defined]
        self.values.add(step, ("gradient_norm", *losses), values)

    def _backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()

    def _losses(self, micro_batch: Batch, number: int) -> Losses:
        assert self.stage is not None
        # Randomness inside a model depends only on seed and position, so that a resumed run samples the same values.
        seed_torch(model_seed(self.fit.seed, self.state.step, number), self.processes.device)
        with autocast(self.processes.device, self.fit.amp):
            losses = self.forward(micro_batch)
        return weigh(losses, self.stage)

    def _enter_stage(self, stage: Stage) -> Stage:
        if stage is not self.stage:
            self.stage, self.global_batch.compares = stage, True
            self.task.train()
            enter_stage(self.task, stage)
            start_momentum(self.optimizer)
            self._wrap()
        return stage

    def _wrap(self) -> None:
        """Wrap the task in DDP; again only if other parameters are trained, because DDP waits for each of them."""
        trained = [name for name, parameter in self.task.named_parameters() if parameter.requires_grad]
        if self.processes.world_size == 1 or self.fit.exact or trained == self.wrapped_for:
            return
        self.forward, self.wrapped_for = self.compiled, trained
        gc.collect()  # frees the hooks of the old wrapper
        device_ids = [self.processes.device.index] if self.processes.device.type == "cuda" else None
        # Buffers are equal, or statistics that `_validate` takes from the main process.
        with warnings.catch_warnings():  # the name that newer versions of torch prefer is unknown to 2.11
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            self.forward = DistributedDataParallel(self.compiled, device_ids=device_ids, broadcast_buffers=False)

    def _after_step(self, clock: Clock) -> None:
        assert self.agreement is not None
        step = self.state.step
        validates = len(self.validation_rows) > 0 and (step == self.num_steps or step % self.validate_every == 0)
        last = validates or step == self.stop_at
        agree = self.agreement.now if last else self.agreement.of_last_call
        self.stop = agree(self.signals.number)
        ends = last or bool(self.stop)
        logs = ends or step % self.fit.log_every_steps == 0
        saves = ends or step % self.fit.checkpoint_every_steps == 0
        values = self._read_values(0 if logs or saves else MOST_PENDING)
        if logs:
            self._log(values, clock, always=ends)
        if is_live():
            show("training", step, self.num_steps)
        if saves:
            self.state.validation_due = validates
            self._save()
        self._stop_for(self.stop)
        if validates:
            self._validate()
            clock.restart()

    def _read_values(self, keep: int) -> dict[str, float]:
        """Return the values of the newest step that is not among the last `keep`.

        Raises `NonFiniteError` for the first step with one that is not finite.
        """
        values: dict[str, float] = {}
        for step, values in self.values.read(keep):
            bad = [name for name, value in values.items() if not np.isfinite(value)]
            if not bad:
                continue
            if self.processes.is_main:
                keys = [str(key) for key in self.data.shards.columns["key"][self.plan.batch(step)]]
                found = {name: repr(value) for name, value in values.items()}
                report = {"step": step, "seed": self.fit.seed, "values": found, "keys": keys}
                publish_json(self.folder / NON_FINITE_FILE, report)
            raise NonFiniteError(
                f"step {step}: {', '.join(bad)} is not finite; the samples are listed in {self.folder}/{NON_FINITE_FILE} "
                "and the last good checkpoint is kept; lower fit.learning_rate or fix the data"
            )
        return values

    def _log(self, losses: dict[str, float], clock: Clock, *, always: bool) -> None:
        step, rates = self.state.step, clock.rates()
        epoch = step / self.plan.steps_per_epoch
        values = {**losses, "learning_rate": self.state.learning_rate, "epoch": epoch, **rates}
        self.tracker.log("training", step, values)
        if self.processes.is_main:
            note = f"loss {losses['loss']:.4f}  {rates['images_per_second']:.0f} images/s  waiting for data {rates['waiting_share']:.0%}"
            log_progress("training", step, self.num_steps, f"step {step}/{self.num_steps}  {note}", note, always=always)

    def _validate(self) -> None:
        """Evaluate the state that was just saved and store the metric in it.

        A signal stops this; it is then due again.
        """
        assert self.agreement is not None
        agree, step, model = self.agreement.now, self.state.step, self._modules()[-1]
        # Each process has its own normalization statistics; those of rank 0 are saved.
        self.processes.share(model.buffers())
        task: Task = model.module if isinstance(model, WeightAverage) else model  # type: ignore[assignment]
        task.set_tta(False)  # `ftrain evaluate` measures with it
        with autocast(self.processes.device, self.fit.amp):
            results = predict_batches(
                task, self.pool.validation(self.processes.device), self.validation_rows, self.processes, stage="validating", validating=True,
                after_batch=lambda: self._stop_for(agree(self.signals.number)),
            )  # fmt: skip
        task.set_tta(None)
        metrics = task_function(self.task, "compute_metrics")(self.task, results)
        if self.stage is not None:
            self.task.train()
            enter_stage(self.task, self.stage)
        metric, direction = self.task.selected_by
        value, sign = float(metrics[metric]), 1 if direction == "min" else -1
        if np.isfinite(value) and (not self.state.best or sign * value < sign * self.state.best["value"]):
            self.state.best = {"metric": metric, "value": value, "step": step}
        self._finish_save()
        # Log before amending the state: if killed in between, validation is still due, and the logged row is rewound.
        self.tracker.log("validation", step, {name: v for name, v in metrics.items() if isinstance(v, float)})
        self.state.validation_due = False
        if self.processes.is_main:
            amend_state(self.checkpoints, self.state)
            checkpoint.mark_best(self.checkpoints, self.state)
            checkpoint.retain(self.checkpoints, self.state, self.fit.keep_checkpoints)  # deletes the previous best
        self._log_line(f"step {step}/{self.num_steps}  validation {metric} {value:.4f}")

    def _save(self) -> None:
        """Start to save the state, after the previous save. Raises the error of that one."""
        tensors = {"model": self.task.state_dict(), "optimizer": checkpoint.pack_optimizer(self.optimizer, self.task)}
        if self.ema is not None:
            self.ema.copy_counters()
            tensors["ema"] = self.ema.state_dict()
        self.state.scaler = self.scaler.state_dict()  # reading the scale waits for the device
        self.processes.on_main(lambda: self.writer.save(self.state, tensors))

    def _finish_save(self) -> None:
        """Wait until the state is saved. Raises the error of the save."""
        self.processes.on_main(self.writer.wait)

    def _stop_for(self, number: int) -> None:
        """Raise for a signal, if there is one, once the state is saved."""
        if number:
            self._finish_save()
            stop_for(number, self.state.step)

    def _modules(self) -> list[nn.Module]:
        return [self.task] if self.ema is None else [self.task, self.ema]

    def _log_line(self, sentence: str) -> None:
        if self.processes.is_main:
            log_line(sentence)


def _environment(processes: Processes, fit: FitConfig, pool: RunPool) -> dict[str, Any]:
    """Settings besides the configuration that affect the last bits of the weights."""
    return {
        "torch": str(torch.__version__), "device": processes.device.type, "processes": "any" if fit.exact else processes.world_size,
        "threads": torch.get_num_threads(), "transforms": pool.transforms, **_gpu(processes.device),
    }  # fmt: skip


def _gpu(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {}
    return {"gpu": torch.cuda.get_device_name(device), "deterministic": torch.are_deterministic_algorithms_enabled()}
