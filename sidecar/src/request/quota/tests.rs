//! Limits of documents as an operator writes them.

use super::{Ask, Book, Exceeded, Fields, Handles, Receipts};
use crate::clock::Now;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::read_file;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::snapshot::{RouteIndex, Snapshot};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const NOON: u64 = 490_000 * 3_600_000;

const PLATFORM: &str = "
kind: Plan
name: free
default: true
api_quota_per_hour: 1000
storage_quota_gb: 1
---
kind: Service
name: demo
listeners: [{ name: http, address: '127.0.0.1:0' }]
upstreams: [{ name: app, endpoints: ['http://127.0.0.1:9'] }]
routes:
  - { name: items, path: /items }
  - { name: reports, path: /reports }
  - { name: health, path: /healthz, access: public }
---
kind: Identity
name: platform
api_key_header: x-api-key
---
kind: Tenant
tenant_id: acme
name: Acme
email: a@acme.test
hosts: [acme.test]
---
kind: Tenant
tenant_id: globex
name: Globex
email: a@globex.test
hosts: [globex.test]
";

/// A policy, the book, and one worker's handles for `acme`.
struct World {
    catalogue: Catalogue,
    snapshot: Arc<Snapshot>,
    book: Book,
    limits: Handles,
    now: Now,
}

impl World {
    /// Starts with documents beside those of the platform.
    fn start(documents: &str) -> Self {
        let mut catalogue = Catalogue::new();
        let snapshot = apply(&mut catalogue, &format!("{PLATFORM}---{documents}"));
        let book = Book::new();
        let limits = Handles::new(&book, snapshot.tenant("acme").unwrap());
        Self { catalogue, snapshot, book, limits, now: Now { mono_ns: 0, unix_ms: NOON } }
    }

    /// Changes documents; this worker takes over the new policy.
    fn apply(&mut self, documents: &str) {
        self.snapshot = apply(&mut self.catalogue, documents);
        self.limits = self.handles("acme");
    }

    /// Handles as another worker makes them.
    fn handles(&self, tenant: &str) -> Handles {
        Handles::new(&self.book, self.snapshot.tenant(tenant).unwrap())
    }

    fn route(&self, path: &str) -> RouteIndex {
        self.snapshot.platform().services()[0].route(path).unwrap().index
    }

    fn ask(&self, path: &str) -> Ask<'static> {
        Ask { route: self.route(path), proven: true, user: Some("ana"), api_key: None, source: IpAddr::from([192, 0, 2, 1]) }
    }

    fn take(&self, path: &str) -> Result<Receipts, Exceeded> {
        self.limits.take(&self.ask(path), self.now)
    }

    /// How many requests pass at once, none of them in flight for longer.
    fn pass(&self, ask: &Ask<'_>) -> usize {
        (0..10_000).take_while(|_| self.limits.take(ask, self.now).is_ok()).count()
    }

    fn later(&mut self, seconds: u64) {
        self.now = Now { mono_ns: self.now.mono_ns + seconds * 1_000_000_000, unix_ms: self.now.unix_ms + seconds * 1_000 };
    }
}

fn apply(catalogue: &mut Catalogue, documents: &str) -> Arc<Snapshot> {
    let file = read_file("policy.yaml", documents);
    assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
    let put = file.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
    let outcome = catalogue.apply(&Offer { put, ..Offer::default() });
    assert_eq!(outcome.quarantined, []);
    outcome.snapshot
}

fn policy(name: &str, applies_to: &str, limits: &str) -> String {
    format!("\nkind: QuotaPolicy\nname: {name}\napplies_to: {{ {applies_to} }}\nlimits:\n{limits}\n")
}

const REPORTS: &str = "  - { name: reports, per: tenant, requests: 5, window: 1m }";

fn shown(fields: &Fields) -> (&str, &str) {
    (fields.rate_limit.to_str().unwrap(), fields.rate_limit_policy.to_str().unwrap())
}

#[test]
fn all_limits_that_count_a_request_must_pass() {
    let world = World::start(&format!(
        "{}---{}",
        policy("reports", "routes: [reports]", REPORTS),
        policy("fair_use", "", "  - { name: burst, per: tenant, rate: 1/s, burst: 8 }")
    ));
    assert_eq!(world.pass(&world.ask("/reports")), 5);
    assert_eq!(world.pass(&world.ask("/items")), 3);
}

