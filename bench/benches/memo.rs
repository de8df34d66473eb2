//! A credential recognised: by the memo, where most requests end, and by verification, where each begins.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/issuer.rs"]
mod issuer;

use bulkhead_config::compile::Catalogue;
use bulkhead_config::snapshot::Snapshot;
use bulkhead_sidecar::clock::Now;
use bulkhead_sidecar::request::authn::{Against, Keys, Memo, Presented, Refused, Strangers, Verified, verify};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use documents::offer;
use issuer::{Issuer, KEYS_FILE};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

/// Tokens in turn, so that the memo's memory does not stay in the nearest cache.
const TOKENS: usize = 5_000;

struct World {
    snapshot: Arc<Snapshot>,
    keys: Keys,
    strangers: Strangers,
}

impl World {
    fn new(issuer: &Issuer) -> Self {
        let documents = format!(
            "{{kind: Tenant, tenant_id: acme_corp, name: ACME, email: admin@acme.example, hosts: [acme.localhost]}}\n---\n\
             {{kind: Identity, name: bench, jwt: [{{issuer: bench, audiences: [demo], \
             algorithms: [EdDSA], jwks: {{file: {KEYS_FILE}}}, tenant_claim: tenant}}]}}\n"
        );
        let snapshot = Catalogue::new().apply(&offer(&documents)).snapshot;
        Self { snapshot, keys: issuer.keys(), strangers: Strangers::new() }
    }

    fn verify(&self, memo: &mut Memo, token: &str) -> Result<Rc<Verified>, Refused> {
        let named = self.snapshot.tenant("acme_corp").map(|slice| &**slice);
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let now = Now { mono_ns: 1_000_000_000, unix_ms: 1_800_000_000_000 };
        let against = Against { snapshot: &self.snapshot, keys: &self.keys, named, source, now };
        verify(memo, &self.strangers, &against, Presented::Bearer(token.as_bytes()))
    }
}

fn memo(c: &mut Criterion) {
    let mut group = c.benchmark_group("memo");
    let issuer = Issuer::new();
    let world = World::new(&issuer);
    let tokens: Vec<String> = (0..TOKENS).map(|user| issuer.token(&format!("user-{user}"))).collect();
    let token = tokens.first().unwrap();

    let mut memo = Memo::new();
    assert!(tokens.iter().all(|token| world.verify(&mut memo, token).is_ok()));
    group.bench_function("one token, seen before", |b| b.iter(|| black_box(world.verify(&mut memo, black_box(token))).is_ok()));
    group.bench_function(format!("each of {TOKENS} tokens, seen before"), |b| {
        let mut next = tokens.iter().cycle();
        b.iter(|| black_box(world.verify(&mut memo, next.next().unwrap())).is_ok());
    });

    // Signed by somebody else with a key of the same name: only its signature is wrong.
    let forged = Issuer::new().token("user-1");
    assert!(world.verify(&mut memo, &forged).is_err());
    group.bench_function("a forged token, refused before", |b| b.iter(|| black_box(world.verify(&mut memo, black_box(&forged))).is_err()));

    group.bench_function("a token never seen (EdDSA)", |b| {
        b.iter_batched_ref(Memo::new, |memo| black_box(world.verify(memo, black_box(token))).is_ok(), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, memo);
criterion_main!(benches);
