//! `orchestrate serve`: the progress of runs in a browser.
//!
//! The server is read-only: every request is a GET, the server writes no files, and other sites cannot read an answer.
//! It reads the files under `runs/` and not the database, so a page never blocks a running sweep.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/runs/RUN/report` | the run's report, in its current state |
//! | `/api/runs` | all runs, newest first |
//! | `/api/runs/RUN` | a run and its stages, with their status |
//! | `/api/runs/RUN/metrics` | names of the metrics of its stages |
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
