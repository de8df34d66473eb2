//! Last uses of API keys, of one worker.
//!
//! Cost: per request with an API key; one cell written. The table is looked up when a key is verified, not when it is remembered.
//! Bounded: of more keys than the table holds, those that nobody remembers any more are forgotten first.

use bulkhead_config::name::{KeyId, TenantId};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// Keys whose last use a worker knows.
const KEYS_MAX: usize = 10_000;

/// When a key was used last, in milliseconds since 1970-01-01 UTC.
pub(super) type LastUse = Rc<Cell<u64>>;

/// Last uses.
#[derive(Debug, Default)]
pub(super) struct Uses(HashMap<(TenantId, KeyId), LastUse>);

impl Uses {
    /// Where uses of this key are noted; nowhere when there is no room.
    pub(super) fn of_key(&mut self, tenant: &TenantId, id: &KeyId) -> Option<LastUse> {
        let key = (tenant.clone(), id.clone());
        if let Some(known) = self.0.get(&key) {
            return Some(Rc::clone(known));
        }
        if self.0.len() >= KEYS_MAX {
            self.0.retain(|_, last| Rc::strong_count(last) > 1);
        }
        (self.0.len() < KEYS_MAX).then(|| Rc::clone(self.0.entry(key).or_default()))
    }

    /// Last uses of a tenant's keys.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> Vec<(KeyId, u64)> {
        let of_it = self.0.iter().filter(|((of, _), _)| of == tenant);
        of_it.map(|((_, id), last)| (id.clone(), last.get())).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_keys_that_nobody_remembers_and_takes_no_more_when_there_is_none() {
        let tenant: TenantId = "acme".parse().unwrap();
        let id = |number: usize| format!("k{number}").parse::<KeyId>().unwrap();
        let mut uses = Uses::default();
        let mut held: Vec<LastUse> = (0..KEYS_MAX).map(|number| uses.of_key(&tenant, &id(number)).unwrap()).collect();
        assert!(uses.of_key(&tenant, &id(KEYS_MAX)).is_none());
        assert!(uses.of_key(&tenant, &id(0)).is_some(), "one that is known has its place");
        held.truncate(1);
        uses.of_key(&tenant, &id(KEYS_MAX)).unwrap().set(7);
        let mut left = uses.of_tenant(&tenant);
        left.sort();
        assert_eq!(left, [(id(0), 0), (id(KEYS_MAX), 7)]);
        assert_eq!(uses.of_tenant(&"globex".parse().unwrap()), []);
    }
}
