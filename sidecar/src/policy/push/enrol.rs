//! Enrolment: a certificate for this sidecar's key, by a join token the first time, by the one it has from then on.

use super::call::{self, Ended};
use super::identity::Identity;
use bulkhead_config::wire::message::{EnrolRequest, EnrolResponse};
use bulkhead_config::wire::{ENROL, WireError};
use bytes::Bytes;
use h2::client::SendRequest;
use prost::Message as _;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::time::Duration;
use tokio::time::timeout;

/// Time for the answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Gets a first certificate and keeps it. The key is kept before it is used: whoever asks twice gets what the token was spent on.
pub(super) async fn join(identity: &Identity, address: &str) -> Result<(), Ended> {
    let (requests, connection) = call::connect(address, identity.unknown()?).await?;
    let token = identity.join_token.clone().unwrap_or_default();
    tokio::select! {
        asked = ask(identity, &requests, address, token) => asked,
        ended = connection => Err(ended.map_or_else(Ended::from, |()| Ended::Over)),
    }
}

/// Gets another certificate over the connection that the present one began.
pub(super) async fn renew(identity: &Identity, requests: &SendRequest<Bytes>, address: &str) -> Result<(), Ended> {
    ask(identity, requests, address, String::new()).await
}

async fn ask(identity: &Identity, requests: &SendRequest<Bytes>, address: &str, join_token: String) -> Result<(), Ended> {
    let asked = EnrolRequest { join_token, certificate_request: request(identity)? };
    let answer = async {
        let (mut outgoing, mut answer) = call::begin(requests, ENROL, address).await?;
        call::send(&mut outgoing, asked.encode_to_vec()).await?;
        outgoing.send_data(Bytes::new(), true)?;
        answer.next().await
    };
    let answer = timeout(ANSWER, answer).await.map_err(|_| Ended::Silent)??;
    let issued = EnrolResponse::decode(answer).map_err(|_| WireError::Garbled)?;
    Ok(identity.keep(&issued)?)
}

/// A request for a certificate of this sidecar's key, which is made if there is none. It names nobody: the token does.
fn request(identity: &Identity) -> Result<Vec<u8>, Ended> {
    let failed = |error: rcgen::Error| Ended::Refused(format!("no key could be made: {error}"));
    let key = match identity.key() {
        Some(kept) => KeyPair::from_pem(&kept).map_err(failed)?,
        None => {
            let key = KeyPair::generate().map_err(failed)?;
            identity.keep_key(&key.serialize_pem())?;
            key
        }
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key).map_err(failed)?.der().to_vec())
}
