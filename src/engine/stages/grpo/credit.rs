//! The credit of the tokens of completions, where they do not all get the advantage of their completion.

use super::super::scoring::{SampledCompletion, or_stopped, unrated};
use super::update::{Rated, Reference, TokenAdvantages, UpdateOptions, reference_logprobs};
use crate::error::StageResult;
use crate::loss::{dealt, soft_returns};
use crate::policy::Policy;
use crate::seed;
use crate::tokenizer::Tokenizer;
use orchestrate_core::recipe::spec::{CreditSpec, GrpoSpec, SoftReturnSpec};
use orchestrate_core::rewards::credit::{Cut, OwenSpec};
use orchestrate_core::rewards::{RewardMix, Sample, Scope, place};
use std::collections::BTreeMap;
use std::ops::Range;

/// The advantages of the tokens of a rollout's completions.
pub(super) struct Credits {
    /// For each completion, the advantages of its tokens; absent for a completion whose tokens get its advantage alike.
    tokens: Vec<Option<Vec<f64>>>,
    pub(super) metrics: BTreeMap<String, f64>,
}

impl Credits {
    /// The advantages of the tokens of the completions in `range`.
    pub(super) fn of(&self, range: Range<usize>) -> impl Iterator<Item = Option<&[f64]>> {
        self.tokens.get(range).unwrap_or_default().iter().map(Option::as_deref)
    }

    /// Gives every token the advantage of its completion.
    fn alike(completions: usize) -> Self {
        Self { tokens: vec![None; completions], metrics: BTreeMap::new() }
    }
}

/// A rollout of which the credits are computed.
pub(super) struct Earned<'r, 'a> {
    pub(super) answers: &'r [SampledCompletion<'a>],
    pub(super) advantages: &'r [Option<f64>],
    /// The stage's seed.
    pub(super) seed: u64,
    pub(super) step: u64,
}

/// Returns the credits of a rollout. Returns `None` if rating was requested to stop.
pub(super) fn credits(
    spec: &GrpoSpec,
    policy: &mut Policy<'_>,
    reference: Option<&Reference>,
    reward_mix: &mut RewardMix,
    options: UpdateOptions,
    earned: &Earned<'_, '_>,
) -> StageResult<Option<Credits>> {
    match (&spec.credit, reference) {
        (Some(CreditSpec::Owen(owen)), _) => by_segments(owen, &policy.tokenizer, reward_mix, earned),
        (Some(CreditSpec::SoftReturn(soft)), Some(reference)) => {
            Ok(Some(by_divergence(soft, spec, policy, reference, options, earned)))
        }
        _ => Ok(Some(Credits::alike(earned.answers.len()))),
    }
}

/// The part of a completion that a component reads, cut into segments.
struct Part {
    /// The position of the completion.
    answer: usize,
    place: Range<usize>,
    cut: Cut,
}

fn by_segments(
    owen: &OwenSpec,
    tokenizer: &Tokenizer,
    reward_mix: &mut RewardMix,
    earned: &Earned<'_, '_>,
) -> StageResult<Option<Credits>> {
    let scope = reward_mix.scope(&owen.of).cloned().unwrap_or(Scope::Completion);
    let is_credited = |answer: &usize| earned.advantages[*answer].is_some_and(|advantage| advantage != 0.0);
    let credited = (0..earned.answers.len()).filter(is_credited);
    let parts: Vec<Part> = credited.filter_map(|answer| part(owen, &scope, earned, answer)).collect();
    let of_part = |part: &Part| vec![earned.answers[part.answer].sample(); part.cut.coalitions.len()];
    let samples: Vec<Sample<'_>> = parts.iter().flat_map(of_part).collect();
    let texts: Vec<&str> = parts.iter().flat_map(|part| part.cut.coalitions.iter().map(String::as_str)).collect();
    let values = reward_mix.values_of_texts(&owen.of, &samples, &texts).map_err(unrated);
    let Some(mut values) = or_stopped(values)?.map(Vec::into_iter) else { return Ok(None) };
    let mut credits = Credits::alike(earned.answers.len());
    let mut credited = 0;
    for Part { answer, place, cut } in &parts {
        let own: Vec<Option<f64>> = values.by_ref().take(cut.coalitions.len()).collect();
        // without one of its values, nothing is known of a segment
        let Some(own) = own.into_iter().collect::<Option<Vec<f64>>>() else { continue };
        let ends = tokenizer.ends(&earned.answers[*answer].sampled.ids);
        let advantage = earned.advantages[*answer].unwrap_or(0.0);
        credits.tokens[*answer] = Some(of_tokens(owen, (place, cut), &cut.credits(&own), &ends, advantage));
        credited += 1;
    }
    let alike = (0..earned.answers.len()).filter(is_credited).count() - credited;
    credits.metrics = [("credit/coalitions", texts.len()), ("credit/alike", alike)]
        .map(|(name, count)| (name.to_owned(), count as f64))
        .into();
    Ok(Some(credits))
}

