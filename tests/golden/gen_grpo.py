"""Reference values for the GRPO objective, in float64, by the formulas of the papers: gen_grpo.py OUT_DIR [--seed 0] [--trl]

Writes grpo_variants.json:
  cases   the loss of every `loss_type` on random inputs, with and without the KL penalty and the entropy bonus
  gdpo    advantages of GDPO (arXiv:2601.05242): each component normalized in its group, their weighted sum over the batch; with
          completions that lack a component
  component_std       the same with a deviation averaged over steps, and with ranks
  advantage_variants  leave-one-out and MaxRL: random rewards, 0 and 1, equal ones, a missing one
Needs numpy. With --trl (trl 1.16, torch 2.11) every loss is also computed by `GRPOTrainer._compute_loss` of TRL itself, on the same
numbers, and must agree to 1e-9; except where TRL differs on purpose: its CISPO takes the cap itself as `epsilon_high`, ours 1 + clip_high, and
its entropy bonus is a mean over tokens whatever the loss type, ours has the weights of the loss, which is the same for `dapo` and `cispo`.
"""
import argparse, json, os
import numpy as np

p = argparse.ArgumentParser(); p.add_argument("out"); p.add_argument("--seed", type=int, default=0); p.add_argument("--trl", action="store_true")
a = p.parse_args()
rng = np.random.default_rng(a.seed)
GROUPS, SIZE, T, MAX = 3, 4, 9, 12
lengths = rng.integers(2, T + 1, GROUPS * SIZE)
old = -2 * rng.random((GROUPS * SIZE, T)); new = old + 0.4 * rng.standard_normal(old.shape); ref = old + 0.2 * rng.standard_normal(old.shape)
entropy = 3 * rng.random(old.shape); advantages = rng.standard_normal(GROUPS * SIZE)

def loss(kind, low, high, beta, bonus):
    """The loss of the whole step, sequence by sequence, as the papers write it."""
    sequences = []
    for i, n in enumerate(lengths):
        ratio, adv, logp = np.exp(new[i, :n] - old[i, :n]), advantages[i], new[i, :n]
        if kind == "gspo":  # arXiv:2507.18071, eq. 7: (pi / pi_old) ** (1 / n), one for all tokens
            ratio = np.full(n, np.prod(ratio) ** (1 / n))
        if kind == "cispo":  # arXiv:2506.13585, eq. 4 and 5 without a lower bound
            gain = np.minimum(ratio, 1 + high) * adv * logp
        elif adv > 0:
            gain = np.minimum(ratio, 1 + high) * adv
        else:
            gain = np.maximum(ratio, 1 - low) * adv
        k3 = np.exp(ref[i, :n] - logp) - (ref[i, :n] - logp) - 1
        sequences.append(-gain + beta * k3 - bonus * entropy[i, :n])
    total = sum(s.sum() for s in sequences)
    return {"grpo": np.mean([s.mean() for s in sequences]), "gspo": np.mean([s.mean() for s in sequences]), "dapo": total / lengths.sum(),
            "cispo": total / lengths.sum(), "dr_grpo": total / (len(sequences) * MAX)}[kind]

def trl_loss(kind, low, high, beta, bonus):
    """The same by TRL: its method on an object that has what the method reads."""
    import collections, types, torch
    from trl import GRPOTrainer
    t = lambda x: torch.tensor(x, dtype=torch.float64)
    mask = t([[float(j < n) for j in range(T)] for n in lengths])
    args = types.SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1, entropy_target=None)
    accelerator = types.SimpleNamespace(num_processes=1, sync_gradients=True, gather=lambda x: x, reduce=lambda x, **_: x, gather_for_metrics=lambda x: x)
    self = types.SimpleNamespace(
        args=args, accelerator=accelerator, model=types.SimpleNamespace(training=True), aux_loss_enabled=False, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, importance_sampling_level="sequence" if kind == "gspo" else "token", beta=beta,
        loss_type="grpo" if kind == "gspo" else kind, epsilon_low=low, epsilon_high=1 + high if kind == "cispo" else high, use_vllm=False,
        vllm_importance_sampling_correction=False, current_gradient_accumulation_steps=1, max_completion_length=MAX, entropy_coef=bonus,
        _entropy_bonus_enabled=bonus != 0, use_adaptive_entropy=False, _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *_, **__: (t(new), t(entropy), None))
    ids = torch.zeros(len(lengths), T, dtype=torch.long)
    inputs = dict(prompt_ids=ids[:, :1], prompt_mask=torch.ones(len(lengths), 1), completion_ids=ids, completion_mask=mask, advantages=t(advantages),
                  old_per_token_logps=t(old), ref_per_token_logps=t(ref), num_items_in_batch=mask.sum())
    return float(GRPOTrainer._compute_loss(self, None, inputs))

cases = []; compared = 0
for kind in ("grpo", "dapo", "dr_grpo", "gspo", "cispo"):
    for low, high in ((0.2, 0.28), (0.05, 0.1)):
        for beta in (0.0, 0.04):
            for bonus in (0.0, 0.01):
                value = float(loss(kind, low, high, beta, bonus))
                if a.trl and (bonus == 0 or kind in ("dapo", "cispo")):
                    theirs = trl_loss(kind, low, high, beta, bonus); compared += 1
                    assert abs(value - theirs) < 1e-9, (kind, low, high, beta, bonus, value, theirs)
                cases.append(dict(loss_type=kind, clip_low=low, clip_high=high, kl_coef=beta, entropy_coef=bonus, loss=value))
