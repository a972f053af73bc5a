//! The stages of a run as a graph, from left to right.

use super::svg::{Anchor, Ink, Svg, escaped, round, text_width};
use serde::Serialize;

/// The outcome of the stages of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// All were in the cache.
    Cached,
    /// Some ran, and none failed.
    Ran,
    /// Some failed.
    Failed,
    /// Some have not ended.
    #[default]
    Open,
}

/// A node: stages that differ only in their seed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GraphNode {
    /// The stage's name.
    pub name: String,
    /// The arms and the outcome of its stages, e.g. `rouge · 2 cached, 1 ran`.
    pub note: String,
    /// The outcome of its stages.
    pub status: NodeStatus,
    /// The indices of its parents, each lower than its own.
    pub parents: Vec<usize>,
}

const ROW: f64 = 46.0;
const BOX: f64 = 34.0;
const GAP: f64 = 46.0;

/// Draws the graph of `nodes`, parents first.
pub fn graph_chart(label: &str, nodes: &[GraphNode]) -> String {
    let places = layout(nodes);
    let columns = places.iter().map(|place| place.0 + 1).max().unwrap_or(0);
    let rows = places.iter().map(|place| place.1).fold(0.0, f64::max) + 1.0;
    let mut widths = vec![60.0f64; columns];
    for (node, (column, _)) in nodes.iter().zip(&places) {
        let needed = text_width(&node.name).max(text_width(&node.note) * 0.88) + 34.0;
        widths[*column] = widths[*column].max(needed.min(250.0));
    }
    let left = |column: usize| 2.0 + widths[..column].iter().sum::<f64>() + GAP * column as f64;
    let top = |row: f64| 2.0 + row * ROW;
    let mut svg = Svg::new((left(columns) - GAP + 4.0).max(40.0), rows * ROW - (ROW - BOX) + 4.0, label);
    for (node, (column, row)) in nodes.iter().zip(&places) {
        for &parent in &node.parents {
            let (from, from_row) = places[parent];
            let (x1, y1) = (left(from) + widths[from], top(from_row) + BOX / 2.0);
            let (x2, y2) = (left(*column), top(*row) + BOX / 2.0);
            let middle = x2 - GAP / 2.0;
            svg.raw(&format!(
                "<path d=\"M{} {}C{} {} {} {} {} {}\" class=\"edge\" fill=\"none\" stroke=\"#a8afb9\" stroke-width=\"1.3\"/>",
                round(x1), round(y1), round(middle), round(y1), round(middle), round(y2), round(x2), round(y2)
            ));
        }
    }
    for (node, (column, row)) in nodes.iter().zip(&places) {
        draw(&mut svg, node, (left(*column), top(*row)), widths[*column]);
    }
    svg.finish()
}

fn draw(svg: &mut Svg, node: &GraphNode, (x, y): (f64, f64), width: f64) {
    let (class, mark, fill, edge) = match node.status {
        NodeStatus::Cached => ("node-cached", "✓", "#e3eef6", "#7fb0d3"),
        NodeStatus::Ran => ("node-ran", "●", "#ffffff", "#a8afb9"),
        NodeStatus::Failed => ("node-failed", "✕", "#fbe5d9", "#d55e00"),
        NodeStatus::Open => ("node-open", "○", "#f6f6f6", "#c9ced6"),
    };
    let dash = if node.status == NodeStatus::Open { " stroke-dasharray=\"4 3\"" } else { "" };
    svg.raw(&format!(
        "<g><title>{}: {}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BOX}\" rx=\"6\" class=\"{class}\" \
         fill=\"{fill}\" stroke=\"{edge}\"{dash}/>",
        escaped(&node.name),
        escaped(&node.note),
        round(x),
        round(y),
        round(width)
    ));
    svg.text((x + 9.0, y + 14.5), Anchor::Start, Ink::Text, &node.name);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen characters")]
    let room = ((width - 18.0) / (6.9 * 0.88)) as usize;
    let note = if node.note.chars().count() > room {
        node.note.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        node.note.clone()
    };
    svg.raw("<g font-size=\"10.5\">");
    svg.text((x + 9.0, y + 28.0), Anchor::Start, Ink::Muted, &note);
    svg.text((x + width - 8.0, y + 14.0), Anchor::End, Ink::Muted, mark);
    svg.raw("</g></g>");
}

/// Computes the column and row of each node. A node is to the right of all its parents, and beside the middle of the
/// children whose first parent it is.
fn layout(nodes: &[GraphNode]) -> Vec<(usize, f64)> {
    let mut columns: Vec<usize> = Vec::with_capacity(nodes.len());
    for node in nodes {
        columns.push(node.parents.iter().map(|&parent| columns[parent] + 1).max().unwrap_or(0));
    }
    let mut rows = vec![0.0; nodes.len()];
    let mut next = 0.0;
    // A fan-in is placed with its first parent.
    let children: Vec<Vec<usize>> = (0..nodes.len())
        .map(|node| (0..nodes.len()).filter(|&child| nodes[child].parents.first() == Some(&node)).collect())
        .collect();
    for root in (0..nodes.len()).filter(|&node| nodes[node].parents.is_empty()) {
        place(root, &children, &mut rows, &mut next);
    }
    columns.into_iter().zip(rows).collect()
}

fn place(node: usize, children: &[Vec<usize>], rows: &mut [f64], next: &mut f64) {
    if children[node].is_empty() {
        rows[node] = *next;
        *next += 1.0;
        return;
    }
    for &child in &children[node] {
        place(child, children, rows, next);
    }
    let (first, last) = (children[node][0], children[node][children[node].len() - 1]);
    rows[node] = f64::midpoint(rows[first], rows[last]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, parents: &[usize]) -> GraphNode {
        GraphNode { name: name.into(), note: "all · 1 ran".into(), status: NodeStatus::Ran, parents: parents.into() }
    }

    #[test]
    fn stages_stand_right_of_what_they_start_from_and_do_not_overlap() {
        let nodes = [
            node("cpt", &[]),
            node("sft", &[0]),
            node("grpo", &[1]),
            node("grpo", &[1]),
            node("eval", &[2]),
            node("eval", &[3]),
            node("arena", &[4, 5]),
        ];
        let places = layout(&nodes);
        assert_eq!(places.iter().map(|place| place.0).collect::<Vec<_>>(), [0, 1, 2, 2, 3, 3, 4]);
        assert_eq!(places.iter().map(|place| place.1).collect::<Vec<_>>(), [0.5, 0.5, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let drawn = graph_chart("stages", &nodes);
        assert_eq!((drawn.matches("<rect").count(), drawn.matches("class=\"edge\"").count()), (7, 7));
        assert!(graph_chart("none", &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn a_long_chain_is_no_deep_recursion_problem() {
        let nodes: Vec<GraphNode> =
            (0..500).map(|i| node("s", if i == 0 { vec![] } else { vec![i - 1] }.as_slice())).collect();
        assert_eq!(layout(&nodes)[499].0, 499);
    }
}
