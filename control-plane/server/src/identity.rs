//! Identity: whom the control plane is to its sidecars, and how a sidecar becomes one of them.
//!
//! The keyring holds the authority and the keys that sign offers, sealed, in the store. A sidecar that nobody knows brings a join token and
//! a request for a certificate, once; from then on its certificate names it, and gets it the next one. The certificate of the listener is
//! made at the start and again at half its time; connections that are open go on.

use crate::audit::{Attempt, Decision, From};
use crate::change::{Changer, Refused};
use crate::operator::Operator;
use arc_swap::ArcSwap;
use bulkhead_config::name::{NotAName, SidecarName};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_config::wire::message::{EnrolRequest, EnrolResponse};
use bulkhead_keyring::KekSource;
use bulkhead_keyring::ca::{self, Issued, LIFETIME, Peer, PeerVerifier, Request, Revocations, Role};
use bulkhead_keyring::join_token::{JoinToken, Redeemed, Ticket};
use bulkhead_keyring::storage::{Entries, HEAD, Pending, Put, Puts, Storage, StorageError, Version};
use bulkhead_keyring::{Keyring, KeyringError, Purpose};
use bulkhead_store::{Compare, Key, Keys, Op, Range, Revision, Store, Txn};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// Where the keyring stands in the store.
const KEYRING: &str = "/keyring/";
/// Where join tokens stand in the store, by their public part.
const TICKETS: &str = "/join/";
/// How long a join token counts unless somebody says otherwise.
pub const JOIN_LIFETIME: Duration = Duration::from_secs(3_600);

/// Whether a store holds a keyring, so that its key must be there.
///
/// # Errors
/// When the store cannot be read.
pub async fn has_keyring(store: &dyn Store) -> Result<bool, bulkhead_store::Error> {
    Ok(store.get(Key::from(format!("{KEYRING}{HEAD}"))).await?.is_some())
}

/// Who the control plane is, and whom it certifies.
pub struct Identity {
    keyring: Arc<Keyring>,
    store: Arc<dyn Store>,
    domain: TrustDomain,
    /// What sidecars ask it by.
    names: Vec<ServerName<'static>>,
    tls: ArcSwap<ServerConfig>,
    now: fn() -> i64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The keyring does not open.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No certificate for the listener.
    #[error("the control plane cannot certify itself: {0}")]
    Certificate(String),
}

/// Why no join token was made.
#[derive(Debug, thiserror::Error)]
pub enum NotMinted {
    /// Not a name.
    #[error("`name`: {0}")]
    Name(#[from] NotAName),
    /// No randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] bulkhead_store::Error),
}

impl Identity {
    /// Opens what the store holds, or makes it.
    ///
    /// # Errors
    /// When the key-encryption key is absent or another, or the keyring is damaged: never does a new one take its place.
    pub async fn open(
        store: Arc<dyn Store>,
        kek: &KekSource,
        domain: TrustDomain,
        names: Vec<ServerName<'static>>,
        now: fn() -> i64,
    ) -> Result<Self, IdentityError> {
        let (keyring, _) = Keyring::open(Box::new(InStore(Arc::clone(&store))), kek, now()).await?;
        let keyring = Arc::new(keyring);
        let tls = ArcSwap::new(Arc::new(server(&keyring, &domain, &names, now()).await?));
        Ok(Self { keyring, store, domain, names, tls, now })
    }

    /// What the listener speaks now.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        self.tls.load_full()
    }

