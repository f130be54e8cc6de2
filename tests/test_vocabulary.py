"""Terms that the project has replaced do not return: one term per concept, as docs/architecture.md has them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHERE = [
    "tests",
    "schemas",
    "pipeline",
    "training",
    "examples",
    "benchmarks",
    "docs",
    "README.md",
    "params.yaml",
    "dvc.yaml",
]
REPLACED = {
    "image": r"pictures?",
    "missing": r"(?:is|are) gone|mended|mends?",
    "baseline": r"floors?_\w+|\w+_floors?|the floor of",
    "evaluate": r"judge[sd]?|judging|unjudged",
    "ema_decay": r"average_decay|model\.average",
    "backbone_lr_scale": r"backbone_rate",
    "warmup_ratio, max_grad_norm": r"clip_norm|warmup_share",
    "synthetic": r"drawn garments?|garments? drawn",
    "flip, rotate": r"mirrored|mirroring|unmirrored|turned (?:left|right|upside|by|image)|turn_by",
    "similarity, distance": r"likeness(?:es)?",
    "print, log": r"(?:say|tell)_\w+|_say|_tell|say_each",
    "American spelling": r"\w*(?:colour|neighbour|behaviour|catalogue|centred|centre|unlabelled|labelled|labelling|normalis|"
    r"organis|initialis|optimis|recognis|summaris|minimis|maximis|serialis|learnt|whilst|honour|favour)\w*",
}  # fmt: skip
QUOTED = re.compile(r"Solid Colour/Pure Colour")  # words of raw files
HISTORY = {"docs/log.md", "docs/reliability.md"}  # records of what was true at a time


@pytest.fixture(scope="module")
def lines():
    listed = subprocess.run(["git", "ls-files", "-z", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        (f"{name}:{number}", QUOTED.sub("", line))
        for name in listed.stdout.split("\0")
        if name.endswith((".py", ".md", ".yaml", ".toml", ".html")) and (ROOT / name).exists()
        if name not in HISTORY and ROOT / name != Path(__file__)
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
    ]


@pytest.mark.parametrize("term", REPLACED)
def test_replaced_terms_do_not_return(lines, term):
    pattern = re.compile(rf"(?<!\w)(?:{REPLACED[term]})(?!\w)", re.IGNORECASE)
    found = [f"{where}: {line.strip()[:100]}" for where, line in lines if pattern.search(line)]
    assert not found, f"use {term!r} instead:\n" + "\n".join(found)
