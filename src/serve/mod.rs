//! `orchestrate serve`: what runs do, in a browser, as they do it.
//!
//! Read-only: every request is a GET, nothing is written, no other site may read an answer. The files under `runs/` are
//! asked, not the database, so that a page costs a running sweep nothing but reads.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/runs/RUN/report` | the run's report, made for each request |
//! | `/api/runs` | all runs, the newest first |
//! | `/api/runs/RUN` | a run, its stages, what each is doing |
//! | `/api/runs/RUN/metrics` | names of the metrics that its stages have |
//! | `/api/runs/RUN/curves?metric=NAME` | a metric over the steps of every stage |
//! | `/api/runs/RUN/completions?key=KEY` | completions of a stage's last step, or of `&step=N` |
//! | `/api/runs/RUN/events` | server-sent events: `run`, `live`, `steps`, `completions`, `problem` |

mod curves;
mod follow;
mod hosts;
mod pages;
mod site;
mod snapshot;
mod stream;

pub use hosts::Hosts;
pub use site::serve;

use site::Site;