if a.trl: print(compared, "of", len(cases), "losses equal TRL's")

# --- GDPO ---------------------------------------------------------------------------------------------------------
columns = dict(right=rng.integers(0, 2, GROUPS * SIZE).astype(float), meaning=0.5 + 0.03 * rng.standard_normal(GROUPS * SIZE), format=np.ones(GROUPS * SIZE))
columns["format"][1] = 0.0; columns["meaning"][6] = np.nan; weights = dict(right=1.0, meaning=2.0, format=0.5)
whole = ~np.isnan(sum(columns.values())); summed = np.zeros(GROUPS * SIZE)
for name, column in columns.items():
    for g in range(GROUPS):
        rows = [i for i in range(g * SIZE, (g + 1) * SIZE) if whole[i]]; values = column[rows]
        summed[rows] += weights[name] * (values - values.mean()) / (values.std(ddof=1) + 1e-4)
kept = summed[whole]; final = (summed - kept.mean()) / (kept.std(ddof=1) + 1e-4)
def numbers(values): return [None if np.isnan(v) else float(v) for v in values]
gdpo = dict(group_size=SIZE, columns=[dict(name=n, weight=weights[n], values=numbers(c)) for n, c in columns.items()],
            advantages=[float(v) if w else None for v, w in zip(final, whole)])
# --- component_std: a deviation averaged over steps (decay .9, corrected as in Adam), or midranks -----------------------------------
later = np.random.default_rng(a.seed + 1)  # its own, so that the numbers above stay as they are
def groups_of(whole): return [[i for i in range(g * SIZE, (g + 1) * SIZE) if whole[i]] for g in range(GROUPS)]
def normalized(summed, whole):
    kept = summed[whole]; return [float((v - kept.mean()) / (kept.std(ddof=1) + 1e-4)) if w else None for v, w in zip(summed, whole)]
average = {n: 0.0 for n in weights}; steps = []
for t in range(1, 4):
    values = dict(right=later.integers(0, 2, GROUPS * SIZE).astype(float), meaning=0.5 + 0.03 * t * later.standard_normal(GROUPS * SIZE), format=np.ones(GROUPS * SIZE))
    values["format"][t] = 0.0
    if t == 2: values["meaning"][6] = np.nan
    whole = ~np.isnan(sum(values.values())); by_std = np.zeros(GROUPS * SIZE); by_rank = np.zeros(GROUPS * SIZE); std = {}
    for name, column in values.items():
        squares = sum(((column[rows] - column[rows].mean()) ** 2).sum() for rows in groups_of(whole))
        pooled = np.sqrt(squares / sum(len(rows) - 1 for rows in groups_of(whole)))
        average[name] = 0.9 * average[name] + 0.1 * pooled; std[name] = float(average[name] / (1 - 0.9 ** t))
        for rows in groups_of(whole):
            x = column[rows]; by_std[rows] += weights[name] * (x - x.mean()) / (std[name] + 1e-4)
            midrank = np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x])
            by_rank[rows] += weights[name] * (midrank - (len(x) + 1) / 2) / len(x)
    steps.append(dict(columns=[dict(name=n, weight=weights[n], values=numbers(c)) for n, c in values.items()], std=std, running=normalized(by_std, whole), rank=normalized(by_rank, whole)))
component_std = dict(group_size=SIZE, steps=steps)

# --- advantages: leave-one-out (arXiv:2402.14740; TRL's RLOOTrainer), and divided by the mean (MaxRL, arXiv:2602.02710; prime-rl) ----------
def variants(rewards):
    loo, mean = np.full(len(rewards), np.nan), np.full(len(rewards), np.nan)
    for g in range(0, len(rewards), SIZE):
        rows = [i for i in range(g, g + SIZE) if not np.isnan(rewards[i])]; x = rewards[rows]
        loo[rows] = x - np.array([np.delete(x, i).mean() for i in range(len(x))])
        mean[rows] = (x - x.mean()) / x.mean() if x.mean() > 0 else 0.0
    batch = loo / (np.nanstd(rewards, ddof=1) + 1e-4)
    return dict(rewards=numbers(rewards), leave_one_out=numbers(loo), leave_one_out_batch=numbers(batch), mean=numbers(mean))
with_gap = later.random(8); with_gap[2] = np.nan
advantage_variants = [variants(x) for x in (later.standard_normal(12), later.integers(0, 2, 12).astype(float), np.repeat([0.0, 0.3, 1.0], 4), with_gap)]
rows = lambda x: [[float(v) for v in row] for row in x]
json.dump(dict(max_new_tokens=MAX, lengths=[int(n) for n in lengths], logprobs=rows(new), sampling_logprobs=rows(old), ref_logprobs=rows(ref), entropy=rows(entropy),
    advantages=[float(v) for v in advantages], cases=cases, gdpo=gdpo, component_std=component_std,
    advantage_variants=advantage_variants), open(os.path.join(a.out, "grpo_variants.json"), "w"), indent=1)
