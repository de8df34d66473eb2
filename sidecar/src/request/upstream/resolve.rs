//! Names of upstreams into addresses, off the workers: the system's resolver blocks, so the control runtime asks it.
//!
//! Cost: per connection; a look into the worker's own table. Literals and `localhost` ask nobody.
//! The system's resolver tells no lifetime, so an answer is fresh for five seconds, and used for a minute more while it is
//! asked again: a resolver that fails for a moment takes no upstream down.

use crate::clock::Now;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const FRESH: Duration = Duration::from_secs(5);
const USABLE: Duration = Duration::from_secs(65);
/// A failure is not asked about again for so long.
const FAILED: Duration = Duration::from_secs(1);
/// Questions that may wait for the control runtime, from all workers.
const QUESTIONS_MAX: usize = 256;
/// Questions the system's resolver is asked at once.
const AT_ONCE_MAX: usize = 8;
/// Names a worker remembers; those nobody asked for lately go first.
const NAMES_MAX: usize = 4_096;

/// Addresses of a name, at least one.
pub type Addresses = Arc<[IpAddr]>;
type Answer = Result<Addresses, Arc<str>>;

/// A question to the control runtime.
#[derive(Debug)]
pub struct Question {
    name: Box<str>,
    answer: oneshot::Sender<Answer>,
}

/// What a worker asks with; clones share the way to the control runtime.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Question>);

/// The way from workers to [`serve`].
#[must_use]
pub fn channel() -> (Asker, mpsc::Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (Asker(sender), receiver)
}

/// Answers questions on the control runtime until nobody can ask any more.
pub async fn serve(mut questions: mpsc::Receiver<Question>) {
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE_MAX));
    while let Some(question) = questions.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        tokio::spawn(async move {
            let answer = ask_system(&question.name).await;
            drop(place);
            // The worker may have given up waiting.
            let _ = question.answer.send(answer);
        });
    }
}

async fn ask_system(name: &str) -> Answer {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| Arc::from(error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("the name has no address".into()) } else { Ok(addresses.into()) }
}

/// What one worker knows of names.
#[derive(Debug)]
pub struct Resolver {
    asker: Asker,
    known: RefCell<HashMap<Box<str>, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    answer: Answer,
    at: Now,
    is_asked_again: bool,
}

impl Resolver {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(asker: Asker) -> Rc<Self> {
        Rc::new(Self { asker, known: RefCell::default() })
    }

    /// Addresses of a name, in the order in which they should be tried.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn addresses(self: &Rc<Self>, name: &str, now: Now) -> Answer {
        if let Some(literal) = literal(name) {
            return Ok(literal);
        }
        let known = self.known.borrow().get(name).cloned();
        match known {
            Some(known) if now.since(known.at) < known.lifetime() => Ok(known.answer?),
            Some(Known { answer: Ok(addresses), at, is_asked_again }) if now.since(at) < USABLE => {
                if !is_asked_again {
                    self.ask_again(name, now);
                }
                Ok(addresses)
            }
            _ => self.ask(name, now).await,
        }
    }

    async fn ask(&self, name: &str, now: Now) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let answer = match self.asker.0.try_send(Question { name: name.into(), answer: sender }) {
            Ok(()) => receiver.await.unwrap_or_else(|_| Err("the resolver has ended".into())),
            Err(_) => Err("too many names are being resolved".into()),
        };
        self.remember(name, answer.clone(), now);
        answer
    }

    fn ask_again(self: &Rc<Self>, name: &str, now: Now) {
        if let Some(known) = self.known.borrow_mut().get_mut(name) {
            known.is_asked_again = true;
        }
        let (this, name) = (Rc::clone(self), Box::<str>::from(name));
        tokio::task::spawn_local(async move { this.ask(&name, now).await });
    }

    fn remember(&self, name: &str, answer: Answer, now: Now) {
        let mut known = self.known.borrow_mut();
        if known.len() >= NAMES_MAX {
            known.retain(|_, known| now.since(known.at) < USABLE);
        }
        if let Some(old) = known.get_mut(name) {
            // What worked a moment ago is better than nothing.
            if answer.is_err() && old.answer.is_ok() && now.since(old.at) < USABLE {
                old.is_asked_again = false;
            } else {
                *old = Known { answer, at: now, is_asked_again: false };
            }
        } else if known.len() < NAMES_MAX {
            known.insert(name.into(), Known { answer, at: now, is_asked_again: false });
        }
    }
}

impl Known {
    fn lifetime(&self) -> Duration {
        if self.answer.is_ok() { FRESH } else { FAILED }
    }
}

/// What needs no resolver: an address, in brackets or not, and `localhost` (RFC 6761 section 6.3).
fn literal(name: &str) -> Option<Addresses> {
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

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, unix_ms: 0 }
    }

    /// Runs `test` beside a resolver that answers 192.0.2.N to the N-th question, or fails when `fails` says so.
    async fn beside_a_resolver(fails: impl Fn(u8) -> bool, test: impl AsyncFnOnce(Rc<Resolver>)) {
        let (asker, mut questions) = channel();
        let answers = async move {
            let mut count = 0;
            while let Some(question) = questions.recv().await {
                count += 1;
                let answer = if fails(count) { Err("no such name".into()) } else { Ok([IpAddr::from([192, 0, 2, count])].into()) };
                question.answer.send(answer).unwrap();
            }
        };
        let local = tokio::task::LocalSet::new();
        local.run_until(async { tokio::join!(test(Resolver::new(asker)), answers) }).await;
    }

    #[tokio::test]
    async fn literals_and_localhost_ask_nobody() {
        beside_a_resolver(
            |_| true,
            async |resolver| {
                for (name, first) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("localhost", "127.0.0.1")] {
                    let addresses = resolver.addresses(name, at(0)).await.unwrap();
                    assert_eq!(addresses.first().unwrap().to_string(), first);
                }
            },
        )
        .await;
    }

    #[tokio::test]
    async fn an_answer_is_used_while_it_is_asked_again() {
        beside_a_resolver(
            |_| false,
            async |resolver| {
                let first = async |seconds| *resolver.addresses("app", at(seconds)).await.unwrap().first().unwrap();
                assert_eq!(first(0).await, IpAddr::from([192, 0, 2, 1]));
                assert_eq!(first(4).await, IpAddr::from([192, 0, 2, 1]));
                assert_eq!(first(6).await, IpAddr::from([192, 0, 2, 1]), "stale, asked again meanwhile");
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(first(7).await, IpAddr::from([192, 0, 2, 2]));
                assert_eq!(first(200).await, IpAddr::from([192, 0, 2, 3]), "too old: waited for");
            },
        )
        .await;
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_second_and_takes_nothing_away() {
        beside_a_resolver(
            |count| count != 2,
            async |resolver| {
                assert!(resolver.addresses("app", at(0)).await.is_err());
                assert!(resolver.addresses("app", at(0)).await.is_err(), "not asked again");
                assert!(resolver.addresses("app", at(2)).await.is_ok());
                assert!(resolver.addresses("app", at(8)).await.is_ok(), "fails behind the scenes");
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                assert!(resolver.addresses("app", at(9)).await.is_ok());
            },
        )
        .await;
    }
}