#[test]
fn a_refused_request_takes_nothing_from_the_limits_before() {
    let world = World::start(&policy(
        "all",
        "",
        "  - { name: burst, per: tenant, rate: 1/s, burst: 10 }
  - { name: window, per: tenant, requests: 10, window: 1m }
  - { name: in_flight, per: tenant, concurrent: 1 }",
    ));
    let place = world.take("/items").unwrap();
    for _ in 0..100 {
        assert_eq!(world.take("/items").unwrap_err().about.name, "all.in_flight");
    }
    drop(place);
    assert_eq!(world.pass(&world.ask("/items")), 9);
    assert_eq!(world.book.usage("acme", world.now), Some(0.01), "nor from the hour's quota");
}

#[test]
fn a_place_is_held_until_the_receipts_are_dropped() {
    let world = World::start(&policy(
        "all",
        "",
        "  - { name: three, per: tenant, concurrent: 3 }
  - { name: two, per: tenant, concurrent: 2 }",
    ));
    let held = [world.take("/items").unwrap(), world.take("/items").unwrap()];
    let exceeded = world.take("/items").unwrap_err();
    assert_eq!((exceeded.about.name.as_str(), exceeded.problem_type()), ("all.two", "too_many_requests_in_flight"));
    assert_eq!(shown(&exceeded.fields().unwrap()), ("\"all.two\";r=0", "\"all.two\";q=2;qu=\"concurrent-requests\""));
    assert_eq!(exceeded.retry_after(), 1);
    drop(held);
    assert!(world.take("/items").is_ok());
}

#[test]
fn the_hourly_quota_ends_with_the_clock_hour_and_its_use_is_told() {
    let mut world = World::start("\nkind: Tenant\ntenant_id: initech\nname: Initech\nemail: a@initech.test\napi_quota_per_hour: 10");
    world.now.unix_ms += 3_599_000;
    let initech = world.handles("initech");
    assert_eq!(world.book.usage("initech", world.now), Some(0.0));
    let ask = world.ask("/items");
    for _ in 0..10 {
        assert!(initech.take(&ask, world.now).is_ok());
    }
    assert_eq!(world.book.usage("initech", world.now), Some(1.0));
    assert_eq!(world.book.usage("nobody", world.now), None);
    let exceeded = initech.take(&ask, world.now).unwrap_err();
    assert_eq!(shown(&exceeded.fields().unwrap()), ("\"api_quota_per_hour\";r=0;t=1", "\"api_quota_per_hour\";q=10;w=3600"));
    world.later(1);
    assert_eq!(world.book.usage("initech", world.now), Some(0.0));
    assert!(initech.take(&ask, world.now).is_ok());
}

#[test]
fn users_keys_and_addresses_have_budgets_of_their_own() {
    let world = World::start(&policy(
        "each",
        "",
        "  - { name: user, per: user, requests: 3, window: 1m }
  - { name: key, per: api_key, requests: 2, window: 1m }
  - { name: address, per: client_address, requests: 6, window: 1m }",
    ));
    let ana = world.ask("/items");
    assert_eq!(world.pass(&ana), 3);
    let ci = Ask { user: Some("ci"), api_key: Some("ci"), ..ana };
    assert_eq!(world.pass(&ci), 2);
    assert_eq!(world.pass(&Ask { user: Some("bob"), ..ana }), 1, "the address has sent six");
    assert_eq!(world.pass(&Ask { user: Some("bob"), source: "2001:db8::1".parse().unwrap(), ..ana }), 2);
    assert_eq!(world.pass(&Ask { user: Some("eve"), source: "::ffff:192.0.2.1".parse().unwrap(), ..ana }), 0, "the same address");
}

#[test]
fn whoever_is_given_a_network_of_ipv6_addresses_has_one_budget_and_not_one_for_each() {
    let world = World::start(&policy("each", "", "  - { name: address, per: client_address, requests: 4, window: 1m }"));
    let from = |source: &str| Ask { source: source.parse().unwrap(), ..world.ask("/items") };
    assert_eq!(world.pass(&from("2001:db8:0:7::1")), 4);
    assert_eq!(world.pass(&from("2001:db8:0:7:ffff::2")), 0);
    assert_eq!(world.pass(&from("2001:db8:0:8::1")), 4);
}

