//! What conditions of a rule add to a decision: three matchers, and an expression.
//!
//! A remembered token with three matchers must stay under 1 µs, its limits included, and an expression add less than 400 ns.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

#[path = "support/admission.rs"]
mod admission;
#[path = "support/documents.rs"]
mod documents;
#[path = "support/issuer.rs"]
mod issuer;

use admission::{Admission, moments};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const MATCHERS: &str = "{ headers: { x-env: prod }, query: { format: { any_of: [csv, json] } }, claims: { roles: editor } }";
const EXPRESSION: &str =
    r#"{ condition: 'request.headers["x-env"] == "prod" && claims.email.endsWith("@acme.example") && "editor" in claims.roles' }"#;

fn conditions(c: &mut Criterion) {
    let mut group = c.benchmark_group("condition");
    let mut now = moments();
    for (name, when) in [("none", None), ("three matchers", Some(MATCHERS)), ("an expression", Some(EXPRESSION))] {
        let mut admission = Admission::new(when);
        let verified = admission.verify(now());
        group.bench_function(format!("decision with {name}"), |b| b.iter(|| black_box(&admission).decide(&verified, now())));
        group.bench_function(format!("token, decision and three limits with {name}"), |b| {
            b.iter(|| black_box(&mut admission).admit(now()));
        });
    }
    group.finish();
}

criterion_group!(benches, conditions);
criterion_main!(benches);
