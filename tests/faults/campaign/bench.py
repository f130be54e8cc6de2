"""Inputs of the campaigns: raw trees, tables, shard sets, runs and an index, all made by the commands themselves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.harness import Forge, Outcome

_DATASETS = {"deepfashion-category": 24, "deepfashion-inshop": 30, "fashionai-keypoints": 20}
_SPLITS = ["--val-share", "0.2", "--test-share", "0.2"]
_TRAIN = ["--device", "cpu", "--workers", "0", "--threads", "1", "--tracker", "none"]
_BACKBONE = ["-s", "model.backbone=test_efficientnet", "-s", "model.weights=none", "-s", "model.input_size=32"]
_FIT = ["-s", "fit.checkpoint_every_steps=1"]
_MODULES = (
    "ftrain.cli", "ftrain.fit.train", "ftrain.use.evaluate", "ftrain.use.predict", "ftrain.use.describe", "ftrain.use.submit", "ftrain.use.export",
    "ftrain.search.build", "ftrain.search.query", "ftrain.search.join",
)  # fmt: skip
MODELS = {
    "category": ("deepfashion-category", [*_BACKBONE, "-s", "model.hidden_dim=8"]),
    "retrieval": ("deepfashion-inshop", [*_BACKBONE, "-s", "validation_split=none", "-s", "fit.sampler=shuffled"]),
}


@dataclass
class Bench:
    """Inputs below `root`, and a fork server that runs commands; one per thread."""

    root: Path
    forge: Forge
    known: dict[str, Any] = field(default_factory=dict[str, Any])  # results that a campaign caches per command

    @classmethod
    def start(cls, root: Path, log: Path) -> Bench:
        """Start a fork server; `build` must have been called once for `root`."""
        log.mkdir(parents=True, exist_ok=True)
        forge = Forge(log)
        for module in _MODULES:
            forge.ask({"job": "import", "module": module})
        return cls(root, forge)

    def fprep(self, *arguments: object, **options: Any) -> Outcome:
        """Run `fprep` in a forked process."""
        return self.forge.cli(*arguments, command="fprep", **options)

    def ftrain(self, *arguments: object, **options: Any) -> Outcome:
        """Run `ftrain` in a forked process."""
        return self.forge.cli(*arguments, command="ftrain", **options)

    def build(self) -> None:
        """Create all inputs with the commands; takes about half a minute."""
        for name, count in _DATASETS.items():
            raw, table, shards = (self.root / part / name for part in ("raw", "tables", "shards"))
            self._must(self.fprep("sample", name, raw, "--num-images", count, "--workers", 1, "-q"))
            self._must(self.fprep("convert", name, raw, table, "--workers", 1, "--max-rejected", 1, "-q", *_SPLITS))
            self._must(self.fprep("shard", table, shards, "--shard-samples", 6, "--size", 64, "--workers", 1, "-q"))
        for name in MODELS:
            self._must(self.ftrain(*self.training(name, self.root / "runs" / name)))
        self._must(self.ftrain("index", self.root / "runs/retrieval", self.shards("deepfashion-inshop"), self.root / "index",
                               "--workers", 0, "--device", "cpu"))  # fmt: skip
        image = next(path for path in sorted(self.raw("deepfashion-category").rglob("*.jpg")))
        shutil.copy(image, self.root / "photo.jpg")

    def training(self, model: str, run: Path, steps: int = 4) -> Sequence[object]:
        """Arguments of a training run of four small steps, with a checkpoint after each."""
        dataset, options = MODELS[model]
        return [model, self.shards(dataset), "--run", run, "--limit-steps", steps, "-s", "fit.batch_size=4", "-s", "fit.epochs=2",
                *options, *_FIT, *_TRAIN]  # fmt: skip

    def raw(self, dataset: str) -> Path:
        """The synthetic raw tree of a data set."""
        return self.root / "raw" / dataset

    def table(self, dataset: str) -> Path:
        """The table of a data set."""
        return self.root / "tables" / dataset

    def shards(self, dataset: str) -> Path:
        """The shard set of a data set."""
        return self.root / "shards" / dataset

    def run(self, model: str) -> Path:
        """A trained run."""
        return self.root / "runs" / model

    @property
    def photo(self) -> Path:
        """An image that is in no table."""
        return self.root / "photo.jpg"

    @staticmethod
    def _must(outcome: Outcome) -> None:
        assert outcome.code == 0, outcome.err
