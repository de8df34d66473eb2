//! Series: the requests of one tenant as one worker counts them.
//!
//! Cost: per request; three additions to cells of the worker's own, ten comparisons. Resolving a handle costs a hash, and the
//! first time a copy of the table (at most 1,000 entries); it takes no lock.

use super::cells::Cell;
use arc_swap::ArcSwap;
use bulkhead_config::name::TenantId;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Tenants of one process that have series of their own.
pub const TENANTS_MAX: usize = 1_000;
/// `tenant_id` of all others together. A tenant of this name never has its own series, or its samples would appear twice.
pub(super) const OTHER: &str = "other";

/// Upper bounds of the histogram's buckets, in nanoseconds; what is slower counts in `+Inf` alone.
pub(super) const BOUNDS_NS: [u64; 10] =
    [1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000, 1_000_000_000, 5_000_000_000];

/// What a method is for, as a label: a client cannot make up more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodClass {
    /// GET, HEAD, OPTIONS.
    Read,
    /// POST, PUT, PATCH, DELETE.
    Write,
    /// Any other.
    Other,
}

impl MethodClass {
    pub(super) const ALL: [MethodClass; 3] = [MethodClass::Read, MethodClass::Write, MethodClass::Other];

    pub(super) fn label(self) -> &'static str {
        match self {
            MethodClass::Read => "read",
            MethodClass::Write => "write",
            MethodClass::Other => "other",
        }
    }
}

impl From<&http::Method> for MethodClass {
    fn from(method: &http::Method) -> Self {
        match *method {
            http::Method::GET | http::Method::HEAD | http::Method::OPTIONS => MethodClass::Read,
            http::Method::POST | http::Method::PUT | http::Method::PATCH | http::Method::DELETE => MethodClass::Write,
            _ => MethodClass::Other,
        }
    }
}

/// What became of a request, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// 1xx: a switch of protocols.
    Informational,
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
    /// The client left before an answer began.
    None,
}

impl StatusClass {
    pub(super) const ALL: [StatusClass; 6] = [
        StatusClass::Informational,
        StatusClass::Success,
        StatusClass::Redirection,
        StatusClass::ClientError,
        StatusClass::ServerError,
        StatusClass::None,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            StatusClass::Informational => "1xx",
            StatusClass::Success => "2xx",
            StatusClass::Redirection => "3xx",
            StatusClass::ClientError => "4xx",
            StatusClass::ServerError => "5xx",
            StatusClass::None => "none",
        }
    }
}

impl From<http::StatusCode> for StatusClass {
    fn from(status: http::StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => StatusClass::Informational,
            2 => StatusClass::Success,
            3 => StatusClass::Redirection,
            4 => StatusClass::ClientError,
            _ => StatusClass::ServerError,
        }
    }
}

/// Where one worker records the requests of one tenant.
#[derive(Debug, Clone)]
pub struct Series(Arc<Cells>);

impl Series {
    /// Records one request.
    pub fn record(&self, method: MethodClass, status: StatusClass, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.iter().position(|&bound| nanos <= bound).unwrap_or(BOUNDS_NS.len());
        if let Some(cell) = self.0.requests.get(method as usize).and_then(|row| row.get(status as usize)) {
            cell.add(1);
        }
        if let Some(cell) = self.0.buckets.get(bucket) {
            cell.add(1);
        }
        self.0.sum_ns.add(nanos);
    }
}

/// INVARIANT (one writer): belongs to one worker. Two workers' cells share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cells {
    requests: [[Cell; StatusClass::ALL.len()]; MethodClass::ALL.len()],
    buckets: [Cell; BOUNDS_NS.len() + 1],
    sum_ns: Cell,
}

/// The cells of one tenant, by worker.
#[derive(Debug)]
pub(super) struct Tenant(Box<[Arc<Cells>]>);

/// What the workers counted of one tenant.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Sums {
    pub(super) requests: [[u64; StatusClass::ALL.len()]; MethodClass::ALL.len()],
    pub(super) buckets: [u64; BOUNDS_NS.len() + 1],
    pub(super) sum_ns: u64,
}

impl Tenant {
    fn new(workers: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self((0..workers.get()).map(|_| Arc::default()).collect()))
    }

    /// Whatever number a caller made up, some worker's cells: the first of more than there are.
    fn series(&self, worker: usize) -> Series {
        Series(self.0.get(worker).or(self.0.first()).cloned().unwrap_or_default())
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for cells in &self.0 {
            let rows = sums.requests.iter_mut().zip(&cells.requests);
            let pairs = rows.flat_map(|(sums, cells)| sums.iter_mut().zip(cells));
            for (sum, cell) in pairs.chain(sums.buckets.iter_mut().zip(&cells.buckets)) {
                *sum = sum.saturating_add(cell.read());
            }
            sums.sum_ns = sums.sum_ns.saturating_add(cells.sum_ns.read());
        }
        sums
    }
}

