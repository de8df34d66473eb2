//! Names: which certificate a client is shown, by the host it names (RFC 6066 section 3).
//!
//! Cost: per handshake; a lookup or two by name.
//! Exact names come before wildcards, which stand for one label. Of several certificates for a name the first that the client can
//! check is shown, so that an ECDSA and an RSA one can stand side by side. Who names no host gets the first certificate; who names a
//! host that none is for is refused, unless there is but one: then the client may judge.

use super::certificate::Certificate;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a listener.
#[derive(Debug)]
pub(super) struct Names {
    all: Vec<Arc<CertifiedKey>>,
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Names {
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        let mut names = Self { all: Vec::new(), by_name: HashMap::new() };
        for Certificate { certified, names: own } in certificates {
            for name in own {
                names.by_name.entry(name).or_default().push(Arc::clone(&certified));
            }
            names.all.push(certified);
        }
        names
    }

    /// Whether there is something to show to a client that names this host.
    pub(super) fn serves(&self, host: Option<&str>) -> bool {
        !self.of(host).is_empty()
    }

    fn of(&self, host: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(host) = host else { return &self.all };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || self.by_name.get(&format!("*.{}", host.split_once('.')?.1));
        match self.by_name.get(&host).or_else(wildcard) {
            Some(named) => named,
            None if self.all.len() == 1 => &self.all,
            None => &[],
        }
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = self.of(hello.server_name());
        let fitting = named.iter().find(|certified| certified.key.choose_scheme(hello.signature_schemes()).is_some());
        // Where none fits, the library says so best.
        fitting.or(named.first()).cloned()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;

    fn certificate(names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = CertificateParams::new(names.clone()).unwrap().self_signed(&key).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let certified = CertifiedKey::from_der(vec![made.der().clone()], der, &aws_lc_rs::default_provider()).unwrap();
        Certificate { certified: Arc::new(certified), names }
    }

    #[test]
    fn a_host_gets_the_certificate_that_is_for_it_exactly_before_a_wildcards() {
        let names = Names::new(vec![certificate(&["a.test"]), certificate(&["*.b.test"]), certificate(&["x.b.test", "c.test"])]);
        for (host, shown) in [
            (Some("a.test"), Some(0)),
            (Some("A.Test"), Some(0)),
            (Some("y.b.test"), Some(1)),
            (Some("x.b.test"), Some(2)),
            (Some("c.test"), Some(2)),
            (Some("b.test"), None),
            (Some("z.y.b.test"), None),
            (Some("other.test"), None),
            (Some("*.b.test"), Some(1)),
            (None, Some(0)),
        ] {
            let found = names.of(host).first().map(|found| names.all.iter().position(|one| Arc::ptr_eq(one, found)).unwrap());
            assert_eq!(found, shown, "{host:?}");
            assert_eq!(names.serves(host), shown.is_some());
        }
    }

    #[test]
    fn the_only_certificate_is_shown_to_everybody() {
        let names = Names::new(vec![certificate(&["a.test"])]);
        assert!(names.serves(Some("other.test")) && names.serves(None));
    }
}