#[test]
fn an_api_key_is_a_user_and_none_that_a_token_can_name() {
    let world = World::start(&policy("each", "", "  - { name: user, per: user, requests: 3, window: 1m }"));
    let key = Ask { user: Some("ci"), api_key: Some("ci"), ..world.ask("/items") };
    let longest = "k".repeat(63);
    for ask in [key, Ask { api_key: None, ..key }, Ask { user: Some(&longest), api_key: Some(&longest), ..key }] {
        assert_eq!(world.pass(&ask), 3);
    }
}

#[test]
fn what_nobody_proved_is_charged_to_named_routes_and_addresses_only() {
    let world = World::start(&format!(
        "{}---{}---{}",
        policy("fair_use", "", "  - { name: burst, per: tenant, rate: 1/s, burst: 1 }\n  - { name: user, per: user, rate: 1/s, burst: 1 }"),
        policy("health", "routes: [health]", "  - { name: health, per: tenant, requests: 50, window: 1m }"),
        policy("address", "", "  - { name: address, per: client_address, requests: 20, window: 1m }"),
    ));
    let stranger = Ask { proven: false, user: None, ..world.ask("/healthz") };
    assert_eq!(world.pass(&stranger), 20);
    assert_eq!(world.pass(&Ask { source: [192, 0, 2, 2].into(), ..stranger }), 20);
    assert_eq!(world.pass(&Ask { source: [192, 0, 2, 3].into(), ..stranger }), 10);
    assert_eq!(world.book.usage("acme", world.now), Some(0.0));
    assert_eq!(world.pass(&Ask { source: [192, 0, 2, 4].into(), ..world.ask("/items") }), 1, "the tenant's own is untouched");
}

#[test]
fn a_window_of_named_routes_paces_its_clients_and_others_cost_no_field() {
    let mut world = World::start(&format!(
        "{}---{}",
        policy("reports", "routes: [reports]", REPORTS),
        policy(
            "fair_use",
            "",
            "  - { name: burst, per: tenant, rate: 200/s, burst: 400 }\n  - { name: window, per: tenant, requests: 9, window: 1h }"
        )
    ));
    assert!(world.take("/items").unwrap().fields().is_none());
    let receipts = world.take("/reports").unwrap();
    assert_eq!(shown(&receipts.fields().unwrap()), ("\"reports.reports\";r=4;t=60", "\"reports.reports\";q=5;w=60"));
    world.later(20);
    assert_eq!(world.pass(&world.ask("/reports")), 4);
    let exceeded = world.take("/reports").unwrap_err();
    assert_eq!(shown(&exceeded.fields().unwrap()), ("\"reports.reports\";r=0;t=40", "\"reports.reports\";q=5;w=60"));
    assert_eq!((exceeded.retry_after(), exceeded.problem_type()), (40, "quota_exceeded"));
    assert_eq!(exceeded.to_string(), "the limit `reports.reports` of this tenant is used up: 5 in any 1m");
}

#[test]
fn several_windows_are_one_list() {
    let world = World::start(&policy(
        "reports",
        "routes: [reports]",
        "  - { name: minute, per: tenant, requests: 5, window: 1m }
  - { name: second_and_half, per: user, requests: 3, window: 1500ms }",
    ));
    let fields = world.take("/reports").unwrap().fields().unwrap();
    assert_eq!(
        shown(&fields),
        (
            "\"reports.minute\";r=4;t=60, \"reports.second_and_half\";r=2;t=2",
            "\"reports.minute\";q=5;w=60, \"reports.second_and_half\";q=3;w=2"
        )
    );
}

#[test]
fn a_rate_says_its_burst_and_how_long_that_takes_to_fill() {
    let world = World::start(&policy("fair_use", "", "  - { name: burst, per: tenant, rate: 10/m, burst: 20 }"));
    assert_eq!(world.pass(&world.ask("/items")), 20);
    let exceeded = world.take("/items").unwrap_err();
    assert_eq!(exceeded.wait, Duration::from_secs(6));
    assert_eq!(shown(&exceeded.fields().unwrap()), ("\"fair_use.burst\";r=0;t=6", "\"fair_use.burst\";q=20;w=120"));
    assert_eq!(exceeded.to_string(), "the limit `fair_use.burst` of this tenant is used up: 20 at once, whole again after 2m");
}

