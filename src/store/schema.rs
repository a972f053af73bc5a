//! The documented views. Names and columns are stable; new columns come at the end.

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    Text,
    /// An integer.
    Integer,
    /// A floating-point number.
    Real,
}

impl ColumnType {
    /// Returns the type's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Real => "real",
        }
    }
}

/// A column of a view.
#[derive(Clone, Copy, Debug)]
pub struct ViewColumn {
    /// The column's name.
    pub name: &'static str,
    /// The type of its values. Values may be null if `about` mentions it.
    pub kind: ColumnType,
    /// A description of the content.
    pub about: &'static str,
}

/// A view.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The view's name.
    pub name: &'static str,
    /// A description of its rows.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: &'static [ViewColumn],
}

const fn text(name: &'static str, about: &'static str) -> ViewColumn {
    ViewColumn { name, kind: ColumnType::Text, about }
}

const fn integer(name: &'static str, about: &'static str) -> ViewColumn {
    ViewColumn { name, kind: ColumnType::Integer, about }
}

const fn real(name: &'static str, about: &'static str) -> ViewColumn {
    ViewColumn { name, kind: ColumnType::Real, about }
}

const KEY: ViewColumn = text("key", "the stage's cache key: one key may serve many runs");

/// Every view. Times are UTC, like `2026-11-01T12:00:00.000Z`.
pub const VIEWS: &[View] = &[
    View {
        name: "runs",
        about: "one row a run",
        columns: &[
            text("run", "its id; ids sort by time"),
            text("status", "running, ok, failed or interrupted"),
            text("started_at", "when it began"),
            text("ended_at", "when it ended; null while it runs"),
            real("seconds", "between the two"),
            text("host", "where"),
            integer("pid", "the process that ran it"),
            text("version", "of orchestrate"),
        ],
    },
    View {
        name: "stages",
        about: "one row a stage of a run",
        columns: &[
            text("run", "the run"),
            integer("position", "in the run's plan: parents first"),
            text("stage", "its name in the recipe"),
            text("kind", "cpt, sft, grpo, eval, ..."),
            KEY,
            text("recipe", "the recipes that need it, with spaces between"),
            text("variant", "the variants that need it, with spaces between"),
            text("status", "pending, running, cached, ok, failed, skipped, interrupted or not run"),
            text("started_at", "when its worker was started; null where it was cached"),
            real("seconds", "it took"),
            text("message", "why it failed or was skipped"),
            integer("tries", "workers that were started on it"),
        ],
    },
    View {
        name: "metrics",
        about: "one row a metric of a step",
        columns: &[
            KEY,
            integer("step", "counted from 1"),
            text("name", "e.g. train/loss"),
            real("value", "of this step"),
            text("at", "when the step ended"),
        ],
    },
    View {
        name: "results",
        about: "one row a number that a finished stage measured",
        columns: &[
            KEY,
            text("name", "e.g. eval/accuracy"),
            real("value", "the estimate"),
            real("low", "lower end of its 95% interval, or null"),
            real("high", "upper end"),
            integer("count", "observations behind it, or null"),
        ],
    },
    View {
        name: "completions",
        about: "one row a completion that was sampled",
        columns: &[
            integer("completion_id", "joins `rewards`; changes with `db rebuild`"),
            KEY,
            integer("step", "counted from 1"),
            integer("row", "of the data set"),
            integer("idx", "which of the group, from 0"),
            text("prompt", "before the chat template"),
            text("completion", "the sampled text"),
            text("reference", "of the row, or null"),
            text("answer", "of the row, or null"),
            integer("tokens", "sampled"),
            text("stop_reason", "stop_token, stop_string or length"),
            integer("truncated", "1 if the length limit cut it"),
            real("reward", "the weighted sum; null when a part is missing"),
            real("advantage", "within the group, in GRPO"),
        ],
    },
    View {
        name: "rewards",
        about: "one row a reward component of a completion",
        columns: &[
            integer("completion_id", "joins `completions`"),
            KEY,
            integer("step", "of the completion"),
            integer("row", "of the data set"),
            integer("idx", "which of the group"),
            text("component", "its name in the recipe"),
            real("value", "without its weight; null when it is missing"),
            real("weight", "in the sum; 0: held out"),
            text("missing", "why there is no value"),
        ],
    },
    View {
        name: "cache",
        about: "one row a checkpoint",
        columns: &[
            KEY,
            text("stage", "the stage's name in the first run that had it"),
            text("kind", "its kind"),
            text("committed_at", "when it was committed"),
            integer("bytes", "its files take"),
            integer("runs", "that had it"),
        ],
    },
];
