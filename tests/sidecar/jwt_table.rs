//! The table of RFC 8725: what is wrong with a token, a row each, and the reason that its bearer is told over a real socket.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL};
use bulkhead_tests::{Algorithm, Issuer, Origin, World};
use serde_json::{Value, json};

/// What is wrong, the token, what its bearer is told, and where.
type Row = (&'static str, String, &'static str, &'static str);

/// Signs what must be right but for one thing.
struct Forge<'a> {
    issuer: &'a Issuer,
    claims: Value,
}

impl Forge<'_> {
    /// A header with these members beside or in place of the good ones.
    fn header(&self, more: Value) -> String {
        let mut header = json!({ "alg": "EdDSA", "kid": "ed" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.issuer.sign_with(Algorithm::EdDsa, &header.to_string(), &self.claims.to_string())
    }

    /// Claims with this one beside or in place of the good ones; `null` takes it away.
    fn claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        self.issuer.sign(Algorithm::EdDsa, &claims)
    }

    /// The texts of header and claims, as they are.
    fn texts(&self, header: &str, claims: &str) -> String {
        self.issuer.sign_with(Algorithm::EdDsa, header, claims)
    }

    /// A good token in its parts.
    fn parts(&self, algorithm: Algorithm) -> [String; 3] {
        let token = self.issuer.sign(algorithm, &self.claims);
        let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        parts.try_into().unwrap()
    }

    /// A good header and claims with another signature.
    fn signature(&self, algorithm: Algorithm, signature: &[u8]) -> String {
        let [header, claims, _] = self.parts(algorithm);
        format!("{header}.{claims}.{}", BASE64URL.encode(signature))
    }
}

const CLAIMS: &str = "header `authorization`, claim";
const HEADER: &str = "header `authorization`, token header";
const WHOLE: &str = "header `authorization`";

const SIGNATURE: &str = "The token's signature is not its issuer's.";
const KEY_UNKNOWN: &str = "The token's key is not among its issuer's keys.";

