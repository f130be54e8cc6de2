"""Generate `docs/reliability.md` from the record of a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faults.campaign.trial import Campaign

from fschemas.wording import count

COMMAND = "python -m tests.faults.campaign"


def page(record: Mapping[str, Any], campaigns: Mapping[str, Campaign]) -> str:
    """Render the page as Markdown."""
    total = sum(case["tried"] for cases in record["campaigns"].values() for case in cases.values())
    failures = [
        failure for cases in record["campaigns"].values() for case in cases.values() for failure in case["failures"]
    ]
    fixed = sum(len(failure) > 2 for failure in failures)
    lines = [
        "# Reliability",
        "",
        "What happens when a command is killed, a disk fills up, a bit flips, or the input is hostile. This page is generated. All",
        "numbers are counts from",
        "",
        *(f"    {command}" for command in record["commands"]),
        "",
        (
            f"run against the real commands on small synthetic data, {record['minutes']:.0f} minutes, seed {record['seed']}, commit "
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
        "A trial is identified by campaign, case and number. The seed determines everything else, so a failure can be replayed:",
        "",
    ]
    lines += [f"    {COMMAND} --seed {record['seed']} --replay kills/shard/17", ""]
    lines += ["The time of a kill is a fraction of the duration of an undisturbed run on the same machine, so a kill that needs exact",
              "timing may take a few replays. `failing-calls` does not: it counts calls, not seconds.", ""]  # fmt: skip
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
