//! Token sequences laid end to end in one row, which avoids padding.

use tch::{Device, Tensor};

/// Sequences laid end to end. Attention never crosses from one to the next, except from a completion to the prompt of
/// its group. A sequence's result therefore does not depend on its neighbours.
#[derive(Debug)]
pub struct Packed {
    /// Tokens of all sequences. // (T,)
    pub input_ids: Tensor,
    /// Position of each token in its own sequence; a completion's positions continue those of its prompt. // (T,)
    pub positions: Tensor,
    /// Number of tokens of each sequence; the sum is T.
    pub lengths: Vec<i64>,
    /// Number of completions after each prompt in a row of [`Packed::grouped`]; empty if sequences share no prompts.
    pub completions: Vec<usize>,
}

/// A prompt with the completions that share it, none of them empty.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Tokens of the prompt.
    pub prompt: &'a [i64],
    /// Tokens of each completion.
    pub completions: Vec<&'a [i64]>,
}

impl Packed {
    /// Packs `sequences`, none of them empty, onto `device`.
    ///
    /// # Panics
    /// Panics if a sequence is empty.
    pub fn new<S: AsRef<[i64]>>(sequences: &[S], device: Device) -> Self {
        let mut row = PackedRow::default();
        for sequence in sequences {
            row.push(sequence.as_ref(), 0);
        }
        row.packed(Vec::new(), device)
    }

    /// Packs each prompt once with its completions behind it, onto `device`. A completion attends to the whole prompt
    /// and to itself, but not to other completions (a shared prefix, arXiv:2402.05099, section 3).
    ///
    /// # Panics
    /// Panics if a prompt or a completion is empty.
    pub fn grouped(groups: &[Group<'_>], device: Device) -> Self {
        let mut row = PackedRow::default();
        for group in groups {
            let prompt = row.push(group.prompt, 0);
            for completion in &group.completions {
                row.push(completion, prompt);
            }
        }
        row.packed(groups.iter().map(|group| group.completions.len()).collect(), device)
    }

    /// Returns the index of the first token of each sequence.
    pub fn starts(&self) -> Vec<i64> {
        self.lengths
            .iter()
            .scan(0, |next, &length| {
                let start = *next;
                *next += length;
                Some(start)
            })
            .collect()
    }

    /// Selects the states that predict the tokens of the completions. For a completion's first token it is the state of
    /// the last token of the prompt, for any other that of the token before it. // (T, C) -> (N, C)
    pub fn predicting(&self, states: &Tensor) -> Tensor {
        if states.device().is_cuda() { self.predicting_once(states) } else { self.predicting_by_index(states) }
    }

    /// Selects by an index that names the last token of a prompt once for each of its completions. A CPU adds their
    /// gradients in the order of the index. A GPU would add them in any order, and round each partial sum.
    fn predicting_by_index(&self, states: &Tensor) -> Tensor {
        let mut sequences = self.starts().into_iter().zip(&self.lengths);
        let mut predictors = Vec::new();
        for &count in &self.completions {
            let (prompt, prompt_length) = sequences.next().expect("a prompt comes before its completions");
            for (start, length) in sequences.by_ref().take(count) {
                predictors.push(prompt + prompt_length - 1);
                predictors.extend(start..start + length - 1);
            }
        }
        states.index_select(0, &Tensor::from_slice(&predictors).to_device(states.device()))
    }

    /// Selects each state once, and puts a copy of that at the end of a prompt in front of each of its completions. The
    /// gradients of the copies are added by a sum, whose order is fixed and which rounds once.
    fn predicting_once(&self, states: &Tensor) -> Tensor {
        let mut sequences = self.starts().into_iter().zip(&self.lengths);
        let (mut selected, mut sizes) = (Vec::new(), Vec::new());
        for &count in &self.completions {
            let (prompt, prompt_length) = sequences.next().expect("a prompt comes before its completions");
            selected.push(prompt + prompt_length - 1);
            sizes.push(1);
            for (start, length) in sequences.by_ref().take(count) {
                selected.extend(start..start + length - 1);
                sizes.push(length - 1);
            }
        }
        let selected = Tensor::from_slice(&selected).to_device(states.device());
        let mut pieces = states.index_select(0, &selected).split_with_sizes(&sizes, 0).into_iter();
        let mut parts = Vec::with_capacity(2 * sizes.len());
        for &count in &self.completions {
            let end = pieces.next().expect("there is a piece for every prompt"); // (1, C)
            let size = [i64::try_from(count).expect("counts fit i64"), end.size()[1]];
            let ends = end.expand(size, false).split(1, 0);
            parts.extend(ends.into_iter().zip(pieces.by_ref()).flat_map(|(end, completion)| [end, completion]));
        }
        Tensor::cat(&parts, 0)
    }

    /// The number of tokens of all sequences.
    pub fn total(&self) -> i64 {
        self.lengths.iter().sum()
    }
}

#[derive(Default)]
struct PackedRow {
    ids: Vec<i64>,
    positions: Vec<i64>,
    lengths: Vec<i64>,
}

impl PackedRow {
    /// Adds a sequence whose first token has position `first`, and returns its length.
    fn push(&mut self, sequence: &[i64], first: i64) -> i64 {
        assert!(!sequence.is_empty(), "a packed sequence has at least one token");
        let length = i64::try_from(sequence.len()).expect("lengths fit i64");
        self.ids.extend_from_slice(sequence);
        self.positions.extend(first..first + length);
        self.lengths.push(length);
        length
    }

    fn packed(self, completions: Vec<usize>, device: Device) -> Packed {
        // one copy to the device for both
        let tokens = i64::try_from(self.ids.len()).expect("lengths fit i64");
        let both = Tensor::from_slice(&[self.ids, self.positions].concat()).to_device(device).view([2, tokens]);
        Packed { input_ids: both.get(0), positions: both.get(1), lengths: self.lengths, completions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// Covers several prompts, a single completion, and completions of one token.
    #[test]
    fn predicting_states_and_their_gradients_do_not_depend_on_the_way() {
        let ids: Vec<i64> = (0..30).collect();
        let group = |prompt: usize, completions: &[usize]| Group {
            prompt: &ids[..prompt],
            completions: completions.iter().map(|&length| &ids[..length]).collect(),
        };
        let packed = Packed::grouped(&[group(4, &[3, 1, 5]), group(1, &[2]), group(7, &[1, 1])], Device::Cpu);
        let options = (Kind::Float, Device::Cpu);
        let (states, weights) = (Tensor::randn([packed.total(), 6], options), Tensor::randn([13, 6], options));
        let run = |select: &dyn Fn(&Tensor) -> Tensor| {
            let states = states.copy().set_requires_grad(true);
            let selected = select(&states);
            (&selected * &weights).sum(Kind::Float).backward();
            (selected.detach(), states.grad())
        };
        let (by_index, once) = (run(&|s| packed.predicting_by_index(s)), run(&|s| packed.predicting_once(s)));
        assert_eq!(by_index.0, once.0);
        assert!(by_index.1.allclose(&once.1, 1e-6, 1e-6, false));
        let first = states.get(3);
        assert!([0, 3, 4].map(|row| once.0.get(row)).iter().all(|row| *row == first), "the end of the first prompt");
    }
}
