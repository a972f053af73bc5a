"""Reference values of what `compare` computes, from scipy and statsmodels: gen_comparison.py > comparison.json

Needs numpy, pandas, scipy and statsmodels. The variance components come from the mean squares of statsmodels' two-way
analysis of variance; their chi-squared distributions are drawn in numpy, so often that only the tested side's error counts.
"""
import json
import math
import sys

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestPower

rng = np.random.default_rng(23)
DRAWS = 1_000_000


def student():
    cases = [(0.3, 1.0), (2.5, 2.0), (-4.1, 2.7), (1.96, 30.0), (3.2, 998.0), (12.0, 5.5), (0.0, 4.0)]
    return [dict(t=t, df=df, p=float(2 * stats.t.sf(abs(t), df)), quantile=float(stats.t.ppf(0.975, df)))
            for t, df in cases]


def mean_squares(x):
    """Of seeds, questions and the rest."""
    seeds, questions = x.shape
    frame = pd.DataFrame(dict(value=x.ravel(), seed=np.repeat(np.arange(seeds), questions),
                              question=np.tile(np.arange(questions), seeds)))
    table = anova_lm(ols("value ~ C(seed) + C(question)", frame).fit())
    return [float(table["mean_sq"][row]) for row in ("C(seed)", "C(question)", "Residual")]


def crossed(a, b, paired):
    """Generalized tests and intervals of mean(a) - mean(b); a and b are (seeds, questions)."""
    groups = [a - b] if paired else [a, -b]
    questions = a.shape[1]
    by_question = sum(x.mean(0) for x in groups)
    difference = by_question.mean()
    of_means = by_question.var(ddof=1) / questions
    if paired and len(a) > 1:  # the same by the mean squares: MS(question) / (seeds questions)
        assert math.isclose(of_means, mean_squares(a - b)[1] / (a - b).size)
    variance = lambda estimate, df: estimate * df / rng.chisquare(df, DRAWS)
    squared = variance(of_means, questions - 1)
    for x in groups:
        if len(x) > 1:
            of_seeds, _, rest = (value / x.size for value in mean_squares(x))
            squared += np.maximum(variance(of_seeds, len(x) - 1)
                                  - variance(rest, (len(x) - 1) * (questions - 1)), 0)
    error = np.sqrt(squared)
    outside = lambda distance: float(np.mean(2 * stats.norm.sf(distance / error)))
    half = optimize.brentq(lambda distance: outside(distance) - 0.05, 0, 1e3 * error.mean())
    return dict(a=a.tolist(), b=b.tolist(), paired=paired, difference=float(difference), p_value=outside(abs(difference)),
                interval=[float(difference - half), float(difference + half)])


def crossed_cases():
    question = rng.normal(0, 0.3, size=25)

    def arm(mean, seeds, between):
        return mean + question + rng.normal(0, between, (seeds, 1)) + rng.normal(0, 0.2, (seeds, 25))

    return [crossed(arm(0.6, 3, 0.05), arm(0.5, 3, 0.05), True), crossed(arm(0.6, 5, 0.1), arm(0.5, 3, 0.1), False),
            crossed(arm(0.5, 3, 0.0), arm(0.5, 3, 0.0), True), crossed(arm(0.6, 4, 0.1), arm(0.5, 1, 0.1), False),
            crossed(arm(0.6, 1, 0.1), arm(0.5, 1, 0.1), True)]


def effects():
    a, b = np.round(rng.normal(0.6, 0.2, 30), 1), np.round(rng.normal(0.5, 0.2, 30), 1)
    d = a - b
    u = stats.mannwhitneyu(a, b).statistic
    return dict(a=a.tolist(), b=b.tolist(), hedges_g=float(d.mean() / d.std(ddof=1) * (1 - 3 / (4 * (len(d) - 1) - 1))),
                cliffs_delta=float(2 * u / (len(a) * len(b)) - 1))


def power():
    return [dict(effect=effect, alpha=alpha, n=float(TTestPower().solve_power(effect, alpha=alpha, power=0.8)))
            for effect in (0.1, 0.3, 0.5, 1.0, 2.0) for alpha in (0.05, 0.005)]


def seeds():
    a, b = rng.normal(2.1, 0.2, size=5), rng.normal(1.8, 0.1, size=4)
    paired, unpaired = stats.ttest_rel(a[:4], b), stats.ttest_ind(a, b, equal_var=False)
    result = lambda test: dict(p_value=float(test.pvalue), interval=list(map(float, test.confidence_interval())))
    return dict(a=a.tolist(), b=b.tolist(), paired=result(paired), unpaired=result(unpaired))


json.dump(dict(student=student(), crossed=crossed_cases(), effects=effects(), power=power(), seeds=seeds()), sys.stdout,
          indent=1)
print()
