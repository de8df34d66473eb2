//! API keys, and what a request may present at all.

use super::super::{Presented, Refused, presented};
use super::world::*;
use crate::fields::Fields;
use bulkhead_config::snapshot::Credential;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

const HEADER: HeaderName = HeaderName::from_static("x-api-key");

#[test]
fn a_key_proves_its_tenant_on_its_own_host_and_on_a_shared_one() {
    let mut world = World::start();
    let text = api_key("acme", "ci");
    for named in [Some("acme"), None] {
        let verified = world.present(named, Presented::ApiKey(text.as_bytes())).unwrap();
        assert_eq!((verified.tenant().as_str(), &*verified.principal().user), ("acme", "ci"));
        assert!(matches!(&verified.principal().credential, Credential::ApiKey(id) if id.as_str() == "ci"));
        assert!(!verified.forward(), "a key never goes upstream");
    }
}

#[test]
fn every_deviation_is_refused_with_its_own_reason() {
    let good = api_key("acme", "ci");
    let (name, secret) = good.rsplit_once('.').unwrap();
    let rows = [
        (good.replace("bk1", "bk2"), Refused::ApiKeyMalformed),
        (name.to_owned(), Refused::ApiKeyMalformed),
        (format!("{good}.x"), Refused::ApiKeyMalformed),
        (format!("{good}="), Refused::ApiKeyMalformed),
        (format!("{name}.{}", secret.split_at(1).1), Refused::ApiKeyMalformed),
        (format!("{name}.{}-", secret.split_at(42).0), Refused::ApiKeyMalformed),
        (format!("bk1.Acme.ci.{secret}"), Refused::ApiKeyMalformed),
        (format!("bk1.acme..{secret}"), Refused::ApiKeyMalformed),
        (format!("{name}.{}", encode([8; 32])), Refused::ApiKeyUnknown),
        (api_key("acme", "nobodys"), Refused::ApiKeyUnknown),
        (api_key("globex", "ci"), Refused::ApiKeyOfOtherTenant),
        (api_key("acme", "old"), Refused::ApiKeyExpired),
    ];
    for (text, refused) in rows {
        assert_eq!(World::start().api_key("acme", &text).unwrap_err(), refused, "{text}");
    }
}

#[test]
fn whether_an_id_exists_is_told_to_the_holder_of_its_key_only() {
    let expired = api_key("acme", "old");
    let (name, _) = expired.rsplit_once('.').unwrap();
    let mut world = World::start();
    let of_known = world.api_key("acme", &format!("{name}.{}", encode([8; 32]))).unwrap_err();
    let of_unknown = world.api_key("acme", &api_key("acme", "nobodys")).unwrap_err();
    let of_unknown_tenant = world.present(None, Presented::ApiKey(api_key("nobody", "ci").as_bytes())).unwrap_err();
    assert_eq!(of_known, of_unknown);
    assert_eq!(of_known, of_unknown_tenant);
}

#[test]
fn a_key_ends_at_its_expiry_though_it_is_remembered() {
    let (mut world, text) = (World::start(), api_key("acme", "short"));
    world.now.unix_ms = 1_800_003_599_999;
    assert!(world.api_key("acme", &text).is_ok());
    world.now.unix_ms += 1;
    assert_eq!(world.api_key("acme", &text).unwrap_err(), Refused::ApiKeyExpired);
}

#[test]
fn guessing_keys_is_limited_like_forging_tokens() {
    let mut world = World::start();
    for number in 0..1_000_u32 {
        let mut secret = [9; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let refused = world.api_key("acme", &format!("bk1.acme.ci.{}", encode(secret))).unwrap_err();
        assert_eq!(refused, Refused::ApiKeyUnknown);
    }
    assert!(matches!(world.api_key("acme", &api_key("acme", "ci")).unwrap_err(), Refused::TooManyFailures { .. }));
}

fn headers(fields: &[(HeaderName, &'static [u8])]) -> Fields {
    let all: HeaderMap = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect();
    Fields::from(&all)
}

#[test]
fn one_credential_is_found_where_it_belongs() {
    let read = |fields: &[(HeaderName, &'static [u8])]| match presented(&headers(fields), Some(&HEADER)).unwrap() {
        Some(Presented::Bearer(token)) => format!("bearer {}", token.escape_ascii()),
        Some(Presented::ApiKey(key)) => format!("key {}", key.escape_ascii()),
        None => "nothing".to_owned(),
    };
    assert_eq!(read(&[]), "nothing");
    assert_eq!(read(&[(AUTHORIZATION, b"Bearer a.b.c")]), "bearer a.b.c");
    assert_eq!(read(&[(AUTHORIZATION, b"bEARER  a.b.c")]), "bearer a.b.c");
    assert_eq!(read(&[(HEADER, b"bk1.a.b.c")]), "key bk1.a.b.c");
}

#[test]
fn whatever_else_is_presented_is_refused_with_its_own_reason() {
    let twice = [(AUTHORIZATION, &b"Bearer a.b.c"[..]), (AUTHORIZATION, b"Bearer a.b.c")];
    let both = [(AUTHORIZATION, &b"Bearer a.b.c"[..]), (HEADER, b"bk1.a.b.c")];
    let rows = [
        (&twice[..], Refused::RepeatedAuthorization, "ambiguous_request"),
        (&[(HEADER, b"a"), (HEADER, b"a")], Refused::RepeatedApiKey { header: HEADER }, "ambiguous_request"),
        (&both, Refused::TokenAndApiKey { header: HEADER }, "ambiguous_request"),
        (&[(AUTHORIZATION, b"Basic YTpi")], Refused::OtherScheme, "missing_credential"),
        (&[(AUTHORIZATION, b"Bearer")], Refused::OtherScheme, "missing_credential"),
        (&[(AUTHORIZATION, b"B\xffarer a.b.c")], Refused::OtherScheme, "missing_credential"),
        (&[(AUTHORIZATION, b"Bearer bk1.a.b.c")], Refused::ApiKeyAsToken { header: Some(HEADER) }, "invalid_api_key"),
    ];
    for (fields, refused, problem) in rows {
        let found = presented(&headers(fields), Some(&HEADER)).unwrap_err();
        assert_eq!((&found, found.problem_type()), (&refused, problem));
    }
    // What is no text is what no credential is, whatever is remembered.
    let mut world = World::start();
    let rows = [
        (Presented::Bearer(b"a.\xff.c"), Refused::OtherScheme, "missing_credential"),
        (Presented::Bearer(b"a.\0.c"), Refused::OtherScheme, "missing_credential"),
        (Presented::ApiKey(b"\xff"), Refused::ApiKeyForm { header: HEADER }, "invalid_api_key"),
    ];
    for (credential, refused, problem) in rows {
        for named in [Some("acme"), None] {
            let found = world.present(named, credential).unwrap_err();
            assert_eq!((&found, found.problem_type()), (&refused, problem));
        }
    }
}

#[test]
fn where_no_header_is_declared_nothing_is_taken_for_a_key() {
    assert!(presented(&headers(&[(HEADER, b"bk1.a.b.c")]), None).unwrap().is_none());
    let refused = presented(&headers(&[(AUTHORIZATION, b"Bearer bk1.a.b.c")]), None).unwrap_err();
    assert_eq!(refused, Refused::ApiKeyAsToken { header: None });
}
