"""Collects comparisons and prints them: one line each, and at the end whether all agree."""
import math


class Report:
    """Comparisons so far."""

    def __init__(self):
        self.failed = []

    def row(self, name, count, difference, most, unit=""):
        """One comparison of `count` values, of which the largest `difference` may be `most`."""
        agrees = difference <= most
        verdict = "agrees" if agrees else "DIFFERS"
        print(f"{verdict:8} {name:52} {count:7,} values, largest difference {difference:.2g}{unit} (at most {most:.2g})", flush=True)
        if not agrees:
            self.failed.append(name)

    def same(self, name, pairs):
        """Pairs that must be equal."""
        pairs = list(pairs)
        different = [pair for pair in pairs if pair[0] != pair[1]]
        verdict = "DIFFERS" if different or not pairs else "agrees"
        print(f"{verdict:8} {name:52} {len(pairs) - len(different):,} of {len(pairs):,} the same", flush=True)
        for ours, theirs in different[:2]:
            print(f"         here: {repr(ours)[:300]}\n         there: {repr(theirs)[:300]}")
        if different or not pairs:
            self.failed.append(name)


def largest(pairs):
    """The largest absolute difference in pairs of numbers; infinite where only one of them is a number."""
    most = 0.0
    for a, b in pairs:
        if math.isnan(a) != math.isnan(b):
            return math.inf
        if not math.isnan(a):
            most = max(most, abs(a - b))
    return most
