"""Reference values of src/stats from scipy and statsmodels: gen_stats.py > stats.json

Needs numpy, scipy and statsmodels; reads the games of bradley_terry.json beside it. The intervals are of many
resamples, so that only the tested side's error counts.
"""
import json
import math
import os

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa
from statsmodels.stats.multitest import multipletests

rng = np.random.default_rng(11)
RESAMPLES = 200_000


def interval(values):
    return [float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))]


def mean_interval():
    values = rng.gamma(2.0, 0.3, size=80)
    found = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng, batch=5000)
    return dict(values=values.tolist(), interval=list(map(float, found.confidence_interval)))


def perplexity_interval():
    tokens = rng.integers(5, 400, size=60)
    nll = tokens * rng.normal(2.5, 0.4, size=60)
    found = stats.bootstrap((nll, tokens), lambda n, t, axis: np.exp(n.sum(axis) / t.sum(axis)), paired=True,
                            vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=rng, batch=5000)
    return dict(nll=nll.tolist(), tokens=tokens.tolist(), interval=list(map(float, found.confidence_interval)))


def paired():
    b = rng.normal(0.5, 0.2, size=15)
    a = b + rng.normal(0.08, 0.15, size=15)
    difference = a - b
    found = stats.bootstrap((difference,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng, batch=5000)
    exact = stats.permutation_test((a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
                                   vectorized=True, n_resamples=np.inf)
    return dict(a=a.tolist(), b=b.tolist(), difference=float(difference.mean()),
                interval=list(map(float, found.confidence_interval)), p_value=float(exact.pvalue),
                effect_size=float(difference.mean() / difference.std(ddof=1)))


def grid():
    """Scores by seed and question of two variants, resampled over seeds (each variant's own) and questions (shared)."""
    question = rng.normal(0, 0.3, size=40)
    arm = lambda mean, seeds: mean + question + rng.normal(0, 0.1, (seeds, 1)) + rng.normal(0, 0.2, (seeds, 40))
    a, b = arm(0.6, 5), arm(0.5, 4)
    differences = []
    for _ in range(50_000):
        columns = rng.integers(0, 40, 40)
        pick = lambda x: x[rng.integers(0, len(x), len(x))].mean(0)[columns].mean()
        differences.append(pick(a) - pick(b))
    return dict(a=a.tolist(), b=b.tolist(), difference=float(a.mean() - b.mean()), interval=interval(differences))


def holm():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.2, 0.04, 0.9]
    return dict(p_values=p_values, adjusted=multipletests(p_values, method="holm")[1].tolist())


def kappas():
    one = rng.integers(0, 3, size=120)
    other = np.where(rng.random(120) < 0.6, one, rng.integers(0, 3, size=120))
    table = np.zeros((3, 3))
    np.add.at(table, (one, other), 1)
    verdicts = np.array([rng.multinomial(5, rng.dirichlet([0.6, 0.6, 0.6])) for _ in range(50)])
    return dict(one=one.tolist(), other=other.tolist(), cohen=float(cohens_kappa(table).kappa),
                counts=verdicts.tolist(), fleiss=float(fleiss_kappa(verdicts)))


def fit(games, players, sd=math.inf):
    """Ratings centred on 0; the optimizer works in log-odds and is only believed where the gradient vanishes."""
    i, j, y = (np.array(column) for column in zip(*games))
    scale = 400 / math.log(10)
    precision = (scale / sd) ** 2

    def loss(x):
        lead = x[i] - x[j]
        return (y * np.logaddexp(0, -lead) + (1 - y) * np.logaddexp(0, lead)).sum() + precision * (x @ x) / 2

    def gradient(x):
        surprise, out = 1 / (1 + np.exp(x[j] - x[i])) - y, precision * x
        np.add.at(out, i, surprise)
        np.add.at(out, j, -surprise)
        return out

    x = optimize.minimize(loss, np.zeros(players), jac=gradient, method="BFGS", options=dict(gtol=1e-9)).x
    assert np.abs(gradient(x)).max() < 1e-6, "not a maximum"
    return ((x - x.mean()) * scale).tolist()


def bradley_terry():
    with open(os.path.join(os.path.dirname(__file__), "bradley_terry.json")) as file:
        games = json.load(file)["games"]
    names = sorted({name for game in games for name in game[:2]})
    ratings = fit([(names.index(a), names.index(b), y) for a, b, y in games], len(names))
    return dict(names=names, elo=ratings)


def bradley_terry_with_prior():
    """A model that wins every game has a finite rating only under the prior."""
    games = [(0, 1, 1.0), (0, 2, 1.0), (0, 1, 1.0), (1, 2, 0.5), (1, 2, 1.0), (2, 1, 1.0), (2, 1, 1.0), (0, 2, 1.0)]
    return dict(games=games, prior_sd_elo=200.0, elo=fit(games, 3, sd=200.0))


print(json.dumps(dict(
    mean=mean_interval(), perplexity=perplexity_interval(), paired=paired(), grid=grid(), holm=holm(),
    kappas=kappas(), bradley_terry=bradley_terry(),
    bradley_terry_with_prior=bradley_terry_with_prior()), indent=1))
