"""Compare training recipes on photographs: chosen on held-out training photographs, reported on the test photographs.

    python benchmarks/photographs.py prepare COURSE_SUBSET DEEPFASHION_FOLDERS STYLE_PHOTOGRAPHS WORK
    python benchmarks/photographs.py run WORK --study attributes --only mixup --threads 1
    python benchmarks/photographs.py table WORK

`prepare` converts three small sets of photographs (see docs/results.md). `run` trains each variant of a study on the
training photographs without a held-out part (`validation_split=holdout`) and evaluates its last checkpoint there; a
variant that has a result is skipped, so an interrupted run goes on. `run --final VARIANT` trains one variant on all
training photographs and evaluates it on the test photographs, which have chosen nothing. `table` prints all results.
Every variant changes the keys listed here in the profile `photographs` of its task, and nothing else. Comparisons run
at 128 pixels, on a shortened schedule where the set is large; docs/results.md has the commands of the long runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fschemas.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()  # inherited by the commands
MISSPELLED = {"sproty": "sporty", "office/formal": "formal/office"}  # in the style photographs
BIN = Path(sys.executable).parent
SMALL = {"profile": "photographs", "model.input_size": "128"}
KEYPOINTS = {
    "model.backbone": "tf_efficientnet_lite0", "model.weights": "imagenet", "model.channels": "64", "model.input_size": "128",
    "model.rotation": "15", "fit.batch_size": "32", "fit.learning_rate": "0.001", "fit.backbone_lr_scale": "0.5",
    "fit.ema_decay": "0.99", "fit.checkpoint_every_steps": "100", "fit.epochs": "3",
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A task on a set of photographs, its metrics, the key metric first, and variants: changed keys by name."""

    task: str
    shards: str
    test: str  # split that is reported
    metrics: tuple[str, ...]
    base: dict[str, str]
    variants: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    smaller_is_better: bool = False
    ensembles: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])  # variants to join

    @property
    def names(self) -> tuple[str, ...]:
        """What can be run: the base, its variants, and ensembles of these."""
        return ("base", *self.variants, *self.ensembles)


AUGMENTATION = {
    "random resized crop": {"model.crop_area": "[0.35, 1.0]"},
    "color operations": {"model.color_operations": "2"},
    "scales at test time": {"model.tta.scales": "[1.15]"},
}
MIXING = {"mixup": {"model.mixup": "0.2"}, "CutMix": {"model.cutmix": "1.0"}}
RARE_CLASSES = {
    "logit adjustment": {"model.logit_adjustment": "1"},
    "square-root sampling": {"fit.sampler": "square_root"},
}
MORE_FOR_RARE_CLASSES = {
    "half logit adjustment": {"model.logit_adjustment": "0.5"},
    "balanced sampling": {"fit.sampler": "balanced"},
}
NO_TRIPLETS = {"model.triplet_loss_weight": "0"}  # a mixed image has two labels
SEARCH = {
    "model.target": "attributes", "model.input_size": "128", "model.mining": "semi_hard", "model.triplet_loss_weight": "1",
    "model.local_backbone": "", "fit.epochs": "3", "fit.stages": "[{}]",
}  # fmt: skip
STAGES = "[{until: 0.6, freeze: [local], loss_weights: {local: 0, %s: 0}}, {lr_scales: {local: 5}}]"
LOCAL_BRANCH = {
    "model.local_backbone": "tf_efficientnet_lite0", "model.local_loss_weight": "0.1", "fit.stages": STAGES % "align",
}  # fmt: skip
PATCHES = {
    **LOCAL_BRANCH, "model.local_head": "patches", "model.local_input_size": "128", "model.align_loss_weight": "0",
    "model.contrast_loss_weight": "0.04", "fit.stages": STAGES % "contrast",
}  # fmt: skip
STUDIES = {
    "keypoints": Study(
        "keypoints", "fine/shards", "val", ("ne_image", "ne_box"), KEYPOINTS,
        {
            "cropped by two passes": {"model.crop": "keypoints"},
            "given box": {"model.crop": "box"},
            "no hard keypoint mining": {"model.ohkm_fraction": "1"},
            **AUGMENTATION,
        },
        smaller_is_better=True,
        ensembles={"ensemble": ("base", "random resized crop")},
    ),
    "attributes": Study(
        "category", "fine/shards", "val", ("groups_top_1",),
        {**SMALL, "model.targets": "[attributes]", "fit.epochs": "3", "fit.ema_decay": "0.99"},
        {
            "given box": {"model.crop": "box"},
            "layer-wise decay": {"fit.layer_lr_decay": "0.85"},
            "drop path": {"model.drop_path": "0.1"},
            **AUGMENTATION,
        },
    ),
    "category": Study(
        "category", "folders/shards", "test", ("category_top_1", "category_macro_f1"),
        {**SMALL, "model.targets": "[category]"}, {**RARE_CLASSES, **MIXING},
    ),
    "products": Study(
        "retrieval", "folders/shards", "test", ("map", "hit_1"), SMALL,
        {
            "margin softmax (ArcFace)": {"model.cosine_scale": "16", "model.cosine_margin": "0.3"},
            "sub-centers": {"model.cosine_scale": "16", "model.cosine_margin": "0.3", "model.subcenters": "3"},
            "cross-batch memory": {"model.memory_size": "1024"},
            "GeM pooling": {"model.pooling": "gem"},
            "nested dimensions": {"model.nested_dims": "[64, 128, 256]"},
            "proxy anchor": {"model.proxy_loss_weight": "0.3"},
            **AUGMENTATION,
        },
    ),
    "search": Study(
        "style", "fine/shards", "val", ("map",), SEARCH, {"local branch (ASEN++)": LOCAL_BRANCH, "patches (RPF)": PATCHES}
    ),
    "styles": Study("style", "style/shards", "test", ("top_1", "macro_f1"), SMALL,
        {**RARE_CLASSES, **MORE_FOR_RARE_CLASSES, **AUGMENTATION, "no triplets": NO_TRIPLETS,
         **{name: changed | NO_TRIPLETS for name, changed in MIXING.items()}},
    ),
}  # fmt: skip


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    prepare_parser = commands.add_parser("prepare")
    for name in ("fine", "folders", "style", "work"):
        prepare_parser.add_argument(name, type=Path)
    run_parser = commands.add_parser("run")
    run_parser.add_argument("work", type=Path)
    run_parser.add_argument("--study", choices=STUDIES, required=True)
    run_parser.add_argument("--only", help="one variant; `base` changes nothing")
    run_parser.add_argument(
        "--final", help="train this variant on all training photographs and evaluate the test split"
    )
    run_parser.add_argument("--threads", type=int, default=1)
    run_parser.add_argument("--limit-steps", type=int)
    commands.add_parser("table").add_argument("work", type=Path)
    options = parser.parse_args()
    if options.command is None:
        parser.print_help()  # it needs photographs, so `make bench` only names it
    elif options.command == "prepare":
        prepare(options.fine, options.folders, options.style, options.work)
    elif options.command == "table":
        print(table(options.work))
    else:
        known, chosen = STUDIES[options.study].names, options.final or options.only
        if chosen and chosen not in known:
            parser.error(f"{options.study} has no variant {chosen!r}; choose from {', '.join(known)}")
        names = [chosen] if chosen else known
        for name in names:
            run(
                options.work,
                options.study,
                name,
                options.threads,
                final=bool(options.final),
                limit_steps=options.limit_steps,
            )


