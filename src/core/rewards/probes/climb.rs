//! The search for sentences that raise a component.

/// The number of sentences that are added, at most.
const SENTENCES: usize = 3;

/// Returns the text of up to three of `candidates`, each the one that raises `rate` most, and `None` if no candidate
/// has a value. The search is greedy and ends when no sentence raises the value.
pub(super) fn climbed<E>(
    candidates: &[&str],
    mut rate: impl FnMut(&[String]) -> Result<Vec<Option<f64>>, E>,
) -> Result<Option<String>, E> {
    let mut best: Option<(f64, String)> = None;
    for _ in 0..SENTENCES {
        let extended: Vec<String> = candidates
            .iter()
            .map(|candidate| match &best {
                Some((_, text)) => format!("{text} {candidate}"),
                None => (*candidate).to_owned(),
            })
            .collect();
        let values = rate(&extended)?;
        let rated = values.into_iter().zip(extended).filter_map(|(value, text)| Some((value?, text)));
        let Some(next) = rated.reduce(|best, next| if next.0 > best.0 { next } else { best }) else { break };
        if best.as_ref().is_some_and(|(value, _)| next.0 <= *value) {
            break;
        }
        best = Some(next);
    }
    Ok(best.map(|(_, text)| text))
}
