//! A path brought into its normal form, and its route found: what every request pays before anybody asks who it is. And what an
//! answer pays that is looked into for whose it is, and a message whose fields have rules.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use bulkhead_config::path::{Pattern, Trie, normalise};
use bulkhead_config::snapshot::{FieldNames, FieldValue, HeaderLine, HeaderRules, Piece, Step, Variable};
use bulkhead_sidecar::fields::{Fields, Lines};
use bulkhead_sidecar::request::header_rules::{self, Known};
use bulkhead_sidecar::request::leak::json::{Says, says};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderName, HeaderValue};
use std::hint::black_box;

fn normal_form(c: &mut Criterion) {
    let mut group = c.benchmark_group("head/normalise");
    for (name, path) in [
        ("as most clients send it", "/v1/items/4711/attachments/invoice.pdf"),
        ("escapes to decode", "/v1/items/%7Eana/attachments/r%C3%A9sum%c3%a9.pdf"),
        ("a dot segment in disguise", "/v1/items/%2e%2e/attachments/invoice.pdf"),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(normalise(black_box(path))).is_ok()));
    }
    group.finish();
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("head/route");
    for routes in [10, 1_000] {
        let mut trie = Trie::new();
        for at in 0..routes {
            let pattern: Pattern = format!("/v1/collection-{at}/{{id}}").parse().unwrap();
            assert!(trie.insert(&pattern, at).is_ok());
        }
        let path = format!("/v1/collection-{}/4711", routes / 2);
        assert_eq!(trie.find(&path), Some(&(routes / 2)));
        group.bench_function(format!("one of {routes}"), |b| b.iter(|| black_box(trie.find(black_box(&path)))));
    }
    group.finish();
}

/// A kibibyte of JSON in which every element names its tenant.
fn whose(c: &mut Criterion) {
    let mut group = c.benchmark_group("head/whose an answer is");
    let item = r#"{"id":4711,"tenant_id":"acme_corp","name":"Third quarter","total":1299.5,"tags":["a","b"],"paid":true}"#;
    let text = format!(r#"{{"items":[{}]}}"#, [item; 10].join(","));
    assert!((1_000..1_100).contains(&text.len()), "{} bytes", text.len());
    let steps = [Step::To("items".to_owned()), Step::Each, Step::To("tenant_id".to_owned())];
    assert_eq!(says(text.as_bytes(), &steps, "acme_corp"), Says::Ours);
    group.bench_function("1 KiB of JSON", |b| b.iter(|| says(black_box(text.as_bytes()), black_box(&steps), black_box("acme_corp"))));
    group.finish();
}

/// Five entries, on a request of eight fields and on an answer of five: one is removed, two are set, one of them to a variable, and
/// two are added.
fn header_rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("head/header rules");
    let line = |name, value| HeaderLine { name: HeaderName::from_static(name), value };
    let fixed = |name, value| line(name, FieldValue::Fixed(HeaderValue::from_static(value)));
    let dropped = ["x-powered-by", "x-tenant", "x-env"].map(HeaderName::from_static);
    let write = vec![
        line("x-tenant", FieldValue::Made(vec![Piece::Variable(Variable::Tenant)])),
        fixed("x-env", "prod"),
        fixed("x-frame-options", "DENY"),
        fixed("x-edge", "vienna"),
    ];
    let rules = HeaderRules { drop: FieldNames::of(dropped), write };
    let source = [192, 0, 2, 7].into();
    let known = Known { tenant: Some("acme_corp"), user: Some("ana".into()), route: "items", decision: *b"d-0123456789abcdef", source };
    let of = |fields: &[(&'static str, &'static str)]| {
        Fields::from(&fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect())
    };
    let mut request = of(&[
        ("host", "acme.localhost"),
        ("authorization", "Bearer x"),
        ("accept", "*/*"),
        ("user-agent", "bench"),
        ("accept-encoding", "gzip"),
        ("content-type", "application/json"),
        ("x-env", "mine"),
        ("x-request-id", "4711"),
    ]);
    let mut answer = of(&[
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("server", "demo"),
        ("x-powered-by", "x"),
    ]);
    let mut out = Vec::with_capacity(1_024);
    group.bench_function("five of a request", |b| {
        b.iter(|| {
            out.clear();
            header_rules::drop(black_box(&rules), &mut request);
            header_rules::write(black_box(&rules), black_box(&known), &mut out);
            black_box(out.len())
        });
    });
    group.bench_function("five of an answer", |b| {
        b.iter(|| {
            let mut own = Lines::within(std::mem::take(&mut out));
            header_rules::drop(black_box(&rules), &mut answer);
            header_rules::enter(black_box(&rules), black_box(&known), &mut own);
            out = black_box(own).into_buffer();
        });
    });
    group.finish();
}

criterion_group!(benches, normal_form, route, whose, header_rules);
criterion_main!(benches);