def call(*words: str | Path) -> None:
    """Run a command of fashionkit; its own messages explain a failure."""
    subprocess.run([str(BIN / words[0]), *map(str, words[1:])], check=True)


def prepare(fine: Path, folders: Path, style: Path, work: Path) -> None:
    """Convert and shard the three sets."""
    work.mkdir(parents=True, exist_ok=True)
    call("fprep", "convert", "deepfashion-fine", fine, work / "fine/table")
    call(
        "fprep", "convert", "folders", folders, work / "folders/table", "--map", "category=last-word", "--map", "item=folder",
        "--test-share", "0.3", "--group-split",
    )  # fmt: skip
    spelled = shutil.copytree(style, work / "style/raw", dirs_exist_ok=True)
    labels = pl.read_csv(style / "labels.csv").with_columns(pl.col("style").replace(MISSPELLED))
    labels.write_csv(spelled / "labels.csv")
    call(
        "fprep", "convert", "csv", spelled, work / "style/table", "--map", "image=image_file_name", "--map", "style=style",
        "--map", "category=category", "--test-share", "0.2", "--group-split",
    )  # fmt: skip
    for name in ("fine", "folders", "style"):
        call("fprep", "shard", work / name / "table", work / name / "shards")


def run(work: Path, study: str, name: str, threads: int, *, final: bool, limit_steps: int | None) -> None:
    """Train and evaluate one variant, unless it has a result."""
    one = STUDIES[study]
    folder = place(work, study, name, final=final)
    result = folder / "result.json"
    if result.exists():
        return
    settings = {**one.base, **one.variants.get(name, {}), "validation_split": "none" if final else "holdout"}
    settings["hold_out"] = "0.15"
    start = time.monotonic()
    if name in one.ensembles:
        runs = [place(work, study, part, final=final) / "run" for part in one.ensembles[name]]
        call("ftrain", "join", work / one.shards, *runs, "--run", folder / "run", "--checkpoint", "latest")
    else:
        pairs = [(key, value) for key, value in settings.items() if key != "profile"]
        call(
            "ftrain", one.task, work / one.shards, "--run", folder / "run", "--workers", "1", "--threads", str(threads),
            "--tracker", "none", *(["--profile", settings["profile"]] if "profile" in settings else []),
            *(["--limit-steps", str(limit_steps)] if limit_steps else []),
            *(word for key, value in pairs for word in ("--set", f"{key}={value}")),
        )  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    split = one.test if final else "holdout"
    call(
        "ftrain", "evaluate", folder / "run", work / one.shards, "--split", split, "--checkpoint", "latest", "--allow-collapse",
        "--out", folder / "evaluation",
    )  # fmt: skip
    metrics = json.loads((folder / "evaluation/report.json").read_text())["model"]
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    result.write_text(
        json.dumps({"split": split, "minutes": minutes, "settings": settings, "metrics": numbers}, indent=1)
    )


def place(work: Path, study: str, name: str, *, final: bool) -> Path:
    """Return the folder of one variant."""
    return work / "runs" / study / f"{name.replace(' ', '-')}{'-final' if final else ''}"


def table(work: Path) -> str:
    """Format all results as Markdown, one table per study; the base comes first."""
    lines: list[str] = []
    for study, one in STUDIES.items():
        heads = [f"{part}, {metric}" for part in ("held out", "test") for metric in one.metrics]
        lines += [
            f"\n{study}{' (lower is better)' if one.smaller_is_better else ''}\n",
            f"| variant | {' | '.join(heads)} |",
            "|---" * (len(heads) + 1) + "|",
        ]
        for name in one.names:
            cells = [
                cell(place(work, study, name, final=final), metric) for final in (False, True) for metric in one.metrics
            ]
            if any(cells):
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(folder: Path, metric: str) -> str:
    """Format a metric with its interval, if it has one."""
    if not (folder / "result.json").exists():
        return ""
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    low, high = metrics.get(f"{metric}_low"), metrics.get(f"{metric}_high")
    return f"{metrics[metric]:.1%}" + ("" if low is None else f" ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
