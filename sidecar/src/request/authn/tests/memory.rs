//! What a worker remembers, until when, and who may make it verify.

use super::super::refused::Because;
use super::super::{Presented, Refused, Verified};
use super::world::*;
use serde_json::json;
use std::rc::Rc;

fn bad(number: usize) -> String {
    let good = Token::of("acme", &format!("stranger-{number}")).signed();
    format!("{}.{}", good.rsplit_once('.').unwrap().0, encode([1; 64]))
}

/// Presents a token twice; whether the second was remembered.
fn again(world: &mut World, token: &str, first: &Rc<Verified>) -> bool {
    Rc::ptr_eq(&world.token("acme", token).unwrap(), first)
}

#[test]
fn a_good_token_is_verified_once() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    let first = world.token("acme", &token).unwrap();
    world.later(60_000);
    assert!(again(&mut world, &token, &first));
}

#[test]
fn a_token_ends_at_its_expiry_though_it_is_remembered() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    let first = world.token("acme", &token).unwrap();
    world.later(659_999);
    assert!(again(&mut world, &token, &first));
    world.later(1);
    assert_eq!(world.token("acme", &token).unwrap_err(), Refused::Expired);
}

#[test]
fn what_proves_something_to_one_tenant_is_verified_anew_for_the_next() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    let acme = world.token("acme", &token).unwrap();
    let globex = world.token("globex", &token).unwrap();
    let shared = world.present(None, Presented::Bearer(token.as_bytes())).unwrap();
    assert!(!Rc::ptr_eq(&acme, &globex) && !Rc::ptr_eq(&acme, &shared) && !Rc::ptr_eq(&globex, &shared));
}

#[test]
fn an_unrelated_change_of_policy_keeps_what_is_remembered() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    let first = world.token("acme", &token).unwrap();
    world.apply(&tenants().replace("Globex", "Globex Corporation"));
    assert!(again(&mut world, &token, &first));
    world.publish("acme.jwks", &json!({ "keys": [] }));
    assert!(again(&mut world, &token, &first));
    world.publish("platform.jwks", &SIGNER.jwks());
    assert!(again(&mut world, &token, &first));
}

#[test]
fn a_change_of_the_issuer_ends_what_it_proved() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    world.token("acme", &token).unwrap();
    world.apply(&PLATFORM.replace("audiences: [demo, other]", "audiences: [other]"));
    assert_eq!(world.token("acme", &token).unwrap_err(), Refused::OtherAudience);
}

#[test]
fn a_change_of_the_keys_ends_what_they_proved() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    world.token("acme", &token).unwrap();
    world.publish("platform.jwks", &json!({ "keys": [ed25519_jwk("ed", &OTHER_SIGNER)] }));
    assert_eq!(world.token("acme", &token).unwrap_err(), Refused::Signature);
    world.publish("platform.jwks", &SIGNER.jwks());
    assert!(world.token("acme", &token).is_ok(), "a refused one ends with the keys as well");
}

#[test]
fn a_tenants_own_issuer_takes_the_place_of_the_platforms_at_once() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    world.token("acme", &token).unwrap();
    world.apply(&tenants().replace(ACME_ISSUER, PLATFORM_ISSUER));
    assert_eq!(world.token("acme", &token).unwrap_err(), Refused::KeyIdUnknown);
}

#[test]
fn a_change_of_an_api_key_ends_what_it_proved() {
    let (mut world, key) = (World::start(), api_key("acme", "ci"));
    let first = world.api_key("acme", &key).unwrap();
    assert!(Rc::ptr_eq(&world.api_key("acme", &key).unwrap(), &first));
    world.apply(&tenants().replace("id: ci,", "id: replaced,"));
    assert_eq!(world.api_key("acme", &key).unwrap_err(), Refused::ApiKeyUnknown);
    world.apply(&tenants());
    assert!(world.api_key("acme", &key).is_ok(), "a refused one ends with the declaration as well");
}

#[test]
fn what_is_revoked_is_refused_though_it_is_remembered_and_good_again_when_it_is_not_revoked_any_more() {
    let revocation = |tenant: &str, what: &str| format!("kind: Identity\n{tenant}name: taken_back\nrevoked: {{ {what} }}\n");
    let (own, other) = ("tenant: acme\n", "tenant: globex\n");
    for (tenant, what, because) in [
        ("", "tokens: [t-1]", Some(Because::Id)),
        (own, "tokens: [t-1]", Some(Because::Id)),
        (own, "tokens: [t-2, T-1, t-, t-11]", None),
        (other, "tokens: [t-1]", None),
        ("", "users: [ana]", Some(Because::User)),
        (own, "users: [ana]", Some(Because::User)),
        (other, "users: [ana]", None),
        // The token was issued at 2027-01-15T08:00:00Z.
        ("", "issued_before: 2027-01-15T08:00:01Z", Some(Because::Time)),
        (own, "issued_before: 2027-01-15T08:00:01Z", Some(Because::Time)),
        (own, "issued_before: 2027-01-15T08:00:00Z", None),
    ] {
        let mut world = World::start();
        let mut token = Token::of("acme", "ana");
        token.claims["jti"] = "t-1".into();
        let token = token.signed();
        let before = world.token("acme", &token).unwrap();
        world.apply(&revocation(tenant, what));
        assert_eq!(world.token("acme", &token).err(), because.map(Refused::TokenRevoked), "{tenant}{what}");
        assert_eq!(world.stands(&before).err(), because.map(Refused::TokenRevoked), "a stream: {tenant}{what}");
        world.apply(&revocation(tenant, "users: [nobody]"));
        assert!(world.token("acme", &token).is_ok(), "{tenant}{what}");
    }
}

