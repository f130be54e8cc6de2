"""`docs/reliability.md` from the record of a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faults.campaign.trial import Campaign

from fschemas.wording import count

COMMAND = "python -m tests.faults.campaign"


def page(record: Mapping[str, Any], campaigns: Mapping[str, Campaign]) -> str:
    """The page as Markdown."""
    total = sum(case["tried"] for cases in record["campaigns"].values() for case in cases.values())
    failures = [
        failure for cases in record["campaigns"].values() for case in cases.values() for failure in case["failures"]
    ]
    fixed = sum(len(failure) > 2 for failure in failures)
    lines = [
        "# Reliability",
        "",
        "What happens to the commands when they are killed, when a disk fills up, when a bit flips, and when somebody feeds them",
        "what they were not made for. The page is generated: every figure is a count of",
        "",
        *(f"    {command}" for command in record["commands"]),
        "",
        (
            f"against the real commands on small synthetic data, {record['minutes']:.0f} minutes, seed {record['seed']}, commit "
            f"`{record['commit']}`, {record['machine']}."
        ),
        "",
        f"**{count(total, 'trial')}, {count(len(failures), 'failure')}{f', {fixed} of them fixed since' if fixed else ''}.**",
        "",
        "| campaign | fault | promise | trials | failed |",
        "|---|---|---|---|---|",
    ]
    for name, cases in record["campaigns"].items():
        tried, wrong = (
            sum(case["tried"] for case in cases.values()),
            sum(len(case["failures"]) for case in cases.values()),
        )
        lines.append(f"| {name} | {campaigns[name].about} | {campaigns[name].promise} | {tried:,} | {wrong} |")
    lines += [
        "",
        "A trial is named by campaign, case and number, and the seed decides everything about it, so a failure can be replayed:",
        "",
    ]
    lines += [f"    {COMMAND} --seed {record['seed']} --replay kills/shard/17", ""]
    lines += ["The moment of a kill is a share of the time that an undisturbed run takes on the same machine; a kill that needs an exact",
              "moment may take a few replays. `failing-calls` needs none: it counts calls, not seconds.", ""]  # fmt: skip
    for name, cases in record["campaigns"].items():
        lines += [f"## {name}", "", "| case | trials | failed |", "|---|---|---|"]
        lines += [
            f"| {case} | {entry['tried']:,} | {len(entry['failures'])} |" for case, entry in sorted(cases.items())
        ]
        failures = [failure for entry in cases.values() for failure in entry["failures"]]
        lines += [
            "",
            *(
                f"- `{trial}`: {words}{f' (fixed in `{commit[0]}`)' if commit else ''}"
                for trial, words, *commit in failures
            ),
        ]
        lines += [""] if failures else []
    lines += [
        "## What is not covered",
        "",
        "Power loss that reorders writes inside a disk (the order of writes, syncs and renames is checked instead, in",
        "`tests/faults`), NFS without working `flock`, object stores, and GPUs.",
        "",
    ]
    return "\n".join(lines).rstrip() + "\n"
