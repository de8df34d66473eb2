//! What holds for every world, not only for those somebody thought of.

use super::oracle;
use super::support::{ACME, GLOBEX, NOON, PLATFORM, all, told};
use super::world::{Principal, Request, TENANTS, Tenant, World, request, tenant, world};
use bulkhead_config::compile::{Catalogue, Outcome};
use bulkhead_config::declared::read_file;
use bulkhead_config::explain::{Explanation, Question, Verdict, explain};
use bulkhead_config::protocol::{Broken, Offer, Part, Put};
use bulkhead_config::snapshot::Snapshot;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn offer(world: &World) -> Offer {
    let files = world.files();
    all(&files.iter().map(|(file, text)| (&**file, &**text)).collect::<Vec<_>>())
}

/// The world in a catalogue that knew nothing before.
fn fresh(offer: &Offer) -> (Catalogue, Outcome) {
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(offer);
    (catalogue, outcome)
}

fn asked(snapshot: &Snapshot, tenant: &str, request: &Request) -> Explanation {
    let mut question = Question::new(request.method, request.path, request.now);
    question.host = Some(format!("{tenant}.test"));
    question.source = Some(request.source.parse().unwrap());
    match request.principal {
        Principal::Nobody => {}
        Principal::Key => question.api_key = Some("key".to_owned()),
        Principal::Token { user, roles } => {
            let json = format!(r#"{{"path":"/","claims":{{"iss":"i","tenant":"{tenant}","sub":"{user}","roles":["x","{roles}"]}}}}"#);
            question.claims = Question::from_json(json.as_bytes(), NOON).unwrap().claims;
        }
    }
    explain(snapshot, &question)
}

fn code(explanation: &Explanation) -> &'static str {
    match explanation.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Refused { problem, .. } | Verdict::Shadow { problem, .. } => problem,
        Verdict::Unclear => "unclear",
    }
}

/// Something that happens to a catalogue: parts of another world come, go, break, are held or let go.
#[derive(Debug, Clone)]
enum Event {
    Put(Vec<Index>),
    Remove(Vec<Index>),
    Break(Index),
    BreakFile(Index),
    Replace(World),
    Hold(Index),
    Release(Index),
}

fn event() -> impl Strategy<Value = Event> {
    let some = || vec(any::<Index>(), 1..4);
    prop_oneof![
        some().prop_map(Event::Put),
        some().prop_map(Event::Remove),
        any::<Index>().prop_map(Event::Break),
        any::<Index>().prop_map(Event::BreakFile),
        world().prop_map(Event::Replace),
        any::<Index>().prop_map(Event::Hold),
        any::<Index>().prop_map(Event::Release),
    ]
}

fn happen(catalogue: &mut Catalogue, puts: &[Put], event: &Event) -> Outcome {
    let pick = |at: &Index| puts[at.index(puts.len())].clone();
    let diagnostics = || read_file("x", "kind: [").diagnostics;
    let part = |at: &Index| Part::of(&pick(at).document.id);
    let broken = |at: &Index, with_id: bool| {
        let document = pick(at).document;
        Broken { file: document.origin.file.clone(), id: with_id.then(|| document.id.clone()), diagnostics: diagnostics() }
    };
    let offer = match event {
        Event::Put(places) => Offer { put: places.iter().map(pick).collect(), ..Offer::default() },
        Event::Remove(places) => Offer { remove: places.iter().map(|at| pick(at).document.id.clone()).collect(), ..Offer::default() },
        Event::Break(at) => Offer { broken: vec![broken(at, true)], ..Offer::default() },
        Event::BreakFile(at) => Offer { broken: vec![broken(at, false)], ..Offer::default() },
        Event::Replace(world) => offer(world),
        Event::Hold(at) => return catalogue.hold([(part(at), diagnostics())]),
        Event::Release(at) => return catalogue.release(&[part(at)]),
    };
    catalogue.apply(&offer)
}

/// The demo's text with some lines gone, doubled, or with a word of another line in them.
fn mutilated() -> impl Strategy<Value = String> {
    let words = vec((any::<Index>(), any::<Index>(), 0..3u8), 1..12);
    words.prop_map(|changes| {
        let demo = format!("{PLATFORM}\n---\n{ACME}\n---\n{GLOBEX}");
        let mut lines: Vec<String> = demo.lines().map(str::to_owned).collect();
        for (at, from, how) in changes {
            let (at, from) = (at.index(lines.len()), from.index(lines.len()));
            match how {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[from].clone()),
                _ => {
                    let other = lines[from].split_whitespace().last().unwrap_or_default().to_owned();
                    let word = lines[at].split_whitespace().last().unwrap_or_default().to_owned();
                    lines[at] = lines[at].replace(&word, &other);
                }
            }
        }
        lines.join("\n")
    })
}

