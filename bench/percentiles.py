#!/usr/bin/env python3
"""Computes from every single answer what `bulkhead-bench load` told, and says where the two differ.

    bulkhead-bench load URL … --samples samples.csv --output result.json
    python3 bench/percentiles.py samples.csv result.json

It sorts all samples and takes the nearest rank, with nothing of the program's own in between: no sketch, no buckets. Counts must be
the same; times may differ by 2 %. Exit code 0 when they agree, 1 when they do not, 2 for wrong usage. Standard library only.
"""

import csv
import json
import math
import sys
from collections import Counter, defaultdict

TOLERANCE = 0.02
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999, "max": 1.0}


def nearest_rank(ordered, share):
    """The smallest sample that `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def exact(samples):
    """Every figure of some samples, in microseconds as the result has them."""
    ordered = sorted(samples)
    figures = {name: nearest_rank(ordered, share) / 1e3 for name, share in QUANTILES.items()}
    figures["mean"] = sum(ordered) / len(ordered) / 1e3
    return figures


class Agreement:
    """Compares figure by figure and remembers what differs most."""

    def __init__(self):
        self.compared = 0
        self.furthest = 0.0
        self.wrong = []

    def times(self, where, told, samples):
        for name, value in exact(samples).items():
            off = abs(told[name] - value) / value if value else abs(told[name])
            self.compared += 1
            self.furthest = max(self.furthest, off)
            if off > TOLERANCE:
                self.wrong.append(f"{where} {name}: told {told[name]:.3f} µs, it is {value:.3f} µs ({off:.1%} off)")

    def counts(self, where, told, rows):
        self.compared += 1
        found = dict(Counter(row["status"] for row in rows))
        if told != found:
            self.wrong.append(f"{where} statuses: told {told}, they are {found}")


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[0], newline="") as file:
        rows = list(csv.DictReader(file))
    with open(arguments[1]) as file:
        result = json.load(file)
    if not rows:
        print("there are no samples", file=sys.stderr)
        return 1
    agreement = Agreement()
    groups = defaultdict(list)
    for row in rows:
        groups[row["tenant"]].append(row)
    told = [("all", result["all"], rows)] + [(name, result["tenants"][name], of) for name, of in groups.items()]
    for where, of, own in told:
        agreement.counts(where, of["statuses"], own)
        for kind in ("latency", "service"):
            agreement.times(f"{where} {kind}", of[kind], [int(row[kind]) for row in own])
    agreement.times("lag", result["lag"], [int(row["lag"]) for row in rows])
    for wrong in agreement.wrong:
        print(wrong)
    print(f"{len(rows)} samples, {agreement.compared} figures; the furthest is {agreement.furthest:.2%} off")
    return 1 if agreement.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
