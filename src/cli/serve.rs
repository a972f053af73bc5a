//! `orchestrate serve`.

use super::context::{Context, block_on};
use super::error::{CliError, Kind};
use super::find::warn_of;
use super::output::Output;
use super::report;
use crate::history::PastRuns;
use crate::serve::{Hosts, serve as answer};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::json;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// Where the page is shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows the runs below `runs/` while they run: stages, curves, completions. It only reads files. Only this machine
can reach it, unless --address says otherwise. There is no password, so prefer a tunnel:
  ssh -L 8377:localhost:8377 gpu-box      then open http://localhost:8377/ here

Examples:
  orchestrate serve
  orchestrate serve --port 0 --json                          any free port; prints {\"url\"}
  orchestrate serve --address 0.0.0.0 --allow-host gpu-box   for everyone who can reach gpu-box")]
pub(super) struct ServeArgs {
    /// Port to listen on; 0: any that is free.
    #[arg(short, long, value_name = "N", default_value_t = 8377)]
    port: u16,
    /// Address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Another name that browsers may call this machine by; can be repeated.
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed: Vec<String>,
}

pub(super) fn serve(context: &Context, args: &ServeArgs) -> Result<(), CliError> {
    PastRuns::all(context.runs())?.damage.iter().for_each(warn_of);
    let workspace = Workspace::open(context.runs())?;
    let hosts = Hosts::new(args.address, &args.allowed);
    let reporting = context.clone();
    let report = move |run: &str| report::page(&reporting, run).map_err(|error| error.sentence());
    block_on(async {
        let wanted = SocketAddr::new(args.address, args.port);
        let listener = TcpListener::bind(wanted).await.map_err(|error| refused(wanted, &error))?;
        let url = format!("http://{}/", listener.local_addr()?);
        let mut out = Output::stdout();
        if context.json {
            out.json(&json!({ "url": url }))?;
        } else {
            out.line(&url)?;
        }
        out.finish()?;
        let mut err = std::io::stderr().lock();
        // A failed write to stderr cannot be reported.
        if !args.address.is_loopback() {
            let _ = writeln!(err, "warning: everyone who can reach {} can read runs and completions", args.address);
        }
        if !context.quiet {
            let _ = writeln!(err, "Ctrl-C stops it");
        }
        drop(err);
        tokio::select! {
            ended = answer(listener, context.runs(), workspace, hosts, report) => Ok(ended?),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

fn refused(wanted: SocketAddr, error: &std::io::Error) -> CliError {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "another program listens there; `--port 0` chooses a free port",
        ErrorKind::PermissionDenied => "ports below 1024 need root; choose a higher one",
        _ => "`--address` takes an address of this machine, like 127.0.0.1 or 0.0.0.0",
    };
    CliError::new(Kind::Usage, format!("cannot listen on {wanted}: {error}")).hint(hint)
}
