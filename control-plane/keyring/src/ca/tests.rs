#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::kek::KekSource;
use crate::keyring::Keyring;
use crate::storage::MemoryStorage;
use crate::{KeyName, Purpose};
use bulkhead_config::seal::Key;
use rcgen::{BasicConstraints, CertifiedIssuer, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, UnixTime};
use rustls::server::ServerConnection;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::collections::HashSet;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, GeneralName};

const NOW: UnixSeconds = 1_700_000_000;
const DAY: UnixSeconds = 24 * 3_600;
const YEAR: UnixSeconds = 365 * DAY;

fn domain() -> TrustDomain {
    "acme.test".parse().unwrap()
}

fn web() -> SidecarName {
    "web-1".parse().unwrap()
}

async fn keyring(storage: &MemoryStorage) -> Keyring {
    let source = KekSource::Setting(Key::new(&[1; 32]));
    Keyring::open(Box::new(storage.clone()), &source, NOW).await.unwrap().0
}

async fn authority() -> Authority {
    keyring(&MemoryStorage::default()).await.authority(&domain(), NOW).await.unwrap()
}

/// Who shows a certificate in a handshake.
struct Party {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    issued: Issued,
}

impl Party {
    fn of(issue: impl FnOnce(&Request) -> Issued) -> Self {
        let (request, key) = Request::make().unwrap();
        let issued = issue(&request);
        Self { chain: issued.chain.clone(), key, issued }
    }

    fn sidecar(authority: &Authority, now: UnixSeconds) -> Self {
        Self::of(|request| authority.sidecar(&web(), request, now, LIFETIME).unwrap())
    }

    fn server(authority: &Authority, now: UnixSeconds) -> Self {
        let names = ["localhost", "127.0.0.1"].map(|name| ServerName::try_from(name).unwrap());
        Self::of(|request| authority.server(&names, request, now, LIFETIME).unwrap())
    }
}

/// The time that both sides of a handshake take it to be.
#[derive(Debug)]
struct At(UnixSeconds);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unsigned_abs())))
    }
}

/// What is trusted by the two sides, and revoked, when they meet.
struct Meeting<'a> {
    by_server: &'a [CertificateDer<'static>],
    by_client: &'a [CertificateDer<'static>],
    revoked: Revocations,
    at: UnixSeconds,
}

impl<'a> Meeting<'a> {
    fn of(authority: &'a Authority) -> Self {
        Self { by_server: authority.roots(), by_client: authority.roots(), revoked: Revocations::default(), at: NOW }
    }

    /// Shakes hands, and says whom the server let in.
    fn shake(&self, client: Option<&Party>, server: &Party) -> Result<Peer, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = PeerVerifier::new(self.by_server, domain(), self.revoked.clone(), Arc::clone(&provider)).unwrap();
        let verifier = Arc::new(verifier);
        let config = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(At(self.at)));
        let config = config.with_safe_default_protocol_versions().unwrap().with_client_cert_verifier(verifier.clone());
        let config = config.with_single_cert(server.chain.clone(), server.key.clone_key().into()).unwrap();
        let mut serving = ServerConnection::new(Arc::new(config)).unwrap();

        let mut trusted = RootCertStore::empty();
        trusted.add_parsable_certificates(self.by_client.iter().cloned());
        let config = ClientConfig::builder_with_details(provider, Arc::new(At(self.at)));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(trusted);
        let config = match client {
            Some(client) => config.with_client_auth_cert(client.chain.clone(), client.key.clone_key().into()).unwrap(),
            None => config.with_no_client_auth(),
        };
        let mut asking = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();

        while asking.is_handshaking() || serving.is_handshaking() {
            let mut bytes = Vec::new();
            while asking.wants_write() {
                asking.write_tls(&mut bytes).unwrap();
            }
            take(&mut serving, &bytes)?;
            bytes.clear();
            while serving.wants_write() {
                serving.write_tls(&mut bytes).unwrap();
            }
            take(&mut asking, &bytes)?;
        }
        Ok(verifier.peer(&serving.peer_certificates().unwrap()[0]).unwrap())
    }
}

