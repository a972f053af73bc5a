"""Reference values of the measurements of judges: gen_judges.py > judges.json

Needs krippendorff and statsmodels.
"""
import json

import krippendorff
import numpy as np
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(5)


def wilson(successes, count):
    low, high = proportion_confint(successes, count, alpha=0.05, method="wilson")
    return dict(successes=successes, count=count, low=float(low), high=float(high))


def alpha(raters, missing):
    items = rng.integers(1, 6, size=(1, 30)) / 5
    ratings = np.clip(items + rng.normal(0, 0.15, (raters, 30)), 0, 1)
    ratings[rng.random(ratings.shape) < missing] = np.nan
    found = krippendorff.alpha(reliability_data=ratings, level_of_measurement="interval")
    return dict(ratings=[[x for x in item.tolist() if x == x] for item in ratings.T], alpha=float(found))


print(json.dumps(dict(
    wilson=[wilson(*case) for case in [(0, 5), (5, 5), (1, 1), (3, 10), (40, 120), (999, 1000)]],
    krippendorff=[alpha(2, 0.0), alpha(3, 0.0), alpha(4, 0.3)]), indent=1))
