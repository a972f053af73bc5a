"""Levels of a repeated t test under alpha spending, by simulation in numpy: gen_repeated.py > repeated.json

Needs numpy and scipy. The t statistics are computed by scipy.stats.ttest_1samp over the first n numbers, in draws of their
own and ten times as many as the program's.
"""
import json
import sys

import numpy as np
from scipy import stats

PATHS = 2_000_000


def levels(first, most, alpha):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((PATHS, most))
    open_ = np.ones(PATHS, bool)
    found = []
    for n in range(first, most + 1):
        p = stats.ttest_1samp(x[:, :n], 0.0, axis=1).pvalue
        target = alpha * (n / most) ** 2 * PATHS
        cross = int(target) - int((~open_).sum())
        level = np.partition(p[open_], cross - 1)[cross - 1]
        found.append(float(level))
        open_ &= p > level
    return dict(first=first, most=most, alpha=alpha, levels=found)


cases = [(3, 10, 0.05), (3, 10, 0.05 / 3), (2, 6, 0.05), (5, 12, 0.025)]
json.dump([levels(*case) for case in cases], sys.stdout, indent=1)
print()
