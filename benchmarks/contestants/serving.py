"""Protocol between `benchmarks/peers.py` and a contestant, and the CPU time of a process with all its children.

A contestant is a process that prints its version, then reads numbers from its standard input: for each it processes at
least as many images and prints how many it did and what they cost. It stays idle in between, so contestants alternate
without starting anew.
"""

import json
import os
import sys
import time
from collections.abc import Iterator

_TICK = os.sysconf("SC_CLK_TCK")


def tree_cpu() -> float:
    """CPU seconds of this process, its living descendants, and those that they have waited for."""
    children: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        spent[int(name)] = sum(map(int, fields[11:15]))  # user and system time, and those of its dead children
    tree = [os.getpid()]
    for process in tree:
        tree += children.get(process, [])
    return sum(spent.get(process, 0) for process in tree) / _TICK


def settled_cpu() -> float:
    """`tree_cpu` once workers that read ahead have been idle for a second, after a minute at the latest."""
    last, quiet = tree_cpu(), 0
    for _ in range(120):
        time.sleep(0.5)
        now = tree_cpu()
        quiet = quiet + 1 if now - last <= 0.02 else 0
        last = now
        if quiet == 2:
            break
    return last


def serve(batches: Iterator[int], version: str) -> None:
    """Process images until standard input ends; `batches` yields the number of images of each batch."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not a reply
    print(json.dumps({"version": version}), file=replies, flush=True)
    for line in sys.stdin:
        start, done = tree_cpu(), 0  # idle since the last turn
        while done < int(line):
            done += next(batches)
        print(json.dumps({"images": done, "cpu": max(settled_cpu() - start, 1 / _TICK)}), file=replies, flush=True)