#[test]
fn retry_after_is_never_earlier_than_the_reset() {
    let mut world = World::start(&policy("reports", "routes: [reports]", REPORTS));
    assert_eq!(world.pass(&world.ask("/reports")), 5);
    world.now.mono_ns += 59_999_000_001;
    let exceeded = world.take("/reports").unwrap_err();
    assert!(exceeded.wait > Duration::ZERO);
    assert_eq!(exceeded.retry_after(), 1);
    world.now.mono_ns += 1_000_000_000;
    assert!(world.take("/reports").is_ok());
}

#[test]
fn an_unlimited_limit_counts_nothing_and_a_zero_lets_nothing_pass() {
    let limits = |written: &str| policy("reports", "routes: [reports]", &format!("  - {{ name: reports, per: tenant, {written} }}"));
    for (written, passing) in [("requests: unlimited, window: 1m", 1_000), ("requests: 0, window: 1m", 0), ("concurrent: 0", 0)] {
        let world = World::start(&limits(written));
        assert_eq!(world.pass(&world.ask("/reports")), passing, "{written}; above it the hour's quota");
    }
}

#[test]
fn an_edit_is_in_force_at_once_and_keeps_what_is_used() {
    let mut world = World::start(&policy("reports", "routes: [reports]", REPORTS));
    assert_eq!(world.pass(&world.ask("/reports")), 5);
    world.apply(&policy("reports", "routes: [reports]", &REPORTS.replace('5', "8")));
    assert_eq!(world.pass(&world.ask("/reports")), 3);
    world.apply("\nkind: Tenant\ntenant_id: globex\nname: Globex Corporation\nemail: a@globex.test\nhosts: [globex.test]");
    assert_eq!(world.pass(&world.ask("/reports")), 0);
}

#[test]
fn workers_and_tenants_by_the_book() {
    let world = World::start(&policy("reports", "routes: [reports]", REPORTS));
    let (second, globex) = (world.handles("acme"), world.handles("globex"));
    let ask = world.ask("/reports");
    assert_eq!(world.pass(&ask), 5);
    assert!(second.take(&ask, world.now).is_err(), "another worker takes from the same cell");
    assert!(globex.take(&ask, world.now).is_ok(), "another tenant has its own");
}

#[test]
fn a_sweep_forgets_limits_that_are_no_more_and_keeps_the_others() {
    let mut world = World::start(&policy("reports", "routes: [reports]", REPORTS));
    assert_eq!(world.pass(&world.ask("/reports")), 5);
    world.book.sweep(&world.snapshot, world.now);
    assert_eq!(world.pass(&world.ask("/reports")), 0);
    world.apply(&policy("reports", "routes: [reports]", &REPORTS.replace("name: reports", "name: renamed")));
    world.book.sweep(&world.snapshot, world.now);
    world.apply(&policy("reports", "routes: [reports]", REPORTS));
    assert_eq!(world.pass(&world.ask("/reports")), 5);
}

#[test]
fn threads_together_are_charged_to_all_limits_or_none() {
    let world = World::start(&policy(
        "all",
        "",
        "  - { name: burst, per: tenant, rate: 1/h, burst: 900 }
  - { name: window, per: user, requests: 300, window: 1h }
  - { name: in_flight, per: tenant, concurrent: 3 }",
    ));
    let (slice, book, now, route) = (world.snapshot.tenant("acme").unwrap(), &world.book, world.now, world.route("/items"));
    let passed: usize = std::thread::scope(|threads| {
        let workers: Vec<_> = ["ana", "bob", "ana", "bob"]
            .map(|user| {
                threads.spawn(move || {
                    let limits = Handles::new(book, slice);
                    let ask = Ask { route, proven: true, user: Some(user), api_key: None, source: IpAddr::from([192, 0, 2, 1]) };
                    (0..2_000).filter(|_| limits.take(&ask, now).is_ok()).count()
                })
            })
            .into();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    // Alone, each of the two users would have been let through 300 times; what a race refused can be taken now.
    assert!(passed <= 600, "{passed}");
    let left = |user| world.pass(&Ask { user: Some(user), ..world.ask("/items") });
    assert_eq!(passed + left("ana") + left("bob"), 600);
    assert_eq!(world.book.usage("acme", now), Some(0.6));
    assert_eq!(left("eve"), 300, "900 less 600: refused requests took nothing");
}
