"""A trial is one fault against one command; its name and the seed decide everything about it, so that it can be replayed."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.faults.campaign.bench import Bench

_MANY = 200  # trials of a case: more than anybody waits for


class FaultFound(AssertionError):
    """What a command did that it must not do."""


def check(holds: bool, message: str) -> None:
    """Raise `FaultFound` unless `holds`."""
    if not holds:
        raise FaultFound(message)


class Campaign(Protocol):
    """One kind of fault. `cases` names what it is tried on; `run` raises `FaultFound` when a promise is broken."""

    name: str
    about: str
    promise: str

    def cases(self) -> Sequence[str]:
        """The commands, readers or files that the fault is tried on."""
        ...

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Inject one fault, chosen by `draw`, and check what is left; `folder` is empty and belongs to the trial."""
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
        """Read `kills/shard/17`; raises `ValueError` for anything else."""
        campaign, case, number = text.split("/")
        return cls(campaign, case, int(number))


@dataclass
class Tally:
    """Trials and failures of one case of one campaign."""

    tried: int = 0
    failures: list[tuple[TrialName, str]] = field(default_factory=list)


def run_trial(campaigns: Mapping[str, Campaign], name: TrialName, seed: int, bench: Bench, folder: Path) -> str:
    """Run one trial in an emptied `folder`; the sentence of the fault that it found, or an empty string."""
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
    """Trials of all cases in turn: as many of a campaign as `wanted` says; otherwise one of each case, or very many."""
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
