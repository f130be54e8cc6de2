"""State of a run, and `state.json` of a checkpoint, which stores it with the digests of all files of the checkpoint."""

import json
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from fschemas.failures import IntegrityError, UsageError
from fschemas.json_file import COUNT, read_json, seal
from fschemas.names import DIGEST
from fschemas.publish import publish_bytes
from ftrain.data.plan import EMPTY_LEDGER

FORMAT = "fashionkit-checkpoint/1"
_REMEDY = "restore the checkpoint from a copy of the run, or remove it"
_SHAPE = {
    "finite": bool, "digests": {"*": DIGEST}, "seal": DIGEST, "step": COUNT, "ledger": str, "seed": COUNT, "plan_id": str,
    "config_digest": str, "learning_rate": float, "best": {"metric?": str, "value?": float, "step?": COUNT},
    "validation_due": bool, "made_with": dict, "scaler?": dict, "files?": {"*": DIGEST},
}  # fmt: skip
STATE_FILE = "state.json"


@dataclass
class TrainingState:
    """State of a run after `step` optimizer steps. Random states are not stored: they follow from seed and step."""

    step: int = 0
    ledger: str = EMPTY_LEDGER  # running SHA-256 of the consumed rows
    seed: int = 0
    plan_id: str = ""
    config_digest: str = ""
    learning_rate: float = 0.0
    best: dict[str, Any] = field(default_factory=dict[str, Any])  # {"metric", "value", "step"}
    validation_due: bool = False  # validation is due after this step and has not finished
    scaler: dict[str, Any] = field(default_factory=dict[str, Any])  # of the gradients, with fit.amp=fp16
    # Settings that affect the last bits (torch, threads, device), and SHA-256 of other files of the run that do.
    made_with: dict[str, Any] = field(default_factory=dict[str, Any])
    files: dict[str, str] = field(default_factory=dict[str, str])


def step_folder(step: int) -> str:
    """Folder name of a step: `step-00000123`."""
    return f"step-{step:08d}"


def amend_state(folder: Path, state: TrainingState) -> None:
    """Replace the state in the checkpoint of `state.step` and keep its tensors: validation runs after the save."""
    path = folder / step_folder(state.step) / STATE_FILE
    publish_bytes(path, sealed(state, read_json(path, _SHAPE)["digests"]))


def sealed(state: TrainingState, digests: dict[str, str]) -> bytes:
    """Return the content of state.json, including its own digest."""
    metadata = seal({"format": FORMAT, **asdict(state), "finite": True, "digests": digests})
    return json.dumps(metadata, indent=2, allow_nan=False).encode() + b"\n"


def read_state(path: Path) -> tuple[TrainingState, dict[str, str]]:
    """State of a checkpoint and digests of its other files.

    Raises `IntegrityError` if state.json is missing or was changed.
    """
    file = path / STATE_FILE
    try:
        metadata = read_json(file, _SHAPE, format=FORMAT, sealed=True, remedy=_REMEDY)
    except UsageError as error:  # missing, or of another format
        raise IntegrityError(str(error)) from None
    digests = metadata["digests"]
    fields = {name: value for name, value in metadata.items() if name not in ("format", "finite", "digests", "seal")}
    unknown = fields.keys() - {field.name for field in dataclass_fields(TrainingState)}
    if unknown or not metadata["finite"]:
        what = f"{min(unknown)} is unknown to this version" if unknown else "its weights are not finite"
        raise IntegrityError(f"{file}: {what}; {_REMEDY}")
    state = TrainingState(**fields)
    if step_folder(state.step) != path.name:
        raise IntegrityError(f"{file}: belongs to step {state.step}, but is in {path.name}; {_REMEDY}")
    return state, digests
