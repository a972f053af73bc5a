//! Token sequences laid end to end in one row, so that no padding is ever computed.

use tch::{Device, Kind, Tensor};

/// Sequences laid end to end. Attention never crosses from one to the next, and positions start at 0 in each, so the
/// result for a sequence does not depend on its neighbours.
#[derive(Debug)]
pub struct Packed {
    /// All tokens. // (T,)
    pub input_ids: Tensor,
    /// Position of each token in its own sequence. // (T,)
    pub positions: Tensor,
    /// Tokens in each sequence; they add up to T.
    pub lengths: Vec<i64>,
}

impl Packed {
    /// Packs `sequences`, none of them empty, onto `device`.
    pub fn new<S: AsRef<[i64]>>(sequences: &[S], device: Device) -> Self {
        let mut ids = Vec::new();
        let mut positions = Vec::new();
        let mut lengths = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let sequence = sequence.as_ref();
            assert!(!sequence.is_empty(), "a packed sequence has at least one token");
            let length = i64::try_from(sequence.len()).expect("lengths fit i64");
            ids.extend_from_slice(sequence);
            positions.extend(0..length);
            lengths.push(length);
        }
        Self {
            input_ids: Tensor::from_slice(&ids).to_kind(Kind::Int64).to_device(device),
            positions: Tensor::from_slice(&positions).to_kind(Kind::Int64).to_device(device),
            lengths,
        }
    }

    /// Index of the first token of each sequence.
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

    /// Tokens in all.
    pub fn total(&self) -> i64 {
        self.lengths.iter().sum()
    }
}
