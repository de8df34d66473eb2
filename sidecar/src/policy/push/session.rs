//! One stream, from Hello to its end.

use super::call::{self, Answer, Ended};
use super::course::Course;
use super::enrol;
use super::follow::Follow;
use super::identity::Credentials;
use crate::clock::Clock;
use bulkhead_config::protocol::{Offer, Report};
use bulkhead_config::unit::UnixSeconds;
use bulkhead_config::wire::message::{self, from_control_plane, from_sidecar};
use bulkhead_config::wire::{Assembler, FOLLOW, PROTOCOL_VERSION, WireError, epoch_to, report_to};
use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use prost::Message as _;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// A control plane says every 10 s that it lives; after so long without a word it does not.
const SILENCE: Duration = Duration::from_secs(45);
/// How long to wait before another try to renew.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Follows one stream. Does not end but by an error; `course` is as far as it came.
pub(super) async fn run(follow: &mut Follow, course: &mut Course) -> Result<(), Ended> {
    let address = follow.control_plane.address.clone();
    let credentials = follow.identity.credentials()?;
    let (requests, connection) = call::connect(&address, std::sync::Arc::clone(&credentials.tls)).await?;
    tokio::select! {
        ended = stream(follow, course, (&credentials, &requests)) => ended,
        ended = connection => Err(ended.map_or_else(Ended::from, |()| Ended::Over)),
    }
}

async fn stream(
    follow: &mut Follow,
    course: &mut Course,
    (credentials, requests): (&Credentials, &SendRequest<Bytes>),
) -> Result<(), Ended> {
    let address = follow.control_plane.address.clone();
    let (mut outgoing, mut answer) = call::begin(requests, FOLLOW, &address).await?;
    let hello = message::Hello {
        protocol_version: PROTOCOL_VERSION,
        name: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: course.resumes().map(epoch_to),
    };
    tell(&mut outgoing, from_sidecar::Said::Hello(hello)).await?;
    let mut assembler = Assembler::default();
    let clock = Clock::new(follow.origin);
    let mut heard = clock.now();
    let mut renew = clock.now().after(until(&clock, credentials.renew_from));
    // What became of offers that the last stream brought is said again by Hello.
    follow.reports.mark_unchanged();
    loop {
        // The system's clock may have been set since: when a certificate ends is told by that one.
        clock.correct();
        let now = clock.now();
        tokio::select! {
            said = next(&mut answer, SILENCE.saturating_sub(now.since(heard))) => {
                heard = clock.now();
                follow.connected();
                let Some(from_control_plane::Said::Chunk(chunk)) = said? else { continue };
                if let Some(offer) = whole(&mut assembler, chunk, credentials, course)? {
                    give(follow, offer).await?;
                }
            }
            changed = follow.reports.changed() => {
                changed.map_err(|_| Ended::Unwanted)?;
                let report = follow.reports.borrow_and_update().as_ref().map(report);
                if let Some(report) = report {
                    tell(&mut outgoing, report).await?;
                }
            }
            () = sleep(renew.since(now)) => {
                // One that fails is tried again while the old one holds; the stream goes on.
                renew = match enrol::renew(&follow.identity, requests, &address).await {
                    Ok(()) => clock.now().after(until(&clock, follow.identity.credentials()?.renew_from)),
                    Err(_) => clock.now().after(RENEW_AGAIN),
                };
            }
        }
    }
}

async fn next(answer: &mut Answer, within: Duration) -> Result<Option<from_control_plane::Said>, Ended> {
    let message = timeout(within, answer.next()).await.map_err(|_| Ended::Silent)??;
    Ok(message::FromControlPlane::decode(message).map_err(|_| WireError::Garbled)?.said)
}

/// Takes a chunk; the offer, once it is whole, signed and leads on.
fn whole(assembler: &mut Assembler, chunk: message::Chunk, credentials: &Credentials, course: &mut Course) -> Result<Option<Offer>, Ended> {
    let Some(assembled) = assembler.take(chunk)? else { return Ok(None) };
    if !credentials.signers.signed(&assembled.signed, &assembled.signature) {
        return Err(Ended::Forged);
    }
    course.take(assembled.base, assembled.epoch)?;
    Ok(Some(assembled.offer))
}

/// Gives an offer to be compiled, once what it brought is on disk.
async fn give(follow: &Follow, offer: Offer) -> Result<(), Ended> {
    let kept = follow.kept.clone();
    let writing = spawn_blocking(move || {
        // A disk that takes nothing does not keep the fleet from changing.
        let _ = kept.keep(&offer);
        offer
    });
    let offer = writing.await.map_err(|_| Ended::Unwanted)?;
    follow.offers.send(offer).await.map_err(|_| Ended::Unwanted)
}

fn report(report: &Report) -> from_sidecar::Said {
    from_sidecar::Said::Report(report_to(report))
}

async fn tell(outgoing: &mut SendStream<Bytes>, said: from_sidecar::Said) -> Result<(), Ended> {
    call::send(outgoing, message::FromSidecar { said: Some(said) }.encode_to_vec()).await
}

/// Time until then, by the system's clock; none when it has passed.
fn until(clock: &Clock, unix: UnixSeconds) -> Duration {
    Duration::from_secs(u64::try_from(unix.saturating_sub(clock.now().unix())).unwrap_or(0))
}