    /// Makes the listener's certificate anew before it ends, for as long as the process lives.
    pub(crate) async fn renew(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LIFETIME / 2).await;
            // Until the next try the one there is holds: it has half of its time left.
            if let Ok(config) = server(&self.keyring, &self.domain, &self.names, (self.now)()).await {
                self.tls.store(Arc::new(config));
            }
        }
    }

    /// Signs an offer.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.keyring.sign_snapshot(bytes).ok().map(|signature| signature.to_bytes())
    }

    /// Whom sidecars trust to be the control plane, as PEM.
    ///
    /// # Errors
    /// When the authority had to be made and could not be stored.
    pub async fn roots(&self) -> Result<String, KeyringError> {
        let authority = self.keyring.authority(&self.domain, (self.now)()).await?;
        Ok(ca::pem(authority.roots()))
    }

    /// Makes a token with which one sidecar gets its first certificate, under this name and no other.
    ///
    /// # Errors
    /// When the name is none, or the token cannot be stored.
    pub async fn mint(&self, name: &str, lifetime: Duration) -> Result<(JoinToken, Ticket), NotMinted> {
        let (token, ticket) = JoinToken::make(name.parse()?, (self.now)(), lifetime).map_err(|_| NotMinted::Random)?;
        self.store.txn(Txn::new().then(Op::put(key(&ticket), ticket.to_bytes()))).await?;
        Ok((token, ticket))
    }

    /// Certifies a sidecar: by a join token, or by the certificate that the connection was made with.
    ///
    /// # Errors
    /// Why not; whoever asks with a bad token learns only that it does not count.
    pub(crate) async fn enrol(
        &self,
        certified: Option<&Peer>,
        asked: EnrolRequest,
        changer: &Arc<Changer>,
    ) -> Result<EnrolResponse, Status> {
        let request = Request::parse(&asked.certificate_request).map_err(|why| Status::invalid_argument(why.to_string()))?;
        let name = match (certified, asked.join_token.as_str()) {
            // The handshake verified it then; a connection may have been open since.
            (Some(Peer { role: Role::Sidecar(name), until, .. }), "") if *until > (self.now)() => name.clone(),
            (_, token) => self.redeem(token, &request, changer).await?,
        };
        let internal = |why: String| Status::unavailable(why);
        let authority = self.keyring.authority(&self.domain, (self.now)()).await.map_err(|why| internal(why.to_string()))?;
        let issued: Issued = authority.sidecar(&name, &request, (self.now)(), LIFETIME).map_err(|why| internal(why.to_string()))?;
        self.note(changer, "enrol", Decision::Allowed, format!("sidecar {name}, certificate {}", issued.serial)).await;
        let signers = self.keyring.public_keys(&Purpose::Snapshots).into_iter().map(|key| key.to_vec()).collect();
        Ok(EnrolResponse { certificates: issued.pem(), roots: ca::pem(authority.roots()), signers })
    }

    /// The name that a join token gives, which it does once.
    async fn redeem(&self, presented: &str, request: &Request, changer: &Arc<Changer>) -> Result<SidecarName, Status> {
        let no = || Status::permission_denied("the join token does not count: make a new one with `bulkhead join-token new`");
        let token: JoinToken = presented.parse().map_err(|_| no())?;
        let unavailable = |why: bulkhead_store::Error| Status::unavailable(why.to_string());
        loop {
            let key = Key::from(format!("{TICKETS}{}", token.id()));
            let Some(entry) = self.store.get(key.clone()).await.map_err(unavailable)? else { return Err(no()) };
            let ticket = Ticket::from_bytes(&entry.value).map_err(|why| Status::unavailable(why.to_string()))?;
            let used = match ticket.redeem(&token, request, (self.now)()) {
                Ok(Redeemed::Again) => return Ok(ticket.name),
                Ok(Redeemed::First(used)) => used,
                Err(why) => {
                    self.note(changer, "enrol", Decision::Denied, format!("join token {}: {why}", token.id())).await;
                    return Err(no());
                }
            };
            let put = Txn::new().when(Compare::unchanged(key.clone(), entry.mod_revision)).then(Op::put(key, used.to_bytes()));
            // Of two who come at once one is first; the other one looks again.
            if self.store.txn(put).await.map_err(unavailable)?.succeeded {
                return Ok(ticket.name);
            }
        }
    }

    async fn note(&self, changer: &Arc<Changer>, action: &str, decision: Decision, reason: String) {
        let attempt = Attempt {
            operator: None,
            from: From { address: "sidecar".into(), request_id: "enrol".into() },
            action: action.into(),
            decision,
            reason: Some(reason),
            documents: Vec::new(),
            revision: None,
            at: (self.now)(),
        };
        // What was decided stands, whether or not it could be written down.
        let _: Result<(), Refused> = changer.note(attempt).await;
    }

    /// The peer of a connection, if it brought a certificate; the handshake has verified it.
    pub(crate) fn peer(&self, certificate: &[u8]) -> Option<Peer> {
        Peer::of(certificate, &self.domain).ok()
    }
}

