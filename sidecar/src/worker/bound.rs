//! Bound: what one worker keeps for one tenant, resolved once: its slice, its limit cells, its metric series, its header values.
//!
//! Cost: per request; one lookup by tenant, a comparison with the slice of the current policy, and an `Rc` cloned.
//! Made anew when the tenant's slice changes; what lives on (cells, counters) is kept elsewhere and found again.

use crate::request::quota::{Book, Handles};
use crate::telemetry::metrics::{Metrics, Series};
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::{RoleSet, Slice};
use http::HeaderValue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Turns of the wheel after which a tenant that sent nothing is forgotten: five minutes. Its next request makes it anew.
const FORGOTTEN_AFTER: u64 = 6_000;
/// Sets of roles whose text is kept; principals of one tenant share a few.
const ROLE_TEXTS_MAX: usize = 64;

/// One tenant on one worker.
#[derive(Debug)]
pub struct Bound {
    /// As it is served.
    pub slice: Arc<Slice>,
    /// Its limits.
    pub limits: Handles,
    /// Its metrics.
    pub series: Series,
    /// Its id as a header value.
    pub id: HeaderValue,
    role_texts: RefCell<Vec<(RoleSet, HeaderValue)>>,
    used: Cell<u64>,
}

impl Bound {
    /// Names of roles, joined by commas, as a header value.
    #[must_use]
    pub fn role_text(&self, held: RoleSet) -> HeaderValue {
        let mut texts = self.role_texts.borrow_mut();
        if let Some((_, text)) = texts.iter().find(|(roles, _)| *roles == held) {
            return text.clone();
        }
        let names: Vec<&str> = self.slice.policy().roles_in(held).map(|role| role.name.as_str()).collect();
        let text = value(&names.join(","));
        if texts.len() < ROLE_TEXTS_MAX {
            texts.push((held, text.clone()));
        }
        text
    }
}

/// Names are of an alphabet that header values take as it is.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// All tenants of a worker that sent something lately.
pub(super) struct Tenants {
    worker: usize,
    book: Arc<Book>,
    metrics: Arc<Metrics>,
    known: RefCell<HashMap<TenantId, Rc<Bound>, foldhash::fast::FixedState>>,
}

impl Tenants {
    pub(super) fn new(worker: usize, book: Arc<Book>, metrics: Arc<Metrics>) -> Self {
        Self { worker, book, metrics, known: RefCell::default() }
    }

    pub(super) fn of(&self, slice: &Arc<Slice>, turn: u64) -> Rc<Bound> {
        if let Some(bound) = self.known.borrow().get(slice.id())
            && Arc::ptr_eq(&bound.slice, slice)
        {
            bound.used.set(turn);
            return Rc::clone(bound);
        }
        let bound = Rc::new(Bound {
            slice: Arc::clone(slice),
            limits: Handles::new(&self.book, slice),
            series: self.metrics.series(self.worker, slice.id()),
            id: value(slice.id().as_str()),
            role_texts: RefCell::default(),
            used: Cell::new(turn),
        });
        self.known.borrow_mut().insert(slice.id().clone(), Rc::clone(&bound));
        bound
    }

    pub(super) fn sweep(&self, turn: u64) {
        self.known.borrow_mut().retain(|_, bound| bound.used.get() + FORGOTTEN_AFTER > turn);
    }
}