/// Which tenants have series of their own. Grows, never shrinks.
#[derive(Debug)]
pub(super) struct Table {
    own: ArcSwap<HashMap<TenantId, Arc<Tenant>, foldhash::fast::FixedState>>,
    other: Arc<Tenant>,
    workers: NonZeroUsize,
}

impl Table {
    pub(super) fn new(workers: NonZeroUsize) -> Self {
        Self { own: ArcSwap::default(), other: Tenant::new(workers), workers }
    }

    pub(super) fn of(&self, worker: usize, tenant: &TenantId) -> Series {
        let own = self.own.load();
        match own.get(tenant) {
            Some(known) => known.series(worker),
            None if own.len() >= TENANTS_MAX || tenant.as_str() == OTHER => self.other.series(worker),
            None => self.admit(tenant).series(worker),
        }
    }

    /// Gives a tenant its own series, unless another worker did so meanwhile or took the last place.
    fn admit(&self, tenant: &TenantId) -> Arc<Tenant> {
        let new = Tenant::new(self.workers);
        self.own.rcu(|own| {
            let mut grown = HashMap::clone(own);
            if grown.len() < TENANTS_MAX {
                grown.entry(tenant.clone()).or_insert_with(|| Arc::clone(&new));
            }
            grown
        });
        self.own.load().get(tenant).unwrap_or(&self.other).clone()
    }

    /// Every tenant with series of its own, and the others as one.
    pub(super) fn each(&self, mut tell: impl FnMut(&str, &Sums)) {
        for (tenant, cells) in self.own.load().iter() {
            tell(tenant.as_str(), &cells.sums());
        }
        tell(OTHER, &self.other.sums());
    }

    /// Tenants with series of their own.
    pub(super) fn tenants(&self) -> Vec<TenantId> {
        self.own.load().keys().cloned().collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        format!("t{number}").parse().unwrap()
    }

    fn table(workers: usize) -> Table {
        Table::new(NonZeroUsize::new(workers).unwrap())
    }

    fn total(sums: &Sums) -> u64 {
        sums.requests.iter().flatten().sum()
    }

    #[test]
    fn beyond_a_thousand_tenants_the_others_are_counted_together_and_nothing_is_lost() {
        let table = Arc::new(table(2));
        // Two workers meet 1,500 tenants in opposite orders, so both give out the last places.
        let workers = [0, 1].map(|worker| {
            let table = Arc::clone(&table);
            std::thread::spawn(move || {
                for at in 0..1_500 {
                    let number = if worker == 0 { at } else { 1_499 - at };
                    let series = table.of(worker, &tenant(number));
                    series.record(MethodClass::Read, StatusClass::Success, Duration::from_millis(3));
                    series.record(MethodClass::Write, StatusClass::ClientError, Duration::from_secs(9));
                }
            })
        });
        for worker in workers {
            worker.join().unwrap();
        }
        let (mut own, mut other, mut seen) = (0, 0, 0);
        table.each(|id, sums| {
            assert_eq!(total(sums), sums.buckets.iter().sum::<u64>());
            if id == OTHER {
                other = total(sums);
            } else {
                seen += 1;
                own += total(sums);
                assert_eq!(total(sums), 4, "{id} was counted in two places");
            }
        });
        assert_eq!(seen, TENANTS_MAX);
        assert_eq!((own, other), (4_000, 2_000));
    }

    #[test]
    fn a_tenant_keeps_its_series() {
        let table = table(1);
        let first = table.of(0, &tenant(0));
        for number in 1..2_000 {
            let _ = table.of(0, &tenant(number));
        }
        assert!(Arc::ptr_eq(&first.0, &table.of(0, &tenant(0)).0));
    }

    #[test]
    fn a_tenant_named_other_counts_with_the_others() {
        let table = table(1);
        table.of(0, &OTHER.parse().unwrap()).record(MethodClass::Read, StatusClass::Success, Duration::ZERO);
        assert!(table.tenants().is_empty());
        let mut rows = Vec::new();
        table.each(|id, sums| rows.push((id.to_owned(), total(sums))));
        assert_eq!(rows, [(OTHER.to_owned(), 1)]);
    }

    #[test]
    fn a_latency_counts_in_the_first_bucket_that_holds_it() {
        let table = table(1);
        let series = table.of(0, &tenant(0));
        for (nanos, bucket) in [(0, 0), (1_000_000, 0), (1_000_001, 1), (5_000_000_000, 9), (5_000_000_001, 10)] {
            let before = sums(&table).buckets;
            series.record(MethodClass::Read, StatusClass::Success, Duration::from_nanos(nanos));
            let after = sums(&table).buckets;
            let grown: Vec<_> = (0..after.len()).filter(|&at| after.get(at) != before.get(at)).collect();
            assert_eq!(grown, [bucket], "{nanos} ns");
        }
        assert_eq!(sums(&table).sum_ns, 10_002_000_002);
    }

    fn sums(table: &Table) -> Sums {
        let mut found = None;
        table.each(|id, sums| {
            if id != OTHER {
                found = Some(sums.clone());
            }
        });
        found.unwrap()
    }
}
