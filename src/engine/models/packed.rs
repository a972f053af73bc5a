//! Token sequences laid end to end in one row, which avoids padding.

use tch::{Device, Kind, Tensor};

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
    /// the last token of the prompt, for any other that of the token before it.
    ///
    /// Each state is selected once, and those at the ends of prompts are then put in front of each of their
    /// completions. Their gradients are therefore added in a fixed order. An index that names a state several times would have them
    /// added in any order on a GPU. // (T, C) -> (N, C)
    pub fn predicting(&self, states: &Tensor) -> Tensor {
        let mut sequences = self.starts().into_iter().zip(&self.lengths);
        let (mut selected, mut sizes, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for &count in &self.completions {
            let (prompt, prompt_length) = sequences.next().expect("a prompt comes before its completions");
            let end = sizes.len();
            selected.push(prompt + prompt_length - 1);
            sizes.push(1);
            for (start, length) in sequences.by_ref().take(count) {
                order.extend([end, sizes.len()]);
                selected.extend(start..start + length - 1);
                sizes.push(length - 1);
            }
        }
        let selected = Tensor::from_slice(&selected).to_device(states.device());
        let pieces = states.index_select(0, &selected).split_with_sizes(&sizes, 0);
        Tensor::cat(&order.into_iter().map(|piece| &pieces[piece]).collect::<Vec<_>>(), 0)
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
        Packed {
            input_ids: Tensor::from_slice(&self.ids).to_kind(Kind::Int64).to_device(device),
            positions: Tensor::from_slice(&self.positions).to_kind(Kind::Int64).to_device(device),
            lengths: self.lengths,
            completions,
        }
    }
}
