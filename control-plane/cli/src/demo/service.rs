//! The demo service: something real behind the sidecar, that shows what it was told about each request.
//!
//! It trusts the `x-bulkhead-*` headers because it listens on loopback and only the sidecar speaks to it. It keeps nothing:
//! items are the same for all, and what is written is acknowledged and forgotten.

use crate::transport::{Stream, Whole, frame};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, LOCATION};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once: a sidecar's pools stay far below.
const CONNECTIONS_MAX: usize = 1_024;
/// Size of a report's body.
const REPORT_BYTES: usize = 64 << 10;
/// Rest after a failed accept: the usual cause, no free descriptor, does not go away by asking again at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The demo service, bound and not yet serving.
pub(crate) struct Service {
    listener: TcpListener,
}

impl Service {
    /// Takes the address, so that a taken one is told before anything starts.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Closed is what this semaphore never is; then it would serve without the bound rather than stop.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(async move {
                        serve(stream).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(BACK_OFF).await,
            }
        }
    }
}

async fn serve(stream: TcpStream) {
    // Small answers must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let answers = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // A connection that breaks is the sidecar's business: it tells its client.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(Stream(stream), answers).await;
}

async fn answer(request: Request<Incoming>) -> Response<Whole> {
    let (head, mut body) = request.into_parts();
    let mut received_bytes = 0;
    while let Some(Ok(frame)) = frame(&mut body).await {
        received_bytes += frame.data_ref().map_or(0, |data| data.len());
    }
    respond(&head.method, head.uri.path(), &Told::of(&head.headers), received_bytes)
}

/// What the sidecar says about a request.
struct Told {
    tenant: Value,
    user: Value,
    roles: Vec<String>,
    decision_id: Value,
}

impl Told {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let roles = text("x-bulkhead-roles").unwrap_or_default().split(',').map(str::trim).filter(|role| !role.is_empty());
        Self {
            tenant: text("x-bulkhead-tenant").into(),
            user: text("x-bulkhead-user").into(),
            roles: roles.map(str::to_owned).collect(),
            decision_id: text("x-bulkhead-decision-id").into(),
        }
    }

    fn to_json(&self) -> Value {
        json!({ "tenant": self.tenant, "user": self.user, "roles": self.roles, "decision_id": self.decision_id })
    }
}

fn respond(method: &Method, path: &str, told: &Told, received_bytes: usize) -> Response<Whole> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match segments.as_slice() {
        ["healthz"] if reads => ok(&json!({ "status": "ok" })),
        ["v1", "reports"] if reads => report(told),
        ["v1", "admin", ..] if reads => ok(&json!({ "page": path, "told": told.to_json() })),
        ["v1", "items"] => match *method {
            Method::GET | Method::HEAD => ok(&json!({ "items": [item("1"), item("2"), item("3")], "told": told.to_json() })),
            Method::POST => created(told, received_bytes),
            Method::PUT => ok(&json!({ "replaced": "all", "received_bytes": received_bytes, "told": told.to_json() })),
            Method::DELETE => nothing(),
            _ => wrong_method("GET, HEAD, POST, PUT, DELETE"),
        },
        ["v1", "items", id] if !id.is_empty() => match *method {
            Method::GET | Method::HEAD => ok(&json!({ "item": item(id), "told": told.to_json() })),
            Method::POST | Method::PUT => ok(&json!({ "item": item(id), "received_bytes": received_bytes, "told": told.to_json() })),
            Method::DELETE => nothing(),
            _ => wrong_method("GET, HEAD, POST, PUT, DELETE"),
        },
        ["healthz"] | ["v1", "reports"] | ["v1", "admin", ..] => wrong_method("GET, HEAD"),
        _ => json_response(StatusCode::NOT_FOUND, &json!({ "error": "the demo service has nothing at this path", "path": path })),
    }
}

fn item(id: &str) -> Value {
    json!({ "id": id, "name": format!("Item {id}") })
}

/// A report is padded to its size, so that it looks the same to a benchmark whoever asks.
fn report(told: &Told) -> Response<Whole> {
    let with = |rows: &str| json!({ "report": "usage", "rows": rows, "told": told.to_json() }).to_string();
    let padding = REPORT_BYTES.saturating_sub(with("").len());
    text_response(StatusCode::OK, with(&"#".repeat(padding)))
}

fn created(told: &Told, received_bytes: usize) -> Response<Whole> {
    let content = json!({ "item": item("4"), "received_bytes": received_bytes, "told": told.to_json() });
    let mut response = json_response(StatusCode::CREATED, &content);
    response.headers_mut().insert(LOCATION, hyper::header::HeaderValue::from_static("/v1/items/4"));
    response
}

fn ok(content: &Value) -> Response<Whole> {
    json_response(StatusCode::OK, content)
}

fn nothing() -> Response<Whole> {
    let mut response = Response::new(Whole::new(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn wrong_method(allowed: &'static str) -> Response<Whole> {
    let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "the demo service does not do this here" }));
    response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    response
}

fn json_response(status: StatusCode, content: &Value) -> Response<Whole> {
    text_response(status, format!("{content}\n"))
}

fn text_response(status: StatusCode, text: String) -> Response<Whole> {
    let mut response = Response::new(Whole::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use hyper::body::Body;

    fn told() -> Told {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-bulkhead-tenant", "acme_corp"), ("x-bulkhead-user", "alice"), ("x-bulkhead-roles", "reader, editor")] {
            headers.insert(name, value.parse().unwrap());
        }
        Told::of(&headers)
    }

    async fn content(response: Response<Whole>) -> Value {
        let data = frame(&mut response.into_body()).await.unwrap().unwrap().into_data().unwrap();
        serde_json::from_slice(&data).unwrap()
    }

    #[test]
    fn it_answers_what_the_demos_routes_promise() {
        for (method, path, status) in [
            (Method::GET, "/healthz", 200),
            (Method::GET, "/v1/items", 200),
            (Method::HEAD, "/v1/items/7", 200),
            (Method::POST, "/v1/items", 201),
            (Method::PUT, "/v1/items/7", 200),
            (Method::DELETE, "/v1/items/7", 204),
            (Method::GET, "/v1/reports", 200),
            (Method::GET, "/v1/admin/users/1", 200),
            (Method::POST, "/v1/reports", 405),
            (Method::GET, "/v1/items/7/parts", 404),
            (Method::GET, "/elsewhere", 404),
        ] {
            assert_eq!(respond(&method, path, &told(), 0).status().as_u16(), status, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn an_answer_shows_what_the_sidecar_told() {
        let answer = content(respond(&Method::GET, "/v1/items", &told(), 0)).await;
        let expected = json!({ "tenant": "acme_corp", "user": "alice", "roles": ["reader", "editor"], "decision_id": null });
        assert_eq!(answer["told"], expected);
    }

    #[test]
    fn a_report_has_the_same_size_for_everyone() {
        for told in [told(), Told::of(&HeaderMap::new())] {
            assert_eq!(report(&told).body().size_hint().exact(), Some(65_536));
        }
    }
}