#[test]
fn a_token_that_does_not_say_when_it_was_issued_counts_as_old() {
    let mut world = World::start();
    let mut token = Token::of("acme", "ana");
    token.claims.as_object_mut().unwrap().remove("iat");
    world.apply("kind: Identity\nname: taken_back\nrevoked: { issued_before: 2020-01-01T00:00:00Z }\n");
    assert_eq!(world.token("acme", &token.signed()).unwrap_err(), Refused::TokenRevoked(Because::Time));
}

#[test]
fn a_revoked_api_key_is_refused_by_its_id_and_by_its_user() {
    for what in ["api_keys: [ci]", "users: [ci]"] {
        let mut world = World::start();
        let key = api_key("acme", "ci");
        assert!(world.api_key("acme", &key).is_ok());
        world.apply(&format!("kind: Identity\ntenant: acme\nname: taken_back\nrevoked: {{ {what} }}\n"));
        assert_eq!(world.api_key("acme", &key).unwrap_err(), Refused::ApiKeyRevoked, "{what}");
        // Whoever does not hold it learns nothing.
        let guess = format!("bk1.acme.ci.{}", "A".repeat(43));
        assert_eq!(world.api_key("acme", &guess).unwrap_err(), Refused::ApiKeyUnknown, "{what}");
    }
}

#[test]
fn roles_follow_the_policy_though_the_token_is_remembered() {
    let (mut world, token) = (World::start(), Token::of("acme", "ana").signed());
    let verified = world.token("acme", &token).unwrap();
    assert!(!verified.roles(world.snapshot.tenant("acme").unwrap().policy()).is_empty());
    world.apply(&PLATFORM.replace("roles: reader", "roles: editor"));
    let again = world.token("acme", &token).unwrap();
    assert!(Rc::ptr_eq(&verified, &again));
    assert!(again.roles(world.snapshot.tenant("acme").unwrap().policy()).is_empty());
}

#[test]
fn a_refused_token_costs_one_verification_in_ten_seconds() {
    let mut world = World::start();
    // More often than a source may fail: if each cost a verification, the last ones would be told to wait.
    for _ in 0..3_000 {
        assert_eq!(world.token("acme", &bad(0)).unwrap_err(), Refused::Signature);
    }
    world.later(9_999);
    for number in 1..=1_000 {
        assert_eq!(world.token("acme", &bad(number)).unwrap_err(), Refused::Signature);
    }
    // From here on, whatever costs a verification has to wait.
    assert_eq!(world.token("acme", &bad(0)).unwrap_err(), Refused::Signature);
    world.later(1);
    assert!(matches!(world.token("acme", &bad(0)).unwrap_err(), Refused::TooManyFailures { .. }));
}

#[test]
fn who_fails_too_often_waits_but_good_tokens_that_are_known_pass() {
    let mut world = World::start();
    let known = Token::of("acme", "known").signed();
    let first = world.token("acme", &known).unwrap();
    for number in 0..1_000 {
        assert_eq!(world.token("acme", &bad(number)).unwrap_err(), Refused::Signature);
    }
    let fresh = Token::of("acme", "fresh").signed();
    let refused = world.token("acme", &fresh).unwrap_err();
    assert_eq!(refused.problem_type(), "too_many_failed_authentications");
    assert_eq!(refused.retry_after(), Some(std::time::Duration::from_secs(1)));
    assert!(again(&mut world, &known, &first));

    let here = std::mem::replace(&mut world.source, [192, 0, 2, 2].into());
    assert!(world.token("acme", &fresh).is_ok(), "another source fails for itself");
    world.source = here;
    assert!(world.token("globex", &Token::of("globex", "ana").signed()).is_ok(), "and so does another tenant's host");
    world.later(5);
    assert!(world.token("acme", &Token::of("acme", "later").signed()).is_ok(), "200 a second");
}

#[test]
fn addresses_of_one_ipv6_network_fail_together() {
    let mut world = World::start();
    for number in 0..1_000 {
        world.source = format!("2001:db8:0:1::{number:x}").parse().unwrap();
        assert_eq!(world.token("acme", &bad(number)).unwrap_err(), Refused::Signature);
    }
    world.source = "2001:db8:0:1:ffff::".parse().unwrap();
    let fresh = Token::of("acme", "fresh").signed();
    assert!(matches!(world.token("acme", &fresh).unwrap_err(), Refused::TooManyFailures { .. }));
    world.source = "2001:db8:0:2::1".parse().unwrap();
    assert!(world.token("acme", &fresh).is_ok());
}

#[test]
fn what_is_refused_without_a_verification_counts_as_no_failure() {
    let mut world = World::start();
    let mut expired = Token::of("acme", "ana");
    expired.claims["exp"] = 1.into();
    let expired = expired.signed();
    for _ in 0..3_000 {
        assert_eq!(world.token("acme", &expired).unwrap_err(), Refused::Expired);
    }
    assert!(world.token("acme", &Token::of("acme", "ana").signed()).is_ok());
}

#[test]
fn refused_tokens_push_out_no_good_one() {
    let mut world = World::start();
    let good = Token::of("acme", "ana").signed();
    let first = world.token("acme", &good).unwrap();
    for number in 0..4_000 {
        world.later(5);
        assert!(world.token("acme", &bad(number)).is_err());
    }
    assert!(again(&mut world, &good, &first));
}

#[test]
fn the_memo_is_bounded_by_bytes() {
    let mut world = World::start();
    for number in 0..2_500 {
        let mut token = Token::of("acme", &format!("user-{number}"));
        token.claims["padding"] = "x".repeat(4_000).into();
        assert!(world.token("acme", &token.signed()).is_ok());
    }
    assert!(world.memo.bytes() <= 16 << 20, "{}", world.memo.bytes());
    assert!(world.memo.bytes() > 12 << 20, "{}", world.memo.bytes());
}
