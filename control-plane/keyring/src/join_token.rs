//! Join tokens: with one, a sidecar that nobody knows yet gets its first certificate, once.
//!
//! `bj1.<id>.<secret>`, 256 random bits of secret. Kept of it is a [`Ticket`]: the hash of the whole text, the one name that it gives,
//! until when it counts, and which key has used it. Who redeems reads the ticket, asks it, and puts back what it became only if it is
//! still what was read: of two who come at once, the storage lets one.
//!
//! Whoever used a token may use it again with the same key while it lasts, because the answer to the first time may not have arrived. It
//! gets what it has: the request for a certificate is signed by that key, so a copy of the token alone is worth nothing once it was used.

use crate::ca::Request;
use crate::entry::{NoRandomness, random};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_config::name::SidecarName;
use bulkhead_config::seal::Fingerprint;
use bulkhead_config::unit::UnixSeconds;
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use zeroize::Zeroizing;

const PREFIX: &str = "bj1";
const ID_BYTES: usize = 12;
const SECRET_BYTES: usize = 32;
/// Characters of 256 bits in base64url.
const SECRET_CHARACTERS: usize = 43;

/// A token, as it is given to a sidecar. Shown once, and kept nowhere.
pub struct JoinToken {
    id: TicketId,
    text: Zeroizing<String>,
}

/// Which ticket a token is for: 16 characters of base64url, a good key of any store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(String);

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Which one.
    pub id: TicketId,
    /// The only name that it gives.
    pub name: SidecarName,
    /// From then on it counts no more.
    pub expires: UnixSeconds,
    /// Who has used it.
    pub used: Option<Used>,
    hash: [u8; 32],
}

/// When and with which key a token was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// When, first.
    pub at: UnixSeconds,
    /// The key that was certified.
    pub key: Fingerprint,
}

/// How a ticket was redeemed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// For the first time: certify once this is put in place of what was read, and not before.
    First(Ticket),
    /// Again, by the key that has used it: certify, there is nothing to put.
    Again,
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token, `bj1.`, 16 characters, `.` and 43 more; it may have been cut, and `bulkhead join-token` makes another")]
pub struct NotAToken;

/// Why a token is not redeemed. For the log: whoever presented it learns only that it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRedeemed {
    /// Another secret.
    #[error("the secret is not that of the token with this id")]
    Secret,
    /// Too late.
    #[error("the token expired at {0} (Unix seconds); make a new one")]
    Expired(UnixSeconds),
    /// Used.
    #[error(
        "the token was used at {at} (Unix seconds) with key {key}; make a new one, and find out who did if it was not this sidecar",
        at = .0.at,
        key = .0.key
    )]
    Used(Used),
}

/// Bytes that are no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no ticket of a join token; remove them, and make a new token")]
pub struct NotATicket;

impl JoinToken {
    /// A token for one sidecar, and what to keep of it.
    ///
    /// # Errors
    /// When the library gives no random bytes.
    pub fn make(name: SidecarName, now: UnixSeconds, lifetime: Duration) -> Result<(Self, Ticket), NoRandomness> {
        let id = URL_SAFE_NO_PAD.encode(*random::<ID_BYTES>()?);
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random::<SECRET_BYTES>()?));
        let token = Self { text: Zeroizing::new(format!("{PREFIX}.{id}.{}", *secret)), id: TicketId(id) };
        let expires = now.saturating_add(UnixSeconds::try_from(lifetime.as_secs()).unwrap_or(UnixSeconds::MAX));
        let ticket = Ticket { id: token.id.clone(), name, expires, used: None, hash: token.hash() };
        Ok((token, ticket))
    }

    /// Which ticket to look for.
    #[must_use]
    pub fn id(&self) -> &TicketId {
        &self.id
    }

    /// The token itself, for whom it is meant.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.text.as_bytes()).as_ref());
        hash
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    /// Refuses what has not the form of one before anything is looked for or hashed.
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let mut parts = text.split('.');
        let (Some(PREFIX), Some(id), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(NotAToken);
        };
        if secret.len() != SECRET_CHARACTERS || !holds::<SECRET_BYTES>(secret) {
            return Err(NotAToken);
        }
        Ok(Self { id: id.parse()?, text: Zeroizing::new(text.to_owned()) })
    }
}

