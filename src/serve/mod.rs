//! `orchestrate serve`: what runs do, in a browser, as they do it.
//!
//! Read-only: every request is a GET, nothing is written, no other site may read an answer. The files under `runs/` are
//! asked, not the database, so that a page costs a running sweep nothing but reads.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/runs/RUN/report` | the run's report, made anew |
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
mod snapshot;
mod stream;

pub use hosts::Hosts;

use crate::workspace::Workspace;
use curves::Curves;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Browsers that may follow runs at the same time.
const FOLLOWERS: usize = 64;

/// A client that has not sent the head of a request by then is hung up on.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long nothing is accepted when there is nothing to accept it with.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What every request is answered from.
struct Site {
    runs: PathBuf,
    workspace: Workspace,
    hosts: Hosts,
    curves: Curves,
    followers: Arc<Semaphore>,
    report: Box<Reporter>,
}

/// Makes the report of the run with this id, a page, or says why there is none.
type Reporter = dyn Fn(&str) -> Result<String, String> + Send + Sync;

/// Answers requests until the process is told to stop. `runs` is the directory of everything that runs leave behind; `report`
/// makes the page of a run, or says why there is none.
pub async fn serve(
    listener: TcpListener,
    runs: &Path,
    workspace: Workspace,
    hosts: Hosts,
    report: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static,
) -> io::Result<()> {
    let site = Site {
        runs: runs.to_owned(),
        workspace,
        hosts,
        curves: Curves::default(),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        report: Box::new(report),
    };
    let router = pages::router(Arc::new(site));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_of_one_connection(&error) => continue,
            // no descriptors are left: some connection will end
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
            // the browser may hang up at any time
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
