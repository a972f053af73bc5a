//! The penalty of completions that come close to the length limit.

/// Returns the soft overlong punishment (DAPO, arXiv:2503.14476, eq. 13), in `[-1, 0]`. It is 0 for up to
/// `max_new_tokens - buffer_tokens` tokens and falls linearly to -1 at `max_new_tokens`.
pub fn overlong_penalty(tokens: usize, max_new_tokens: usize, buffer_tokens: usize) -> f64 {
    let free = max_new_tokens.saturating_sub(buffer_tokens);
    let over = tokens.min(max_new_tokens).saturating_sub(free);
    if over == 0 { 0.0 } else { -(over as f64) / (max_new_tokens - free) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_linearly_within_the_buffer() {
        let penalties: Vec<f64> = [0, 6, 7, 8, 10, 12].iter().map(|&tokens| overlong_penalty(tokens, 10, 4)).collect();
        assert_eq!(penalties, [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]);
    }

    #[test]
    fn a_buffer_as_long_as_the_limit_begins_at_once() {
        let penalties: Vec<f64> = [0, 1, 4].iter().map(|&tokens| overlong_penalty(tokens, 4, 4)).collect();
        assert_eq!(penalties, [0.0, -0.25, -1.0]);
    }
}
