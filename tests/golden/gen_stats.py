"""Reference values of src/core/stats from scipy and statsmodels: gen_stats.py > stats.json

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


def studentized(values, weights):
    """The bootstrap-t interval of sum(values) / sum(weights), over pairs."""
    def ratio(v, w):
        found = v.sum(-1) / w.sum(-1)
        squares = ((v - found[..., None] * w) ** 2).sum(-1)
        n = v.shape[-1]
        return found, np.sqrt(squares / (n - 1) * n) / w.sum(-1)

    found, error = ratio(values, weights)
    distances = []
    for _ in range(RESAMPLES // 5000):
        chosen = rng.integers(0, len(values), (5000, len(values)))
        own, own_error = ratio(values[chosen], weights[chosen])
        distances.append((own - found) / own_error)
    low, high = np.percentile(np.concatenate(distances), [2.5, 97.5])
    return [float(found - error * high), float(found - error * low)]


def mean_interval():
    values = rng.gamma(2.0, 0.3, size=80)
    return dict(values=values.tolist(), interval=studentized(values, np.ones(80)))


def perplexity_interval():
    tokens = rng.integers(5, 400, size=60)
    nll = tokens * rng.normal(2.5, 0.4, size=60)
    return dict(nll=nll.tolist(), tokens=tokens.tolist(), interval=np.exp(studentized(nll, tokens)).tolist())


def paired():
    b = rng.normal(0.5, 0.2, size=15)
    a = b + rng.normal(0.08, 0.15, size=15)
    test = stats.ttest_rel(a, b)
    return dict(a=a.tolist(), b=b.tolist(),
                t_test=dict(p_value=float(test.pvalue), interval=list(map(float, test.confidence_interval()))))


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
    mean=mean_interval(), perplexity=perplexity_interval(), paired=paired(), holm=holm(),
    kappas=kappas(), bradley_terry=bradley_terry(),
    bradley_terry_with_prior=bradley_terry_with_prior()), indent=1))