impl FromStr for TicketId {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        if holds::<ID_BYTES>(text) { Ok(Self(text.to_owned())) } else { Err(NotAToken) }
    }
}

/// Whether a text is exactly so many bytes in base64url.
fn holds<const N: usize>(text: &str) -> bool {
    let mut bytes = Zeroizing::new([0; N]);
    // A decoder may want more room than it fills; what does not fit is too long in any case.
    text.len() == (N * 4).div_ceil(3) && URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes) == Ok(N)
}

impl Ticket {
    /// What becomes of it when this token is presented with this request.
    ///
    /// # Errors
    /// When the token is not its own, too late, or used with another key.
    pub fn redeem(&self, token: &JoinToken, request: &Request, now: UnixSeconds) -> Result<Redeemed, NotRedeemed> {
        verify_slices_are_equal(&self.hash, &token.hash()).map_err(|_| NotRedeemed::Secret)?;
        if now >= self.expires {
            return Err(NotRedeemed::Expired(self.expires));
        }
        let key = request.fingerprint();
        match self.used {
            None => Ok(Redeemed::First(Self { used: Some(Used { at: now, key }), ..self.clone() })),
            Some(used) if used.key == key => Ok(Redeemed::Again),
            Some(used) => Err(NotRedeemed::Used(used)),
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let used = self.used.map(|used| json!({ "at": used.at, "key": used.key.to_string() }));
        let hash = URL_SAFE_NO_PAD.encode(self.hash);
        json!({ "id": self.id.0, "name": self.name.as_str(), "expires": self.expires, "used": used, "hash": hash }).to_string().into_bytes()
    }

    /// Reads what [`Ticket::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotATicket> {
        serde_json::from_slice(bytes).ok().and_then(|value| Self::read(&value)).ok_or(NotATicket)
    }

    fn read(value: &Value) -> Option<Self> {
        let used = match value.get("used")? {
            Value::Null => None,
            used => Some(Used { at: used.get("at")?.as_i64()?, key: used.get("key")?.as_str()?.parse().ok()? }),
        };
        Some(Self {
            id: value.get("id")?.as_str()?.parse().ok()?,
            name: value.get("name")?.as_str()?.parse().ok()?,
            expires: value.get("expires")?.as_i64()?,
            used,
            hash: URL_SAFE_NO_PAD.decode(value.get("hash")?.as_str()?).ok()?.try_into().ok()?,
        })
    }
}

impl TicketId {
    /// As it stands in the token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;

    const NOW: UnixSeconds = 1_700_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn made() -> (JoinToken, Ticket) {
        JoinToken::make("web-1".parse().unwrap(), NOW, HOUR).unwrap()
    }

    fn request() -> Request {
        Request::make().unwrap().0
    }

    #[test]
    fn a_token_gives_one_name_to_one_key_until_it_expires() {
        let (token, ticket) = made();
        let presented: JoinToken = token.expose().parse().unwrap();
        let (mine, other) = (request(), request());
        let Redeemed::First(used) = ticket.redeem(&presented, &mine, NOW + 5).unwrap() else { unreachable!("it was not used") };
        let by = Used { at: NOW + 5, key: mine.fingerprint() };
        assert_eq!((used.used, used.name.as_str(), &used.id), (Some(by), "web-1", token.id()));
        assert_eq!(used.redeem(&presented, &mine, NOW + 6), Ok(Redeemed::Again));
        assert_eq!(used.redeem(&presented, &other, NOW + 6), Err(NotRedeemed::Used(by)));
        for ticket in [&ticket, &used] {
            assert_eq!(ticket.redeem(&presented, &mine, NOW + 3_600), Err(NotRedeemed::Expired(NOW + 3_600)));
        }
    }

