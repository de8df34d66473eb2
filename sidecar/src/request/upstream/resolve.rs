//! Names of upstreams into addresses, on the control runtime: the system's resolver blocks.
//!
//! Cost: none per request.
//! The system's resolver tells no lifetime, so a name is asked about again after `refresh` of its upstream. What was found last is
//! kept when an answer fails: a resolver that is down takes no upstream with it.

use super::attend::Event;
use crate::worker::Random;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// After a failure a name is asked about again this soon, unless its upstream says sooner.
const RETRY: Duration = Duration::from_secs(1);
/// Names that are asked about at once; each holds a thread of those that compile, too.
const AT_ONCE_MAX: usize = 4;
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 256;

type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Who knows the addresses of names. It may block.
#[derive(Clone)]
pub struct Lookup(Arc<Ask>);

impl Lookup {
    /// The system's resolver: hosts file, DNS, whatever it is told to ask.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Any other.
    pub fn new(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Each address once, in the order in which they should be used.
    fn ask(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in (self.0)(name).map_err(|error| error.to_string())? {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Asks for names, a few at once.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    places: Arc<Semaphore>,
}

impl Resolver {
    pub(super) fn new(lookup: Lookup) -> Self {
        Self { lookup, places: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| error.to_string())?;
        let (lookup, name) = (self.lookup.clone(), name.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let answer = lookup.ask(&name);
            drop(place);
            answer
        });
        asked.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Asks for the name of the group's endpoint at `place` again and again, until nobody wants to know.
    pub(super) async fn follow(self, name: String, place: usize, refresh: Duration, events: mpsc::WeakSender<Event>, random: Random) {
        loop {
            let answer = self.ask(&name).await;
            let wait = if answer.is_ok() { refresh } else { refresh.min(RETRY) };
            let Some(told) = events.upgrade() else { return };
            if told.send(Event::Resolved(place, answer)).await.is_err() {
                return;
            }
            drop(told);
            tokio::time::sleep(jittered(wait, &random)).await;
        }
    }
}

/// A time, a tenth more or less: what begins together does not stay together.
pub(super) fn jittered(time: Duration, random: &Random) -> Duration {
    let tenth = time / 10;
    let thousandths = u32::try_from(random.span() % 2_000).unwrap_or_default();
    time - tenth + tenth * thousandths / 1_000
}

/// What needs no resolver: an address, in brackets or not, and `localhost` (RFC 6761 section 6.3).
pub(super) fn literal(name: &str) -> Option<Box<[IpAddr]>> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some([address].into());
    }
    let is_local = name.eq_ignore_ascii_case("localhost");
    is_local.then(|| [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn literals_and_localhost_ask_nobody() {
        for (name, first) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("localhost", "127.0.0.1")] {
            assert_eq!(literal(name).unwrap().first().unwrap().to_string(), first);
        }
        assert!(literal("app.internal").is_none());
    }

    #[test]
    fn an_address_that_comes_twice_is_one_and_none_is_an_error() {
        let twice = Lookup::new(|_| Ok(vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into(), [192, 0, 2, 1].into()]));
        assert_eq!(twice.ask("app").unwrap().len(), 2);
        assert!(Lookup::new(|_| Ok(Vec::new())).ask("app").is_err());
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let random = Random::new().unwrap();
        let times: Vec<Duration> = (0..200).map(|_| jittered(Duration::from_secs(10), &random)).collect();
        assert!(times.iter().all(|time| (9_000..=11_000).contains(&time.as_millis())));
        assert!(times.iter().max() > times.iter().min());
    }
}
