//! A control plane with a store in a folder that goes away, and a client that speaks HTTP to it.

use bulkhead_server::{Running, Settings, start};
use bulkhead_store::{Embedded, Options, Store};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The token that the control plane is started with.
pub(crate) const ADMIN: &str = "0123456789012345678901234567890123456789abc";

/// A control plane.
pub(crate) struct Plane {
    running: Running,
    folder: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(folder: TempDir) -> Self {
        let embedded = Embedded::open(folder.path().join("store.redb"), Options::default()).unwrap();
        let incarnation = embedded.identity().incarnation;
        let store: Arc<dyn Store> = Arc::new(embedded);
        let address = "127.0.0.1:0".parse().unwrap();
        let now = || jiff::Timestamp::now().as_second();
        let running = start(Settings {
            store,
            incarnation,
            address,
            push_address: Some(address),
            identity: None,
            admin_token: Some(ADMIN.to_owned()),
            backup: None,
            now,
        })
        .await
        .unwrap();
        Self { running, folder }
    }

    /// Ends it, and starts another one on the same store.
    pub(crate) async fn again(self) -> Self {
        let Self { running, folder } = self;
        running.stop().await;
        Self::start_in(folder).await
    }

    /// Where the API is.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.running.address()
    }

    /// Where sidecars connect.
    pub(crate) fn push_address(&self) -> std::net::SocketAddr {
        self.running.push_address().unwrap()
    }

    /// Ends with the declared demo: a service, plans, roles and two tenants.
    pub(crate) async fn with_demo(self) -> Self {
        let demo = include_str!("../../../../config/samples/platform.yaml")
            .replace("{ file: issuer.jwks.json }", "{ url: https://issuer.example/jwks.json }");
        let applied = self.apply(ADMIN, &demo).await;
        assert_eq!(applied.status, 200, "{}", applied.text);
        for tenant in ["acme_corp", "globex"] {
            let path = format!("{}/../../config/samples/tenants/{tenant}.yaml", env!("CARGO_MANIFEST_DIR"));
            let applied = self.apply(ADMIN, &std::fs::read_to_string(path).unwrap()).await;
            assert_eq!(applied.status, 200, "{}", applied.text);
        }
        self
    }

    pub(crate) async fn apply(&self, token: &str, yaml: &str) -> Answered {
        self.send(Method::POST, "/v1/apply", token, &[("content-type", "application/yaml")], yaml).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.send(Method::GET, path, ADMIN, &[], "").await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answered {
        self.send(Method::PUT, path, ADMIN, &[], &body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answered {
        self.send(Method::POST, path, token, &[], &body.to_string()).await
    }

    /// A token of a new operator.
    pub(crate) async fn operator(&self, name: &str, role: &str, tenant: Option<&str>) -> String {
        let made = self.post("/v1/tokens", ADMIN, &serde_json::json!({ "name": name, "role": role, "tenant": tenant })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.body["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let stream = TcpStream::connect(self.running.address()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "control");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answered { status: head.status, headers: head.headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }
}

impl Answered {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn etag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }
}
