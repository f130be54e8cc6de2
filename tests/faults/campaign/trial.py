"""A trial is one fault against one command, fully determined by its name and the seed, so it can be replayed."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.faults.campaign.bench import Bench

_MANY = 200  # trials per case; more than any run completes


class FaultFound(AssertionError):
    """Forbidden behavior of a command."""


def check(holds: bool, message: str) -> None:
    """Raise `FaultFound` unless `holds`."""
    if not holds:
        raise FaultFound(message)


class Campaign(Protocol):
    """One kind of fault. `cases` lists its targets; `run` raises `FaultFound` if a guarantee is violated."""

    name: str
    about: str
    promise: str

    def cases(self) -> Sequence[str]:
        """The commands, readers or files that receive the fault."""
        ...

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Inject one fault, chosen by `draw`, and check the outcome; `folder` is empty and belongs to the trial."""
        ...


@dataclass(frozen=True, order=True)
class TrialName:
    """`kills/shard/17`: campaign, case, number."""

    campaign: str
    case: str
    number: int

    def __str__(self) -> str:
        return f"{self.campaign}/{self.case}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> TrialName:
        """Parse `kills/shard/17`; raises `ValueError` for anything else."""
        campaign, case, number = text.split("/")
        return cls(campaign, case, int(number))


@dataclass
class Tally:
    """Trials and failures of one case of one campaign."""

    tried: int = 0
    failures: list[tuple[TrialName, str]] = field(default_factory=list)


def run_trial(campaigns: Mapping[str, Campaign], name: TrialName, seed: int, bench: Bench, folder: Path) -> str:
    """Run one trial in an emptied `folder`; return a description of the failure, or an empty string."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        campaigns[name.campaign].run(name.case, bench, folder, random.Random(f"{seed} {name}"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def rounds(
    campaigns: Mapping[str, Campaign], wanted: Mapping[str, int], first: int = 0, *, endless: bool
) -> list[TrialName]:
    """List the trials of all cases in turn, as many per campaign as in `wanted`.

    Without an entry in `wanted`, it is one per case, or very many if `endless`.
    """
    names: list[TrialName] = []
    for campaign in campaigns.values():
        cases = campaign.cases()
        count = wanted.get(campaign.name, len(cases) * (_MANY if endless else 1))
        seen: Counter[str] = Counter()
        for index in range(count):
            case = cases[index % len(cases)]
            names.append(TrialName(campaign.name, case, first + seen[case]))
            seen[case] += 1
    return sorted(names, key=lambda name: name.number)