/// Every host of every tenant names a tenant that has it, and every tenant is found by its hosts unless another is served with it.
fn is_sound(snapshot: &Snapshot) -> bool {
    snapshot.tenant_count() == snapshot.tenants().count()
        && snapshot.tenants().all(|slice| {
            slice.hosts().iter().all(|host| snapshot.tenant_by_host(host.as_str()).is_some_and(|named| named.hosts().contains(host)))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_compiled_decision_is_what_the_documents_mean(world in world(), requests in vec(request(), 30)) {
        let (catalogue, outcome) = fresh(&offer(&world));
        prop_assert_eq!(told(&outcome), "");
        for request in &requests {
            for tenant in &world.tenants {
                let explanation = asked(catalogue.snapshot(), tenant.id, request);
                prop_assert_eq!(code(&explanation), oracle::answer(&world, tenant, request), "{:?}\n{}", request, explanation);
            }
        }
    }

    #[test]
    fn no_change_of_one_tenants_documents_changes_a_decision_for_another(
        world in world(),
        other in tenant(TENANTS[0], vec!["r0".to_owned(), "r1".to_owned(), "nobody".to_owned()]),
        stolen in any::<bool>(),
        requests in vec(request(), 20),
    ) {
        let (mut catalogue, _) = fresh(&offer(&world));
        let before = catalogue.snapshot().clone();
        // Roles that may not exist, and perhaps a host of another tenant: the change may be good or bad.
        let text = other.documents();
        let text = if stolen { text.replace("hosts: [t0.test]", "hosts: [t0.test, t1.test, t2.test]") } else { text };
        catalogue.apply(&Offer { complete: false, ..all(&[("t0.yaml", &text)]) });
        for Tenant { id, .. } in world.tenants.iter().filter(|tenant| tenant.id != TENANTS[0]) {
            for request in &requests {
                let (was, is) = (asked(&before, id, request), asked(catalogue.snapshot(), id, request));
                prop_assert_eq!((was.verdict, was.rule, was.nearest, was.limits), (is.verdict, is.rule, is.nearest, is.limits));
            }
        }
    }

    #[test]
    fn the_order_of_documents_changes_nothing(a in world(), b in world(), order in vec(any::<Index>(), 40)) {
        // Documents of two worlds together: dangling names, two defaults, the same document twice and what else there is.
        let mut there = offer(&a);
        there.put.extend(offer(&b).put.into_iter().filter(|put| Part::of(&put.document.id) != Part::Platform));
        let mut shuffled = Offer { put: Vec::new(), ..there.clone() };
        let mut left = there.put.clone();
        for at in order.iter().cycle().take(left.len()) {
            // Packed too, as a folder offers them.
            let put = left.swap_remove(at.index(left.len()));
            shuffled.put.push(Put { document: put.document.packed(), ..put });
        }
        let ((one, first), (other, second)) = (fresh(&there), fresh(&shuffled));
        prop_assert_eq!(one.snapshot().canonical(), other.snapshot().canonical());
        prop_assert_eq!(told(&first), told(&second));
        prop_assert_eq!((first.changed, first.warnings), (second.changed, second.warnings));
    }

    #[test]
    fn whatever_came_before_what_is_declared_at_last_is_served(a in world(), b in world(), events in vec(event(), 0..12)) {
        let last = offer(&b);
        let puts: Vec<Put> = offer(&a).put.into_iter().chain(last.put.iter().cloned()).collect();
        let mut catalogue = Catalogue::new();
        for event in &events {
            let outcome = happen(&mut catalogue, &puts, event);
            prop_assert!(is_sound(&outcome.snapshot), "{}", outcome.snapshot.canonical());
        }
        let parts: Vec<Part> = puts.iter().map(|put| Part::of(&put.document.id)).collect();
        catalogue.release(&parts);
        let outcome = catalogue.apply(&last);
        prop_assert_eq!(told(&outcome), "");
        prop_assert_eq!(outcome.snapshot.canonical(), fresh(&last).0.snapshot().canonical());
    }

    #[test]
    fn mutilated_documents_are_served_or_named_and_never_touch_who_is_sound(text in mutilated(), requests in vec(request(), 5)) {
        let mut catalogue = Catalogue::new();
        let sound = "kind: Tenant\ntenant_id: sound\nname: S\nemail: s@example.com\nhosts: [sound.test]\n";
        catalogue.apply(&all(&[("platform.yaml", PLATFORM), ("sound.yaml", sound)]));
        let read = read_file("mutilated.yaml", &text);
        let put = read.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
        let diagnostics = read.diagnostics;
        let broken = |id| Broken { file: "mutilated.yaml".into(), id: Some(id), diagnostics: diagnostics.clone() };
        let outcome = catalogue.apply(&Offer { put, broken: read.broken.into_iter().map(broken).collect(), ..Offer::default() });
        prop_assert!(is_sound(&outcome.snapshot), "{}", outcome.snapshot.canonical());
        prop_assert!(outcome.quarantined.iter().all(|part| !part.diagnostics.is_empty()));
        for request in &requests {
            prop_assert_ne!(code(&asked(catalogue.snapshot(), "sound", request)), "policy_held");
        }
    }

    #[test]
    fn one_document_after_the_other_comes_to_the_same_as_all_at_once(world in world()) {
        let whole = offer(&world);
        let mut catalogue = Catalogue::new();
        for put in &whole.put {
            catalogue.apply(&Offer { put: vec![put.clone()], ..Offer::default() });
        }
        let outcome = catalogue.apply(&Offer::default());
        prop_assert_eq!(told(&outcome), "");
        prop_assert_eq!(outcome.snapshot.canonical(), fresh(&whole).0.snapshot().canonical());
    }
}
