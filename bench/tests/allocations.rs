//! The request path allocates only what is justified: admitting a caller whose token was seen before needs no memory.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../benches/support/admission.rs"]
mod admission;
#[path = "../benches/support/documents.rs"]
mod documents;
#[path = "../benches/support/issuer.rs"]
mod issuer;

use admission::{Admission, moments};
use bulkhead_config::path::normalise;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: hands every call to the system's allocator as it came; counting touches a thread-local that needs no memory.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe to implement")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

/// Allocations of this thread while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    run();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn token_decision_and_three_limits_allocate_nothing_once_the_token_was_seen() {
    let mut now = moments();
    let mut admission = Admission::new(None);
    drop(admission.admit(now()));
    let counted = allocations(|| {
        for _ in 0..1_000 {
            drop(black_box(admission.admit(now())));
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn conditions_of_a_rule_allocate_nothing() {
    let matchers = "{ headers: { x-env: prod }, query: { format: { any_of: [csv, json] } }, claims: { roles: editor } }";
    let expression = r#"{ condition: 'request.headers["x-env"] == "prod" && claims.email.matches("@acme[.]example$") &&
        claims.roles.exists(r, r.startsWith("ed")) && request.query.format in ["csv", "json"] &&
        now > timestamp("2020-01-01T00:00:00Z")' }"#;
    for when in [matchers, expression] {
        let mut now = moments();
        let mut admission = Admission::new(Some(when));
        let verified = admission.verify(now());
        let counted = allocations(|| {
            for _ in 0..1_000 {
                black_box(admission.decide(&verified, now()));
            }
        });
        assert_eq!(counted, 0, "{when}");
    }
}

#[test]
fn a_path_in_normal_form_is_taken_as_it_is() {
    let counted = allocations(|| assert!(black_box(normalise(black_box("/v1/items/4711/attachments/invoice.pdf"))).is_ok()));
    assert_eq!(counted, 0);
}