/// RFC 8725 sections 2.1, 2.2, 3.1 and 3.2: algorithms and signatures.
fn signatures(forge: &Forge<'_>) -> Vec<Row> {
    let [header, claims, signature] = forge.parts(Algorithm::EdDsa);
    let none = |alg: &str| format!("{}.{claims}.", BASE64URL.encode(json!({ "alg": alg }).to_string()));
    // The "secret" is the published set, as whoever confuses the two would have it.
    let confused = |alg: &str| {
        let header = BASE64URL.encode(json!({ "alg": alg, "kid": "rsa" }).to_string());
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, forge.issuer.jwks().as_bytes());
        let signature = aws_lc_rs::hmac::sign(&key, format!("{header}.{claims}").as_bytes());
        format!("{header}.{claims}.{}", BASE64URL.encode(signature))
    };
    let not_signed = "The token is not signed (`alg: none`).";
    let shared = "The token is signed with a shared secret (`alg: HS…`).";
    let unknown = "The token's algorithm is not verified here.";
    let other_claims = forge.claims.to_string().replace("acme_corp", "globex");
    let mut one_bit = BASE64URL.decode(&signature).unwrap();
    one_bit[0] ^= 1;
    let alg = [HEADER, " `alg`"].concat();
    let alg: &'static str = alg.leak();
    let signed_part = "header `authorization`, token's signature";
    let kid: &'static str = [HEADER, " `kid`"].concat().leak();
    vec![
        ("alg none", none("none"), not_signed, alg),
        ("alg None", none("None"), not_signed, alg),
        ("alg nOnE", none("nOnE"), not_signed, alg),
        ("HS256 with the public keys for a secret", confused("HS256"), shared, alg),
        ("HS512", confused("HS512"), shared, alg),
        ("alg in lower case", forge.header(json!({ "alg": "eddsa" })), unknown, alg),
        ("an algorithm of nobody's", forge.header(json!({ "alg": "RS1" })), unknown, alg),
        ("ES256K", forge.header(json!({ "alg": "ES256K" })), unknown, alg),
        ("no algorithm", forge.texts(r#"{"kid":"ed"}"#, &forge.claims.to_string()), "The token names no algorithm.", alg),
        ("an algorithm that is a list", forge.header(json!({ "alg": ["EdDSA"] })), "The token names no algorithm.", alg),
        (
            "an algorithm that its issuer does not use",
            forge.issuer.sign(Algorithm::Ps256, &forge.claims),
            "The token's algorithm is not one that its issuer is declared to use.",
            alg,
        ),
        (
            "an algorithm that is not the key's",
            forge.header(json!({ "kid": "rsa" })),
            "The token's key is not for the token's algorithm.",
            kid,
        ),
        ("RS256 by a key of 1024 bits", forge.header(json!({ "alg": "RS256", "kid": "small" })), KEY_UNKNOWN, kid),
        ("another key's signature", Issuer::demo().sign(Algorithm::EdDsa, &forge.claims), SIGNATURE, signed_part),
        ("another algorithm's signature", forge.header(json!({ "alg": "ES256", "kid": "ec" })), SIGNATURE, signed_part),
        ("no signature", format!("{header}.{claims}."), SIGNATURE, signed_part),
        ("one bit of the signature", forge.signature(Algorithm::EdDsa, &one_bit), SIGNATURE, signed_part),
        ("a signature too short", forge.signature(Algorithm::EdDsa, &one_bit[..63]), SIGNATURE, signed_part),
        ("a signature too long", forge.signature(Algorithm::EdDsa, &[&one_bit[..], &[0]].concat()), SIGNATURE, signed_part),
        ("ES256 with r and s zero", forge.signature(Algorithm::Es256, &[0; 64]), SIGNATURE, signed_part),
        ("ES256 with s zero", forge.signature(Algorithm::Es256, &[[1; 32], [0; 32]].concat()), SIGNATURE, signed_part),
        ("ES256 in ASN.1", forge.signature(Algorithm::Es256, &[0x30, 6, 2, 1, 1, 2, 1, 1]), SIGNATURE, signed_part),
        ("RS256 of zeros", forge.signature(Algorithm::Rs256, &[0; 256]), SIGNATURE, signed_part),
        ("other claims under it", format!("{header}.{}.{signature}", BASE64URL.encode(other_claims)), SIGNATURE, signed_part),
    ]
}

/// RFC 8725 sections 2.4, 2.7, 3.9 to 3.11: keys that a token brings, and what would change how it is read.
fn headers(forge: &Forge<'_>) -> Vec<Row> {
    let of = |name: &str| -> &'static str { format!("{HEADER} `{name}`").leak() };
    let brings = |name: &str| -> &'static str { format!("The token brings or names the key to verify it with (`{name}`).").leak() };
    let row = |what: &'static str, more: Value, told: &'static str, member: &str| (what, forge.header(more), told, of(member));
    let elsewhere = "https://elsewhere.example/keys";
    vec![
        row("an embedded key", json!({ "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "AA" } }), brings("jwk"), "jwk"),
        row("keys elsewhere", json!({ "jku": elsewhere }), brings("jku"), "jku"),
        row("a certificate elsewhere", json!({ "x5u": elsewhere }), brings("x5u"), "x5u"),
        row("an embedded certificate", json!({ "x5c": ["AA"] }), brings("x5c"), "x5c"),
        row("an unknown kid", json!({ "kid": "nobody" }), KEY_UNKNOWN, "kid"),
        row("a kid that is a path", json!({ "kid": "../../../../dev/null" }), KEY_UNKNOWN, "kid"),
        row("a kid that is SQL", json!({ "kid": "x' UNION SELECT 'key'; --" }), KEY_UNKNOWN, "kid"),
        row("a kid that is a command", json!({ "kid": "|cat /etc/passwd" }), KEY_UNKNOWN, "kid"),
        row("a kid with control characters", json!({ "kid": "ed\u{0}\r\nx-bulkhead-tenant: globex" }), KEY_UNKNOWN, "kid"),
        row("a kid in another case", json!({ "kid": "ED" }), KEY_UNKNOWN, "kid"),
        row("an empty kid", json!({ "kid": "" }), KEY_UNKNOWN, "kid"),
        row("a kid of 8 KiB", json!({ "kid": "k".repeat(8 << 10) }), KEY_UNKNOWN, "kid"),
        row("a kid that is a number", json!({ "kid": 7 }), "The token's key id is not a string.", "kid"),
        row(
            "a critical extension",
            json!({ "crit": ["exp"], "exp": 1 }),
            "The token asks for extensions to be understood (`crit`), and none is.",
            "crit",
        ),
        row(
            "an empty list of them",
            json!({ "crit": [] }),
            "The token asks for extensions to be understood (`crit`), and none is.",
            "crit",
        ),
        row("an unencoded payload", json!({ "b64": false }), "The token changes how its payload is encoded (`b64`).", "b64"),
        row("a compressed payload", json!({ "zip": "DEF" }), "The token is compressed (`zip`).", "zip"),
        row("a nested token", json!({ "cty": "JWT" }), "The token wraps another token (`cty`).", "cty"),
        row("the same by its media type", json!({ "cty": "application/jwt" }), "The token wraps another token (`cty`).", "cty"),
        row("a logout token", json!({ "typ": "logout+jwt" }), "The token is of another type than `JWT` or `at+jwt` (`typ`).", "typ"),
        row("a security event", json!({ "typ": "secevent+jwt" }), "The token is of another type than `JWT` or `at+jwt` (`typ`).", "typ"),
        row("a type that is a number", json!({ "typ": 7 }), "The token is of another type than `JWT` or `at+jwt` (`typ`).", "typ"),
    ]
}

/// RFC 8725 sections 3.8 to 3.12: whom it is of, for whom, and when.
fn claims(forge: &Forge<'_>) -> Vec<Row> {
    let now = jiff::Timestamp::now().as_second();
    let of = |name: &str| -> &'static str { format!("{CLAIMS} `{name}`").leak() };
    let row = |what: &'static str, name: &str, value: Value, told: &'static str| (what, forge.claim(name, value), told, of(name));
    let missing = |name: &str| -> &'static str { format!("The token has no claim `{name}`.").leak() };
    vec![
        row("expired", "exp", json!(now - 3_600), "The token has expired."),
        row("expired before time began", "exp", json!(-1), "The token has expired."),
        row("not yet valid", "nbf", json!(now + 3_600), "The token is not valid yet (`nbf`)."),
        row("issued in the future", "iat", json!(now + 3_600), "The token was issued in the future (`iat`)."),
        row("without an end", "exp", Value::Null, missing("exp")),
        row("an end that is a string", "exp", json!("tomorrow"), "The token's claim `exp` is not a number of seconds."),
        row("another issuer", "iss", json!("https://elsewhere.example"), "The token's issuer is not known here."),
        row("its issuer with a slash", "iss", json!("https://issuer.bulkhead.localhost/"), "The token's issuer is not known here."),
        row("without an issuer", "iss", Value::Null, missing("iss")),
        row("several issuers", "iss", json!(["https://issuer.bulkhead.localhost"]), "The token's claim `iss` is not a string."),
        row("another audience", "aud", json!("other"), "The token is for other audiences."),
        row("several of others", "aud", json!(["a", "b"]), "The token is for other audiences."),
        row("no audience", "aud", Value::Null, missing("aud")),
        row("an audience among numbers", "aud", json!(["demo", 7]), "The token's claim `aud` is not a string or a list of strings."),
        row("without a subject", "sub", Value::Null, missing("sub")),
        row("an empty subject", "sub", json!(""), "The token's subject has 0 bytes; 1 to 255 are allowed."),
        row("a long subject", "sub", json!("s".repeat(256)), "The token's subject has 256 bytes; 1 to 255 are allowed."),
        row("without a tenant", "tenant", Value::Null, "The token names no tenant: it has no claim `tenant`."),
        row("a tenant that is a number", "tenant", json!(7), "The token's claim `tenant` is not the id of a tenant."),
        row("several tenants", "tenant", json!(["acme_corp", "globex"]), "The token's claim `tenant` is not the id of a tenant."),
        row("a tenant that is a path", "tenant", json!("../acme_corp"), "The token's claim `tenant` is not the id of a tenant."),
    ]
}

/// RFC 8725 sections 2.6, 3.7 and 3.8: one text, one reading.
fn forms(forge: &Forge<'_>) -> Vec<Row> {
    let [header, claims, signature] = forge.parts(Algorithm::EdDsa);
    let good = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let twice = forge.claims.to_string().replacen('{', r#"{"tenant":"globex","#, 1);
    let escaped = forge.claims.to_string().replacen('{', r#"{"tenan\u0074":"globex","#, 1);
    // 64 bytes are 86 characters, the last of which has four bits that mean nothing.
    let stray = format!("{}{}", &signature[..85], if signature.ends_with('A') { 'B' } else { next(&signature) });
    let canonical =
        |part: &str| -> &'static str { format!("The token's {part} is not base64url in its canonical form, without padding.").leak() };
    let part = |part: &str| -> &'static str { format!("header `authorization`, token's {part}").leak() };
    let standard = STANDARD.encode(b"\xff\xff\xfe");
    let same_name = "The token's claims has the same name twice in one object.";
    let parts = |n: u32| -> &'static str { format!("A signed token has three parts, joined by dots; this one has {n}.").leak() };
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    vec![
        ("claims twice", forge.texts(good, &twice), same_name, part("claims")),
        ("the same, escaped", forge.texts(good, &escaped), same_name, part("claims")),
        (
            "a header member twice",
            forge.texts(r#"{"alg":"EdDSA","alg":"none","kid":"ed"}"#, &forge.claims.to_string()),
            "The token's header has the same name twice in one object.",
            part("header"),
        ),
        ("claims that are a list", forge.texts(good, "[]"), "The part `claims` of the token is not a JSON object.", part("claims")),
        ("claims that are no JSON", forge.texts(good, "{'a':1}"), "The part `claims` of the token is not a JSON object.", part("claims")),
        ("claims and more", forge.texts(good, "{} {}"), "The part `claims` of the token is not a JSON object.", part("claims")),
        (
            "nested without end",
            forge.claim("filler", serde_json::from_str(&deep).unwrap()),
            "The part `claims` of the token is nested too deep or holds too many values.",
            part("claims"),
        ),
        ("padding", format!("{header}.{claims}.{signature}=="), canonical("signature"), part("signature")),
        ("the standard alphabet", format!("{header}.{claims}.{standard}"), canonical("signature"), part("signature")),
        ("bits that mean nothing", format!("{header}.{claims}.{stray}"), canonical("signature"), part("signature")),
        ("an empty header", format!(".{claims}.{signature}"), "The part `header` of the token is not a JSON object.", part("header")),
        ("two parts", format!("{header}.{claims}"), parts(2), WHOLE),
        ("four parts", format!("{header}.{claims}.{signature}.a"), parts(4), WHOLE),
        ("encrypted (JWE)", format!("{header}.{claims}.{signature}.a.b"), "The token is encrypted (JWE).", WHOLE),
    ]
}

/// The next character of base64url, which differs in the last bit or more.
fn next(text: &str) -> char {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = text.as_bytes()[text.len() - 1];
    let at = ALPHABET.iter().position(|letter| *letter == last).unwrap();
    char::from(ALPHABET[at ^ 1])
}

/// The demo, whose issuer publishes an RSA key of 1024 bits beside its good ones.
fn world() -> World {
    World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("[EdDSA]", "[EdDSA, ES256, RS256]")).unwrap();
        let mut set: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("issuer.jwks.json")).unwrap()).unwrap();
        let small = json!({ "kty": "RSA", "kid": "small", "n": BASE64URL.encode([0xc3; 128]), "e": "AQAB" });
        set["keys"].as_array_mut().unwrap().push(small);
        std::fs::write(folder.join("issuer.jwks.json"), set.to_string()).unwrap();
    })
}

#[test]
fn a_token_that_is_wrong_in_any_way_is_refused_with_its_reason_and_reaches_nothing() {
    let world = world();
    let forge = Forge { issuer: &world.issuer, claims: world.issuer.claims("acme_corp", &["admin"]) };
    let rows = [signatures(&forge), headers(&forge), claims(&forge), forms(&forge)].concat();
    assert!(rows.len() >= 80, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for (what, token, told, place) in rows {
        let answer = world.client("acme.localhost").bearer(&token).get("/v1/items");
        let problem = answer.text();
        if answer.verdict() != "401 invalid_token" || answer.json()["detail"] != told || answer.json()["where"] != place {
            wrong.push(format!("{what}: {} instead of `{told}` at `{place}`", problem.trim()));
        }
        if token.len() > 40 && problem.contains(&token[..40]) || problem.contains("globex") {
            wrong.push(format!("{what}: the refusal repeats what was sent: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(world.origin.received().is_empty());
    let warned = world.policy()["warnings"].to_string();
    assert!(warned.contains("1024 bits"), "the key that is too small is named: {warned}");
}

#[test]
fn an_oversized_token_never_becomes_one() {
    let world = world();
    let forge = Forge { issuer: &world.issuer, claims: world.issuer.claims("acme_corp", &["admin"]) };
    for (kib, verdicts) in [(17, &["401 invalid_token"][..]), (40, &["431 head_too_large"])] {
        let token = forge.claim("filler", json!("x".repeat(kib << 10)));
        let verdict = world.client("acme.localhost").bearer(&token).get("/v1/items").verdict();
        assert!(verdicts.contains(&&*verdict), "{kib} KiB: {verdict}");
    }
    assert!(world.origin.received().is_empty());
}
