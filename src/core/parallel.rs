//! Parallel computation on all cores.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// The smallest number of items per thread. Starting a thread takes as long as about ten items.
const FEWEST: usize = 128;

/// Returns the number of cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Applies `work` to each of `items`. The results are in the order of the items.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = cores().min(items.len() / FEWEST);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let (of_here, others) = items.split_at(items.len() / threads);
    let part = |items: &[T]| items.iter().map(&work).collect::<Vec<R>>();
    thread::scope(|scope| {
        let others = others.chunks(others.len().div_ceil(threads - 1));
        let others: Vec<_> = others.map(|items| scope.spawn(move || part(items))).collect();
        let mut answers = part(of_here);
        for other in others {
            answers.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        answers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_the_order_of_the_items() {
        for count in [0, 1, 2 * FEWEST, 2 * FEWEST + 1, 1000] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(&items, |item| item + 1), (1..=count).collect::<Vec<_>>());
        }
    }
}
