//! The server: its data and its connections.

use super::curves::Curves;
use super::hosts::Hosts;
use super::pages;
use crate::workspace::Workspace;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The maximum number of browsers that follow runs at the same time.
const FOLLOWERS: usize = 64;

/// The time limit for the head of a request. Slower connections are closed.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted for lack of resources.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The data that requests are answered from.
pub(super) struct Site {
    pub(super) runs: PathBuf,
    pub(super) workspace: Workspace,
    pub(super) hosts: Hosts,
    pub(super) curves: Curves,
    pub(super) followers: Arc<Semaphore>,
    pub(super) report: Box<Reporter>,
}

/// Renders the report of the run with this id as a page, or returns the reason why it cannot.
type Reporter = dyn Fn(&str) -> Result<String, String> + Send + Sync;

/// Answers requests until the process ends. `runs` is the run directory. `report` renders the page of a run, or returns
/// the reason why it cannot.
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
            // No file descriptors are left until some connection ends.
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
            // The browser may close the connection at any time.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