    #[test]
    fn of_many_who_come_at_once_one_is_let_in() {
        let (token, ticket) = made();
        let kept = Mutex::new(ticket.to_bytes());
        let let_in = std::thread::scope(|scope| {
            let come = || {
                let (request, _) = Request::make().unwrap();
                let read = kept.lock().unwrap().clone();
                std::thread::yield_now();
                let redeemed = Ticket::from_bytes(&read).unwrap().redeem(&token, &request, NOW);
                let Ok(Redeemed::First(used)) = redeemed else { return false };
                let mut kept = kept.lock().unwrap();
                let is_unchanged = *kept == read;
                if is_unchanged {
                    *kept = used.to_bytes();
                }
                is_unchanged
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(come)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|is_in| *is_in).count()
        });
        assert_eq!(let_in, 1);
    }

    #[test]
    fn another_secret_is_refused_whatever_else_is_right() {
        let ((token, ticket), (other, _)) = (made(), made());
        let secret = other.expose().rsplit_once('.').unwrap().1;
        let forged: JoinToken = format!("bj1.{}.{secret}", token.id()).parse().unwrap();
        assert_eq!(ticket.redeem(&forged, &request(), NOW), Err(NotRedeemed::Secret));
        assert_eq!(ticket.redeem(&other, &request(), NOW), Err(NotRedeemed::Secret));
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none() {
        let (token, _) = made();
        let good = token.expose();
        let (id, secret) = good.strip_prefix("bj1.").unwrap().split_once('.').unwrap();
        assert_eq!((id.len(), secret.len()), (16, 43));
        for text in [
            String::new(),
            "bj1..".to_owned(),
            good.replacen("bj1", "bk1", 1),
            format!("bj2.{id}.{secret}"),
            format!("{good}."),
            format!("{good}A"),
            format!("{good} "),
            format!(" {good}"),
            format!("bj1.{id}"),
            format!("bj1.{id}x.{secret}"),
            format!("bj1.{}.{secret}", "/".repeat(16)),
            format!("bj1.{id}.{}", "=".repeat(43)),
            format!("bj1.{id}.{}", "A".repeat(10_000)),
            // The last character stands for four bits: others of the same six are another text for the same secret.
            format!("bj1.{id}.{}B", "A".repeat(42)),
        ] {
            assert!(matches!(text.parse::<JoinToken>(), Err(NotAToken)), "{text}");
        }
    }

    #[test]
    fn a_ticket_comes_back_as_it_was_and_says_nothing_of_the_secret() {
        let (token, ticket) = made();
        let Redeemed::First(used) = ticket.redeem(&token, &request(), NOW).unwrap() else { unreachable!("it was not used") };
        let secret = token.expose().rsplit_once('.').unwrap().1;
        for ticket in [ticket, used] {
            let bytes = ticket.to_bytes();
            assert_eq!(Ticket::from_bytes(&bytes), Ok(ticket.clone()));
            for shown in [String::from_utf8(bytes).unwrap(), format!("{ticket:?} {token:?}")] {
                assert!(!shown.contains(secret));
            }
        }
        for bad in ["", "{}", "null", r#"{"id":"x","name":"web","expires":1,"used":null,"hash":""}"#] {
            assert_eq!(Ticket::from_bytes(bad.as_bytes()), Err(NotATicket), "{bad}");
        }
    }

    #[test]
    fn no_two_tokens_are_alike() {
        let tokens: HashSet<String> =
            (0..1_000).flat_map(|_| made().0.expose().split('.').skip(1).map(str::to_owned).collect::<Vec<_>>()).collect();
        assert_eq!(tokens.len(), 2_000);
    }
}