/// Whoever minted a join token, for the audit trail.
pub(crate) fn minted(by: &Operator, from: &From, ticket: &Ticket, at: i64) -> Attempt {
    Attempt {
        operator: Some(by.clone()),
        from: from.clone(),
        action: "createJoinToken".into(),
        decision: Decision::Allowed,
        reason: Some(format!("{} for sidecar {}", ticket.id, ticket.name)),
        documents: Vec::new(),
        revision: None,
        at,
    }
}

fn key(ticket: &Ticket) -> String {
    format!("{TICKETS}{}", ticket.id)
}

/// TLS as the listener speaks it: our certificate, and clients' asked for, since who enrols has none yet.
async fn server(keyring: &Keyring, domain: &TrustDomain, names: &[ServerName<'static>], now: i64) -> Result<ServerConfig, IdentityError> {
    let failed = |why: &dyn std::fmt::Display| IdentityError::Certificate(why.to_string());
    let authority = keyring.authority(domain, now).await?;
    let (request, private) = Request::make().map_err(|why| failed(&why))?;
    let issued = authority.server(names, &request, now, LIFETIME).map_err(|why| failed(&why))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = PeerVerifier::new(authority.roots(), domain.clone(), Revocations::default(), Arc::clone(&provider));
    let verifier = verifier.map_err(|why| failed(&why))?.optional();
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.map_err(|why| failed(&why))?.with_client_cert_verifier(Arc::new(verifier));
    let mut config = config.with_single_cert(issued.chain, private.into()).map_err(|why| failed(&why))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The keyring's entries in the control plane's store.
struct InStore(Arc<dyn Store>);

fn not_stored(cause: bulkhead_store::Error) -> StorageError {
    StorageError::new("the keyring in the control plane's store cannot be reached", cause)
}

impl Storage for InStore {
    fn load(&self) -> Pending<'_, Entries> {
        Box::pin(async {
            let page = self.0.range(Range::of(Keys::prefix(KEYRING))).await.map_err(not_stored)?;
            let mut entries = Entries::default();
            for entry in page.entries {
                let name = String::from_utf8_lossy(entry.key.as_bytes()).into_owned();
                let name = name.strip_prefix(KEYRING).unwrap_or_default().to_owned();
                if name == HEAD {
                    entries.version = entry.mod_revision.get();
                }
                entries.entries.insert(name, entry.value.to_vec());
            }
            Ok(entries)
        })
    }

    fn put(&self, entries: Puts, seen: Version) -> Pending<'_, Put> {
        Box::pin(async move {
            let at = |name: &str| format!("{KEYRING}{name}");
            let head = match seen {
                0 => Compare::absent(at(HEAD)),
                seen => Compare::unchanged(at(HEAD), Revision::new(seen)),
            };
            let put = entries.into_iter().fold(Txn::new().when(head), |txn, (name, bytes)| match bytes {
                Some(bytes) => txn.then(Op::put(at(&name), bytes)),
                None => txn.then(Op::delete(at(&name))),
            });
            let outcome = self.0.txn(put).await.map_err(not_stored)?;
            Ok(if outcome.succeeded { Put::Done(outcome.revision.get()) } else { Put::Moved })
        })
    }
}
