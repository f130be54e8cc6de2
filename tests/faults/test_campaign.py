"""A short version of the campaigns: a few trials of each kind of fault, against the real commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.campaign.__main__ import CAMPAIGNS
from tests.faults.campaign.bench import Bench
from tests.faults.campaign.page import page
from tests.faults.campaign.trial import TrialName, rounds, run_trial

_SEED = 7
_TRIALS = {"kills": 8, "failing-calls": 8, "full-disks": 4, "flips": 24, "raw-files": 12, "hostile-images": 10, "hostile-models": 10,
           "concurrency": 4}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("campaign")
    started = Bench.start(root, root / "log")
    started.build()
    yield started
    started.forge.close()
    if "other bench" in started.known:
        started.known["other bench"].forge.close()


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", list(CAMPAIGNS))
def test_a_short_campaign(bench: Bench, scratch: Path, name: str) -> None:
    if name == "full-disks" and os.geteuid() != 0:
        pytest.skip("only root may mount; not run")
    cases = list(dict.fromkeys(CAMPAIGNS[name].cases()))
    step = max(1, len(cases) // _TRIALS[name])  # cases spread over the list, with different commands per campaign
    trials = [TrialName(name, cases[(number * step) % len(cases)], number) for number in range(_TRIALS[name])]
    found = {str(trial): run_trial(CAMPAIGNS, trial, _SEED, bench, scratch / "trial") for trial in trials}
    assert not {trial: words for trial, words in found.items() if words}


def test_every_case_gets_its_turn() -> None:
    names = rounds(CAMPAIGNS, {"kills": 50}, endless=False)
    assert sum(name.campaign == "kills" for name in names) == 50
    assert {name.case for name in names if name.campaign == "flips"} == set(CAMPAIGNS["flips"].cases())
    assert len(set(names)) == len(names)


def test_the_page_counts_what_the_record_holds() -> None:
    failure = ["kills/shard/3", "left behind"]
    record = {
        "commands": ["x"], "minutes": 1, "seed": 1, "commit": "abc", "machine": "here",
        "campaigns": {"kills": {"shard": {"tried": 1200, "failures": [failure]}, "convert": {"tried": 30, "failures": []}}},
    }  # fmt: skip
    text = page(record, CAMPAIGNS)
    assert "**1,230 trials, 1 failure.**" in text
    assert "| shard | 1,200 | 1 |" in text
    assert "- `kills/shard/3`: left behind\n" in text
    failure.append("def")
    assert "**1,230 trials, 1 failure, 1 of them fixed since.**" in page(record, CAMPAIGNS)
    assert "- `kills/shard/3`: left behind (fixed in `def`)" in page(record, CAMPAIGNS)
