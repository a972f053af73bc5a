//! Routes and their answers.

use super::{Site, curves, snapshot, stream};
use crate::digest::Digest;
use crate::history::PastRun;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response, Sse, sse};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const INDEX: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/live.css");
const SCRIPT: &str = include_str!("page/live.js");
/// Allows only the page's own files, and no frames around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds to the report's own policy, which has the hashes of its script and style.
const REPORT_POLICY: &str = "frame-ancestors 'none'";

/// Why a request is refused.
enum Refusal {
    NotFound(&'static str),
    Busy,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::NotFound(what) => (StatusCode::NOT_FOUND, what.to_owned()),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many browsers follow runs; close one".to_owned()),
            Self::Io(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        (status, Json(json!({ "error": message }))).into_response()
    }
}

/// Returns the routes of the site.
pub(super) fn router(site: Arc<Site>) -> Router {
    let text =
        |text: &'static str, kind: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", text(INDEX, "text/html; charset=utf-8"))
        .route("/live.css", text(STYLE, "text/css; charset=utf-8"))
        .route("/live.js", text(SCRIPT, "text/javascript; charset=utf-8"))
        .route("/runs/{run}/report", get(report))
        .route("/api/runs", get(list))
        .route("/api/runs/{run}", get(one))
        .route("/api/runs/{run}/metrics", get(metrics))
        .route("/api/runs/{run}/curves", get(curve))
        .route("/api/runs/{run}/completions", get(completions))
        .route("/api/runs/{run}/events", get(events))
        .fallback(|| async { Refusal::NotFound("there is no such page") })
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Accepts requests that only read and have an allowed host name. Adds the security headers to answers.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| site.hosts.allow(host)) {
        let message =
            "this server does not answer to that host name; `orchestrate serve --allow-host NAME` allows it\n";
        return (StatusCode::MISDIRECTED_REQUEST, message).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], Body::empty()).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

type JsonResult = Result<Json<Value>, Refusal>;

/// Runs `read`, which reads files, on a blocking thread.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(read).await.map_err(|error| Refusal::Io(io::Error::other(error)))?
}

fn found(site: &Site, run: &str) -> Result<PastRun, Refusal> {
    let past = PastRun::named(&site.runs, run).map_err(|damage| Refusal::Io(io::Error::other(damage)))?;
    past.ok_or(Refusal::NotFound("there is no such run"))
}

async fn report(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Result<Response, Refusal> {
    let page = reading(move || {
        let run = found(&site, &run)?;
        (site.report)(&run.run).map_err(|problem| Refusal::Io(io::Error::other(problem)))
    });
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, REPORT_POLICY)];
    Ok((headers, page.await?).into_response())
}

async fn list(State(site): State<Arc<Site>>) -> JsonResult {
    reading(move || Ok(Json(snapshot::runs(&site)?))).await
}

async fn one(State(site): State<Arc<Site>>, Path(run): Path<String>) -> JsonResult {
    reading(move || {
        let run = found(&site, &run)?;
        Ok(Json(snapshot::run(&run, &run.stage_rows(&site.workspace)?)))
    })
    .await
}

async fn metrics(State(site): State<Arc<Site>>, Path(run): Path<String>) -> JsonResult {
    reading(move || Ok(Json(curves::names(&site, &found(&site, &run)?)?))).await
}

#[derive(Deserialize)]
struct CurveQuery {
    metric: String,
}

async fn curve(State(site): State<Arc<Site>>, Path(run): Path<String>, Query(query): Query<CurveQuery>) -> JsonResult {
    reading(move || Ok(Json(curves::curves(&site, &found(&site, &run)?, &query.metric)?))).await
}

#[derive(Deserialize)]
struct CompletionsQuery {
    key: String,
    step: Option<u64>,
}

async fn completions(
    State(site): State<Arc<Site>>,
    Path(run): Path<String>,
    Query(query): Query<CompletionsQuery>,
) -> JsonResult {
    reading(move || {
        let rows = found(&site, &run)?.stage_rows(&site.workspace)?;
        // Only keys of the run may name directories.
        let row = rows.iter().find(|row| row.key.as_str() == query.key);
        let key: &Digest = &row.ok_or(Refusal::NotFound("the run has no such stage"))?.key;
        Ok(Json(snapshot::completions(&site, key, query.step)?))
    })
    .await
}

async fn events(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Result<Response, Refusal> {
    let permit = Arc::clone(&site.followers).try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let finding = Arc::clone(&site);
    let run = reading(move || found(&finding, &run)).await?;
    let receiver = stream::follow(site, run, permit);
    let events = futures_util::stream::unfold(receiver, |mut receiver| async {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let alive = sse::KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(events).keep_alive(alive).into_response())
}
