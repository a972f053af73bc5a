//! Arms by the encoders that measured them.

use super::table::{Column, Table};
use crate::evidence::EncoderSwap;
use crate::number::number;

/// Returns the table of an encoder swap: the arms' means by each encoder. `*` marks the encoder of an arm's training.
pub fn swap_table(swap: &EncoderSwap) -> Table {
    let mut columns = vec![Column::left(format!("{} by", swap.component))];
    columns.extend(swap.encoders.iter().map(|encoder| Column::left(encoder.clone())));
    let mut table = Table::new(columns);
    for arm in &swap.arms {
        let value = |(value, trained): (&Option<f64>, &bool)| {
            let value = value.map_or_else(|| "–".to_owned(), number);
            if *trained { format!("{value} *") } else { value }
        };
        let mut row = vec![arm.arm.clone()];
        row.extend(arm.values.iter().zip(&arm.trained).map(value));
        table.push(row);
    }
    table
}

/// Returns a line for each pair of encoders: whether they put the arms in the same order.
pub fn swap_agreement(swap: &EncoderSwap) -> Vec<String> {
    let pairs = swap.agreement.iter().filter(|pair| pair.arms > 1);
    let mut lines: Vec<String> = pairs
        .map(|pair| {
            let tau = pair.tau.map_or_else(|| "–".to_owned(), |tau| format!("{tau:.2}"));
            format!("order of {} arms by {} and {}: Kendall's tau {tau}", pair.arms, pair.one, pair.other)
        })
        .collect();
    if swap.arms.iter().any(|arm| arm.trained.contains(&true)) {
        lines.push("*: trained with this encoder".to_owned());
    }
    lines
}