/// Cuts the part of a completion that is in `scope`. Returns `None` if it has fewer than two segments.
fn part(owen: &OwenSpec, scope: &Scope, earned: &Earned<'_, '_>, answer: usize) -> Option<Part> {
    let text = &earned.answers[answer].text;
    let place = place(text, scope)?;
    let seed = seed::derive(earned.seed, &["credit", &earned.step.to_string(), &answer.to_string()]);
    let cut = Cut::of(&text[place.clone()], owen, seed)?;
    Some(Part { answer, place, cut })
}

/// Returns the advantages of a completion's tokens, which end at `ends`. Tokens outside the text that was cut keep the
/// advantage of the completion.
fn of_tokens(
    owen: &OwenSpec,
    (place, cut): (&Range<usize>, &Cut),
    credits: &[f64],
    ends: &[usize],
    advantage: f64,
) -> Vec<f64> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let tokens: Vec<Range<usize>> = starts.zip(ends).map(|(start, &end)| start..end).collect();
    let inside: Vec<usize> = (0..tokens.len()).filter(|token| common(&tokens[*token], place) > 0).collect();
    let credit = |token: &usize| {
        let at = |segment: &Range<usize>| place.start + segment.start..place.start + segment.end;
        let parts: Vec<f64> = cut.segments.iter().map(|segment| common(&tokens[*token], &at(segment)) as f64).collect();
        let sum: f64 = parts.iter().sum();
        let weighted: f64 = parts.iter().zip(credits).map(|(part, credit)| part * credit).sum();
        if sum > 0.0 { weighted / sum } else { 0.0 }
    };
    let of_inside = dealt(advantage, &inside.iter().map(credit).collect::<Vec<f64>>(), owen.floor, owen.sign);
    let mut found = vec![advantage; tokens.len()];
    for (token, own) in inside.into_iter().zip(of_inside) {
        found[token] = own;
    }
    found
}

/// Returns the number of bytes that two ranges have in common.
fn common(one: &Range<usize>, other: &Range<usize>) -> usize {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}

fn by_divergence(
    soft: &SoftReturnSpec,
    spec: &GrpoSpec,
    policy: &mut Policy<'_>,
    reference: &Reference,
    options: UpdateOptions,
    earned: &Earned<'_, '_>,
) -> Credits {
    let mut credits = Credits::alike(earned.answers.len());
    let taking_part: Vec<usize> =
        (0..earned.answers.len()).filter(|answer| earned.advantages[*answer].is_some()).collect();
    let rated: Vec<Rated<'_>> = taking_part
        .iter()
        .map(|&answer| {
            let SampledCompletion { example, sampled, .. } = &earned.answers[answer];
            let advantages = TokenAdvantages::Alike(0.0);
            let (prompt_ids, ids) = (&*example.prompt_ids, &*sampled.ids);
            Rated { prompt_ids, ids, sampling_logprobs: &sampled.logprobs, advantages, weight: 0.0 }
        })
        .collect();
    let mut logprobs = Vec::new();
    for micro_batch in rated.chunks(spec.micro_batch_size) {
        logprobs.extend(reference_logprobs(&mut policy.decoder, reference, micro_batch, options.temperature));
    }
    let mut logprobs = logprobs.into_iter();
    let ratios = |answer: &Rated<'_>| -> Vec<f64> {
        let sampled = answer.sampling_logprobs.iter();
        sampled.zip(logprobs.by_ref()).map(|(own, reference)| f64::from(*own) - f64::from(reference)).collect()
    };
    let ratios: Vec<Vec<f64>> = rated.iter().map(ratios).collect();
    let divergence = ratios.iter().flatten().sum::<f64>() / ratios.len().max(1) as f64;
    let mut next = 0;
    let group = |answer: usize| answer / spec.group_size;
    for members in taking_part.chunk_by(|one, other| group(*one) == group(*other)) {
        let advantages: Vec<f64> = members.iter().map(|&at| earned.advantages[at].unwrap_or(0.0)).collect();
        let found = soft_returns(&advantages, &ratios[next..next + members.len()], soft.beta);
        next += members.len();
        for (&answer, tokens) in members.iter().zip(found) {
            credits.tokens[answer] = Some(tokens);
        }
    }
    credits.metrics.insert("credit/divergence".to_owned(), divergence);
    credits
}