fn take<Data>(to: &mut rustls::ConnectionCommon<Data>, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn refused(shaken: Result<Peer, rustls::Error>) -> CertificateError {
    match shaken {
        Err(rustls::Error::InvalidCertificate(why)) => why,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn a_sidecar_and_a_control_plane_that_were_certified_shake_hands() {
    let authority = authority().await;
    let (client, server) = (Party::sidecar(&authority, NOW), Party::server(&authority, NOW));
    let peer = Meeting::of(&authority).shake(Some(&client), &server).unwrap();
    let issued = &client.issued;
    assert_eq!((&peer.id, peer.serial, peer.until), (&issued.id, issued.serial, NOW + DAY));
    assert_eq!((peer.role, peer.id.as_str(), peer.issued), (Role::Sidecar(web()), "spiffe://acme.test/sidecar/web-1", NOW));

    let ops: OperatorName = "ops".parse().unwrap();
    let operator = Party::of(|request| authority.operator(&ops, request, NOW, LIFETIME).unwrap());
    assert_eq!(Meeting::of(&authority).shake(Some(&operator), &server).unwrap().role, Role::Operator(ops));
    // A minute off either way is no reason to be refused.
    assert!(Meeting { at: NOW - 60, ..Meeting::of(&authority) }.shake(Some(&client), &server).is_ok());
}

#[tokio::test]
async fn who_is_expired_foreign_or_something_else_is_refused_in_the_handshake() {
    let authority = authority().await;
    let (client, server) = (Party::sidecar(&authority, NOW), Party::server(&authority, NOW));
    let meeting = Meeting::of(&authority);

    let old = Party::sidecar(&authority, NOW - 2 * DAY);
    assert!(matches!(refused(meeting.shake(Some(&old), &server)), CertificateError::ExpiredContext { .. }));
    let early = Party::sidecar(&authority, NOW + DAY);
    assert!(matches!(refused(meeting.shake(Some(&early), &server)), CertificateError::NotValidYetContext { .. }));
    let old = Party::server(&authority, NOW - 2 * DAY);
    assert!(matches!(refused(meeting.shake(Some(&client), &old)), CertificateError::ExpiredContext { .. }));

    // Of the same domain by its name, and of another authority.
    let other = self::authority().await;
    let stranger = Party::sidecar(&other, NOW);
    assert!(matches!(refused(meeting.shake(Some(&stranger), &server)), CertificateError::UnknownIssuer | CertificateError::BadSignature));
    let stranger = Party::server(&other, NOW);
    assert!(matches!(refused(meeting.shake(Some(&client), &stranger)), CertificateError::UnknownIssuer | CertificateError::BadSignature));

    // A server is no client, nor a client a server.
    assert!(matches!(refused(meeting.shake(Some(&server), &server)), CertificateError::InvalidPurposeContext { .. }));
    assert!(refused_at_all(meeting.shake(Some(&client), &client)));
    assert!(refused_at_all(meeting.shake(None, &server)));
}

fn refused_at_all(shaken: Result<Peer, rustls::Error>) -> bool {
    matches!(shaken, Err(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

#[tokio::test]
async fn one_authority_for_two_domains_lets_nobody_from_one_into_the_other() {
    let (certificates, key) = brought(&BroughtKind::Root);
    let ours = Authority::brought(domain(), certificates.as_bytes(), key.as_bytes(), NOW).unwrap();
    let theirs = Authority::brought("acme.test.evil".parse().unwrap(), certificates.as_bytes(), key.as_bytes(), NOW).unwrap();
    let server = Party::server(&ours, NOW);
    assert!(Meeting::of(&ours).shake(Some(&Party::sidecar(&ours, NOW)), &server).is_ok());
    let foreign = Party::sidecar(&theirs, NOW);
    let CertificateError::Other(why) = refused(Meeting::of(&ours).shake(Some(&foreign), &server)) else { unreachable!("it is trusted") };
    let told = why.0.downcast_ref::<NotAPeer>().unwrap();
    assert_eq!(*told, NotAPeer::OtherDomain { id: foreign.issued.id, domain: domain() });
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_one_issued_later_is_not() {
    let authority = authority().await;
    let (first, server) = (Party::sidecar(&authority, NOW), Party::server(&authority, NOW));
    let second = Party::sidecar(&authority, NOW + 10);
    let shake = |revoked: &Revocations, client: &Party| {
        Meeting { revoked: revoked.clone(), at: NOW + 20, ..Meeting::of(&authority) }.shake(Some(client), &server)
    };
    let mut by_number = Revocations::default();
    by_number.revoke(first.issued.serial, first.issued.until);
    let mut by_name = Revocations::default();
    by_name.revoke_all(first.issued.id.clone(), NOW + 9, NOW + DAY);
    for revoked in [&by_number, &by_name] {
        assert_eq!(refused(shake(revoked, &first)), CertificateError::Revoked);
        assert_eq!(shake(revoked, &second).unwrap().serial, second.issued.serial);
    }
    by_name.revoke_all(first.issued.id.clone(), NOW + 10, NOW + DAY + 10);
    // An earlier one takes nothing back.
    by_name.revoke_all(first.issued.id.clone(), NOW, NOW);
    assert_eq!(refused(shake(&by_name, &second)), CertificateError::Revoked);
}

#[tokio::test]
async fn revocations_come_back_as_they_were_and_end_with_what_they_revoke() {
    let authority = authority().await;
    let issued = Party::sidecar(&authority, NOW).issued;
    let mut revoked = Revocations::default();
    revoked.revoke(issued.serial, NOW + 100);
    revoked.revoke_all(issued.id, NOW, NOW + 200);
    let all = revoked.to_json();
    assert_eq!(Revocations::from_json(&all).unwrap(), revoked);
    revoked.prune(NOW + 100);
    assert_eq!(revoked.to_json(), all);
    revoked.prune(NOW + 101);
    assert_ne!(revoked.to_json(), all);
    revoked.prune(NOW + 201);
    assert_eq!(revoked, Revocations::default());
    for bad in [
        serde_json::json!({}),
        serde_json::json!({ "serials": {} }),
        serde_json::json!({ "serials": { "1": 2 }, "names": {} }),
        serde_json::json!({ "serials": {}, "names": { "web": { "since": 1, "until": 2 } } }),
        serde_json::json!({ "serials": {}, "names": { "spiffe://a/b": { "since": 1 } } }),
    ] {
        assert_eq!(Revocations::from_json(&bad), Err(NotRevocations), "{bad}");
    }
}

/// A request as somebody else's program makes it.
fn csr(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

#[tokio::test]
async fn nothing_of_a_request_is_taken_but_its_key() {
    let authority = authority().await;
    let key = KeyPair::generate().unwrap();
    let greedy = csr(&key, |params| {
        params.distinguished_name = named("admin");
        params.subject_alt_names =
            vec![SanType::URI("spiffe://acme.test/operator/root".try_into().unwrap()), SanType::DnsName("evil.test".try_into().unwrap())];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let issued = authority.sidecar(&web(), &Request::parse(&greedy).unwrap(), NOW, LIFETIME).unwrap();
    let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
    assert_eq!(certificate.subject().to_string(), "CN=web-1");
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::URI("spiffe://acme.test/sidecar/web-1")]);
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert_eq!(certificate.validity().not_before.timestamp(), NOW - SKEW_SECONDS);
    assert_eq!(certificate.validity().not_after.timestamp(), NOW + DAY);
}

#[test]
fn a_request_that_was_changed_cut_or_extended_is_none_or_still_asks_for_its_own_key() {
    let (request, key) = Request::make().unwrap();
    let good = Request::der(&key).unwrap();
    assert_eq!(Request::parse(&good).unwrap(), request);
    let (_, parsed) = X509CertificationRequest::from_der(&good).unwrap();
    let signed = parsed.certification_request_info.raw;
    let from = good.windows(signed.len()).position(|window| window == signed).unwrap();
    for at in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        let read = Request::parse(&bad);
        // Around what is signed, the library reads some bytes as they were meant.
        let is_signed = (from..from + signed.len()).contains(&(at / 8));
        assert!(read.is_err() || !is_signed && read == Ok(request.clone()), "bit {at}: {read:?}");
    }
    for len in 0..good.len() {
        assert!(Request::parse(&good[..len]).is_err(), "cut to {len}");
    }
    assert_eq!(Request::parse(&[good, vec![0]].concat()), Err(NotARequest::Malformed));
    assert_eq!(Request::parse(&vec![0x30; 9_000]), Err(NotARequest::TooLarge(9_000)));
}

#[test]
fn keys_that_get_a_certificate_are_few() {
    for (algorithm, is_good) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, true),
        (&PKCS_ECDSA_P384_SHA384, true),
        (&PKCS_ED25519, true),
        (&PKCS_RSA_SHA256, false),
        (&rcgen::PKCS_ECDSA_P521_SHA512, false),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let parsed = Request::parse(&csr(&key, |_| ()));
        assert_eq!(parsed.is_ok(), is_good, "{algorithm:?}: {parsed:?}");
    }
}

#[tokio::test]
async fn a_certificate_holds_as_long_as_was_asked_and_never_longer_than_its_authority() {
    let storage = MemoryStorage::default();
    let authority = keyring(&storage).await.authority(&domain(), NOW).await.unwrap();
    let (request, _) = Request::make().unwrap();
    let until = |now, lifetime| authority.sidecar(&web(), &request, now, lifetime).map(|issued| issued.until);
    assert_eq!(until(NOW, Duration::from_secs(60)).unwrap(), NOW + 60);
    assert_eq!(until(NOW, Duration::MAX).unwrap(), NOW + 10 * YEAR);
    assert_eq!(until(NOW + 10 * YEAR - 60, LIFETIME).unwrap(), NOW + 10 * YEAR);
    assert!(matches!(until(NOW + 10 * YEAR, LIFETIME), Err(CannotIssue::Expired(_))));
    assert!(matches!(authority.server(&[], &request, NOW, LIFETIME), Err(CannotIssue::NoServerName)));

    let serials: HashSet<Serial> = (0..200).map(|_| authority.sidecar(&web(), &request, NOW, LIFETIME).unwrap().serial).collect();
    assert_eq!(serials.len(), 200);
    assert!(serials.iter().all(|serial| serial.0[0] & 0xc0 == 0x40), "as long as it is written, and positive");
}

#[tokio::test]
async fn an_authority_is_kept_and_each_domain_has_its_own() {
    let storage = MemoryStorage::default();
    let roots = keyring(&storage).await.authority(&domain(), NOW).await.unwrap().roots().to_vec();
    let again = keyring(&storage).await;
    assert_eq!(again.authority(&domain(), NOW + DAY).await.unwrap().roots(), roots);
    let other = again.authority(&"globex.test".parse().unwrap(), NOW).await.unwrap();
    assert_ne!(other.roots(), roots);
    assert_eq!(again.list().into_iter().filter(|key| matches!(key.name.purpose, Purpose::Authority(_))).count(), 2);
}

#[tokio::test]
async fn who_knows_the_old_authority_only_believes_the_new_one_until_the_old_is_revoked() {
    let keyring = keyring(&MemoryStorage::default()).await;
    let before = keyring.authority(&domain(), NOW).await.unwrap();
    let purpose = Purpose::Authority(domain());
    keyring.rotate(&purpose, NOW).await.unwrap();
    let after = keyring.authority(&domain(), NOW).await.unwrap();
    assert_eq!((before.roots().len(), after.roots().len()), (1, 2));

    // Readers other than ours count what may stand between.
    let below = |certificate: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        (constraints.critical, constraints.value.ca, constraints.value.path_len_constraint)
    };
    let between = &Party::sidecar(&after, NOW).chain[1];
    assert_eq!([&before.roots()[0], between].map(below), [(true, true, Some(1)), (true, true, Some(0))]);

    let (old, new) = (Party::sidecar(&before, NOW), Party::sidecar(&after, NOW));
    let server = Party::server(&after, NOW);
    let knows_old = Meeting { by_client: before.roots(), ..Meeting::of(&after) };
    for client in [&old, &new] {
        knows_old.shake(Some(client), &server).unwrap();
    }
    // A control plane that was not told yet lets in who has a certificate of the new one.
    Meeting { by_server: before.roots(), by_client: before.roots(), ..Meeting::of(&after) }.shake(Some(&new), &server).unwrap();

    keyring.revoke(&KeyName { purpose, version: 1 }).await.unwrap();
    let alone = keyring.authority(&domain(), NOW).await.unwrap();
    assert_eq!(alone.roots(), &after.roots()[..1]);
    let server = Party::server(&alone, NOW);
    assert!(refused_at_all(Meeting::of(&alone).shake(Some(&old), &server)));
    assert!(refused_at_all(Meeting { by_client: before.roots(), ..Meeting::of(&alone) }.shake(Some(&new), &server)));
    Meeting::of(&alone).shake(Some(&new), &server).unwrap();
}

#[tokio::test]
async fn an_authority_is_replaced_a_year_before_it_ends_and_once() {
    let keyring = keyring(&MemoryStorage::default()).await;
    let first = keyring.authority(&domain(), NOW).await.unwrap();
    let (last, due) = (NOW + 9 * YEAR - 1, NOW + 9 * YEAR);
    assert_eq!(keyring.authority(&domain(), last).await.unwrap().roots(), first.roots());
    for _ in 0..2 {
        let second = keyring.authority(&domain(), due).await.unwrap();
        assert_eq!(second.roots().len(), 2);
        assert_eq!(second.roots()[1], first.roots()[0]);
        let (client, server) = (Party::sidecar(&second, due), Party::server(&second, due));
        Meeting { by_client: first.roots(), at: due, ..Meeting::of(&second) }.shake(Some(&client), &server).unwrap();
    }
    // What has ended is trusted no more.
    assert_eq!(keyring.authority(&domain(), NOW + 10 * YEAR).await.unwrap().roots().len(), 1);
}

enum BroughtKind {
    Root,
    /// One that stands below another.
    Below,
    /// One whose certificate issues nothing.
    Leaf,
    /// One that ended.
    Expired,
}

/// Certificates and key, in PEM.
fn brought(kind: &BroughtKind) -> (String, String) {
    let made = |name: &str, is_ca: IsCa| {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = is_ca;
        hold(&mut params, NOW - DAY, if matches!(kind, BroughtKind::Expired) { NOW - 1 } else { NOW + YEAR });
        (params, KeyPair::generate().unwrap())
    };
    let authority = || IsCa::Ca(BasicConstraints::Unconstrained);
    match kind {
        BroughtKind::Below => {
            let (params, key) = made("above", authority());
            let above = CertifiedIssuer::self_signed(params, key).unwrap();
            let (params, key) = made("below", authority());
            let below = params.signed_by(&key, &above).unwrap();
            (below.pem() + &above.pem(), key.serialize_pem())
        }
        BroughtKind::Root | BroughtKind::Expired | BroughtKind::Leaf => {
            let (params, key) = made("root", if matches!(kind, BroughtKind::Leaf) { IsCa::ExplicitNoCa } else { authority() });
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        }
    }
}

#[test]
fn an_authority_that_is_brought_issues_what_those_above_it_vouch_for() {
    for (kind, above) in [(BroughtKind::Root, 0), (BroughtKind::Below, 1)] {
        let (certificates, key) = brought(&kind);
        let authority = Authority::brought(domain(), certificates.as_bytes(), key.as_bytes(), NOW).unwrap();
        let (client, server) = (Party::sidecar(&authority, NOW), Party::server(&authority, NOW));
        assert_eq!((client.chain.len(), authority.roots().len()), (1 + above, 1));
        Meeting::of(&authority).shake(Some(&client), &server).unwrap();
        assert!(matches!(authority.sidecar(&web(), &Request::make().unwrap().0, NOW + YEAR, LIFETIME), Err(CannotIssue::Expired(_))));
    }
}

#[test]
fn what_is_no_authority_says_why() {
    let (root, key) = brought(&BroughtKind::Root);
    let (other, other_key) = brought(&BroughtKind::Root);
    let (chain, below_key) = brought(&BroughtKind::Below);
    let (below, above) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
    let (leaf, leaf_key) = brought(&BroughtKind::Leaf);
    let (expired, expired_key) = brought(&BroughtKind::Expired);
    for (certificates, key, wrong) in [
        (String::new(), &key, NotAnAuthority::NoCertificate),
        (key.clone(), &key, NotAnAuthority::NoCertificate),
        (pem(&[CertificateDer::from(vec![0x30, 0x00])]), &key, NotAnAuthority::Certificate(1)),
        (leaf, &leaf_key, NotAnAuthority::NotIssuing(1)),
        (expired, &expired_key, NotAnAuthority::NotNow(1)),
        (format!("{above}{below}"), &below_key, NotAnAuthority::NotAbove(2)),
        (format!("{below}{other}"), &below_key, NotAnAuthority::NotAbove(2)),
        (root.clone(), &other_key, NotAnAuthority::OtherKey),
        (root.clone(), &root, NotAnAuthority::Key),
        (root.clone(), &String::new(), NotAnAuthority::Key),
    ] {
        let refused = Authority::brought(domain(), certificates.as_bytes(), key.as_bytes(), NOW).unwrap_err();
        assert_eq!(refused, wrong);
    }
    assert_eq!(above.matches("BEGIN").count(), 1);
}

#[tokio::test]
async fn a_chain_reads_back_from_its_file() {
    let issued = Party::sidecar(&authority().await, NOW).issued;
    let read: Vec<_> = CertificateDer::pem_slice_iter(issued.pem().as_bytes()).map(Result::unwrap).collect();
    assert_eq!(read, issued.chain);
    assert!(issued.pem().lines().all(|line| line.len() <= 64));
}

#[tokio::test]
async fn another_library_believes_what_is_issued() {
    let keyring = keyring(&MemoryStorage::default()).await;
    let before = keyring.authority(&domain(), NOW).await.unwrap();
    keyring.rotate(&Purpose::Authority(domain()), NOW).await.unwrap();
    let after = keyring.authority(&domain(), NOW).await.unwrap();
    let (client, server) = (Party::sidecar(&after, NOW), Party::server(&after, NOW));
    for (roots, is_trusted) in [(before.roots(), true), (&after.roots()[..1], true), (authority().await.roots(), false)] {
        for (party, purpose) in [(&client, "sslclient"), (&server, "sslserver")] {
            assert_eq!(openssl_verifies(roots, &party.chain, purpose), is_trusted, "{purpose}");
        }
    }
    assert!(!openssl_verifies(after.roots(), &client.chain, "sslserver"));
}

fn openssl_verifies(roots: &[CertificateDer<'static>], chain: &[CertificateDer<'static>], purpose: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, certificates: &[CertificateDer<'static>]| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem(certificates)).unwrap();
        path
    };
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-purpose", purpose, "-attime", &NOW.to_string()]);
    openssl.arg("-CAfile").arg(file("roots", roots)).arg("-untrusted").arg(file("between", &chain[1..])).arg(file("leaf", &chain[..1]));
    let ended = openssl.output().unwrap_or_else(|cause| unreachable!("{cause}: `apt-get install openssl` brings what this test needs"));
    ended.status.success()
}
