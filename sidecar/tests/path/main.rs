//! The path of a request over real sockets: one sidecar in this process, clients and upstreams that speak byte by byte.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

mod adaptive_concurrency;
mod forwarding;
mod limits;
mod streams;
mod failing;
mod answers;
mod interim;
mod leak;
mod header_rules;
mod hedging;
mod cors;
mod rewrite;
mod security_headers;
mod bodies;
mod against_hyper;
mod ending;
mod endpoints;
mod extended_connect;
mod grpc;
mod health;
mod health_http2;
mod upstream_alpn;
mod pushed;
mod retries;
mod shadow;
mod upstream_http2;
mod upstream_limits;
mod upstream_websocket;
