//! Certificates of clients as credentials: the SPIFFE id of a workload, verified in the handshake.
//!
//! Cost: per connection, one certificate taken apart; per request, a comparison: what it proved is kept with the connection, until
//! the tenant's policy changes.
//! A certificate says nothing of tenants. It proves somebody only to a tenant that the request names and that declares its id; on a
//! shared host it proves nobody, and to a tenant that declares no workloads it is not a credential.

use super::memo::Grounds;
use super::refused::Refused;
use super::{Against, Verified, revoked};
use crate::clock::Now;
use crate::tls::validity::Validity;
use bulkhead_config::snapshot::{Credential, Principal, Workload};
use bulkhead_config::spiffe::SpiffeId;
use bulkhead_config::unit::UnixSeconds;
use rustls::pki_types::CertificateDer;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use webpki::EndEntityCert;

/// What a client's certificate says of it. Only of one that was verified.
#[derive(Debug)]
pub struct Shown {
    id: SpiffeId,
    until: UnixSeconds,
    /// Whom it proved last, and by the policy of which id.
    proved: RefCell<Option<(u64, Rc<Verified>)>>,
}

impl Shown {
    /// Of a verified certificate; none if it has no SPIFFE id, or more than one name that is a URI (X.509-SVID section 2).
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let until = Validity::of(der)?.until;
        let der = CertificateDer::from(der);
        let certificate = EndEntityCert::try_from(&der).ok()?;
        let mut uris = certificate.valid_uri_names();
        let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
        Some(Self { id: uri.parse().ok()?, until, proved: RefCell::default() })
    }

    /// Whom it proves to the tenant that the request names.
    ///
    /// # Errors
    /// The tenant declares workloads, but not this one; or it has expired.
    pub fn verify(&self, against: &Against<'_>) -> Result<Option<Rc<Verified>>, Refused> {
        let Some(slice) = against.named.filter(|slice| slice.policy().has_workloads()) else { return Ok(None) };
        is_good(Some(self.until), against.now)?;
        let policy = slice.policy().id();
        if let Some((known, verified)) = &*self.proved.borrow()
            && *known == policy
            && verified.tenant == *slice.id()
        {
            return Ok(Some(Rc::clone(verified)));
        }
        let declared = declared(against, &self.id).ok_or(Refused::CertificateUnknown)?;
        let user = declared.user.clone().unwrap_or_else(|| self.id.shared());
        let principal = Principal { user, credential: Credential::Certificate(self.id.clone()) };
        revoked::check(&principal, slice.id(), against)?;
        let verified = Rc::new(Verified {
            tenant: slice.id().clone(),
            principal,
            expires: Some(self.until),
            forward: false,
            grounds: Grounds::Certificate { id: self.id.clone(), declared: declared.clone() },
            roles: Cell::new(None),
        });
        self.proved.replace(Some((policy, Rc::clone(&verified))));
        Ok(Some(verified))
    }
}

/// The workload that an id means to the named tenant now.
pub(super) fn declared<'a>(against: &Against<'a>, id: &SpiffeId) -> Option<&'a Workload> {
    against.named?.policy().workload(id)
}

/// Whether a certificate that ends then is good now: a connection, or a resumed session, may outlive it.
pub(super) fn is_good(until: Option<UnixSeconds>, now: Now) -> Result<(), Refused> {
    match until {
        Some(until) if now.unix() > until => Err(Refused::CertificateExpired),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn shown(uris: &[&str]) -> Option<Shown> {
        let mut params = CertificateParams::new(vec!["web.acme.test".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        Shown::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn exactly_one_uri_and_that_a_spiffe_id_is_an_identity() {
        assert_eq!(shown(&["spiffe://acme.test/web"]).unwrap().id.as_str(), "spiffe://acme.test/web");
        for uris in [
            &[][..],
            &["https://acme.test/web"],
            &["spiffe://acme.test/web", "spiffe://acme.test/admin"],
            &["spiffe://acme.test/web", "https://acme.test"],
            &["spiffe://acme.test/../web"],
            &["spiffe://acme.test"],
        ] {
            assert!(shown(uris).is_none(), "{uris:?}");
        }
    }
}
