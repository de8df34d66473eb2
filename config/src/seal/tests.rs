#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const NOWHERE: Place<'_> = Place { tenant: None, kind: "", name: "", epoch: 0 };

fn key(fill: u8) -> Key {
    Key::new(&[fill; KEY_BYTES])
}

/// What a system's generator is to a process, for tests: never the same twice.
struct Chance(u128);

impl Chance {
    fn writer_id(&mut self) -> WriterId {
        // An odd step visits every one of the 2^128 before any comes again.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        WriterId::drawn(self.0.to_be_bytes())
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn the_cipher_is_the_one_of_the_published_vectors() {
    // The specification of GCM, test case 16.
    let cipher = Aes256Gcm::new_from_slice(&bytes("feffe9928665731c6d6a8f9467308308").repeat(2)).unwrap();
    let nonce = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
    let bound = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = bytes(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let sealed = bytes(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
    );
    let mut text = plain.clone();
    let tag = encrypt(&cipher, &nonce, &bound, &mut text).unwrap();
    assert_eq!((text.clone(), tag.to_vec()), (sealed, bytes("76fc6ece0f4e1768cddf8853bb2d551b")));
    decrypt(&cipher, &nonce, &bound, &mut text, &tag).unwrap();
    assert_eq!(text, plain);
}

#[test]
fn derivation_is_the_one_of_the_published_vectors() {
    // RFC 5869, appendix A: cases 1 and 3.
    let derived = *derive::<42>(&[0x0b; 22], &bytes("000102030405060708090a0b0c"), &bytes("f0f1f2f3f4f5f6f7f8f9"));
    let published = bytes("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    assert_eq!(derived.to_vec(), published);
    let derived = *derive::<42>(&[0x0b; 22], &[], &[]);
    let published = bytes("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
    assert_eq!(derived.to_vec(), published);
}

#[test]
fn what_was_sealed_once_opens_for_ever() {
    // Computed by another implementation (OpenSSL's, through Python): the third seal of this writer.
    let key = Key::new(&std::array::from_fn(|at| at as u8));
    let acme = "acme".parse().unwrap();
    let place = Place { tenant: Some(&acme), kind: "Channel", name: "slack", epoch: 7 };
    let text = "sealed:v1:TM2DKwK7vAhAQUJDREVGR0hJSktMTU5PAAAAAijkhVMDuqvpX-XZ3gtEnHEtvx0fsLartJ9y56dnPGdb_j42TjKTT7JUi8s";
    assert_eq!(key.fingerprint().to_string(), "4ccd832b02bbbc08");
    assert_eq!(&**key.open(&place, &text.parse().unwrap()).unwrap(), b"https://hooks.example/T0/B0");

    let writer = key.writer(WriterId::drawn(std::array::from_fn(|at| 0x40 + at as u8)));
    let seals: Vec<String> = (0..3).map(|_| writer.seal(&place, b"https://hooks.example/T0/B0").unwrap().to_string()).collect();
    assert_eq!(seals[2], text);
}

#[test]
fn what_moves_from_one_part_of_a_place_to_the_next_makes_another_place() {
    let (a, ab) = ("a".parse().unwrap(), "ab".parse().unwrap());
    let places =
        [(Some(&ab), "", "c"), (Some(&a), "b", "c"), (Some(&a), "bc", ""), (Some(&a), "", "bc"), (None, "ab", "c"), (None, "", "abc")];
    let places = places.map(|(tenant, kind, name)| Place { tenant, kind, name, epoch: 0 });
    let writer = key(1).writer(Chance(0).writer_id());
    for place in places {
        let sealed = writer.seal(&place, b"secret").unwrap();
        for other in places {
            assert_eq!(key(1).open(&other, &sealed).is_ok(), place == other, "{place} opens as {other}");
        }
    }
}

fn any_tenant() -> impl Strategy<Value = Option<TenantId>> {
    proptest::option::of("[a-c]{1,2}".prop_map(|name| name.parse().unwrap()))
}

proptest! {
    #[test]
    fn what_is_sealed_opens_where_it_belongs_and_nowhere_else(
        plain in proptest::collection::vec(any::<u8>(), 0..200),
        // Few letters, so that both are often alike.
        (tenant, kind, name, epoch) in (any_tenant(), "[a-c]{0,3}", "[a-c]{0,3}", 0_u64..3),
        (other_tenant, other_kind, other_name, other_epoch) in (any_tenant(), "[a-c]{0,3}", "[a-c]{0,3}", 0_u64..3),
        id in any::<[u8; 16]>(),
    ) {
        let place = Place { tenant: tenant.as_ref(), kind: &kind, name: &name, epoch };
        let other = Place { tenant: other_tenant.as_ref(), kind: &other_kind, name: &other_name, epoch: other_epoch };
        let sealed = key(1).writer(WriterId::drawn(id)).seal(&place, &plain).unwrap();
        prop_assert_eq!(&**key(1).open(&place, &sealed).unwrap(), &plain[..]);
        prop_assert_eq!(key(1).open(&other, &sealed).is_ok(), place == other);

        // Both forms keep it, and the borrowed one opens without a copy.
        let text: Sealed = sealed.to_string().parse().unwrap();
        prop_assert_eq!(&text, &sealed);
        let borrowed = Sealed::parse(sealed.as_bytes()).unwrap();
        prop_assert_eq!(&**key(1).open(&place, &borrowed).unwrap(), &plain[..]);
    }

    #[test]
    fn no_text_makes_the_reader_give_in(text in "(sealed:(v[0-9]{1,3}:)?)?[A-Za-z0-9_=+/ -]{0,120}") {
        if let Ok(sealed) = text.parse::<Sealed>() {
            prop_assert_eq!(sealed.to_string(), text);
        }
    }
}

#[test]
fn another_tenant_kind_name_or_epoch_is_refused_by_name() {
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let place = Place { tenant: Some(&acme), kind: "Channel", name: "slack", epoch: 1 };
    let sealed = key(1).writer(Chance(0).writer_id()).seal(&place, b"secret").unwrap();
    for other in [
        Place { tenant: Some(&globex), ..place },
        Place { tenant: None, ..place },
        Place { kind: "Identity", ..place },
        Place { name: "mail", ..place },
        Place { epoch: 2, ..place },
    ] {
        assert_eq!(key(1).open(&other, &sealed), Err(CannotOpen::Refused { place: other.to_string() }));
    }
    assert_eq!(place.to_string(), "Channel `slack` of tenant `acme`, epoch 1");
    assert_eq!(Place { tenant: None, epoch: 0, ..place }.to_string(), "Channel `slack` of the platform");
}

#[test]
fn every_flipped_bit_is_refused() {
    let place = Place { kind: "Channel", name: "slack", ..NOWHERE };
    let good = key(1).writer(Chance(0).writer_id()).seal(&place, b"a secret").unwrap().into_bytes();
    for at in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        let opened = Sealed::parse(bad).map(|sealed| key(1).open(&place, &sealed));
        match (at / 8, opened) {
            (0, Err(NotSealed::Version(_))) | (1..9, Ok(Err(CannotOpen::OtherKey { .. }))) | (9.., Ok(Err(CannotOpen::Refused { .. }))) => {
            }
            (_, opened) => unreachable!("bit {at}: {opened:?}"),
        }
    }
    for len in 0..good.len() {
        let opened = Sealed::parse(&good[..len]).map(|sealed| key(1).open(&place, &sealed));
        assert_eq!(opened.is_err(), len < 45, "cut to {len} bytes");
        assert!(!matches!(opened, Ok(Ok(_))), "cut to {len} bytes");
    }
}

#[test]
fn another_key_is_told_apart_from_damage() {
    let sealed = key(1).writer(Chance(0).writer_id()).seal(&NOWHERE, b"x").unwrap();
    let told = CannotOpen::OtherKey { sealed: key(1).fingerprint(), held: key(2).fingerprint() };
    assert_eq!(key(2).open(&NOWHERE, &sealed), Err(told.clone()));
    assert!(told.to_string().contains(&sealed.key().to_string()), "{told}");
}

#[test]
fn what_is_no_sealed_value_says_why() {
    let text = key(1).writer(Chance(0).writer_id()).seal(&NOWHERE, b"x").unwrap().to_string();
    for (text, wrong) in [
        (text.replacen("sealed:", "", 1), NotSealed::Prefix),
        (text.replacen("v1", "v2", 1), NotSealed::Version(2)),
        (text.replacen("v1", "vx", 1), NotSealed::Prefix),
        (format!("{text}="), NotSealed::Base64),
        (format!("{text}\n"), NotSealed::Base64),
        (format!(" {text}"), NotSealed::Prefix),
        ("sealed:v1:".to_owned(), NotSealed::Short(1)),
        ("sealed:v1:AAAA".to_owned(), NotSealed::Short(4)),
    ] {
        assert_eq!(text.parse::<Sealed>(), Err(wrong), "{text}");
    }
    assert_eq!(Sealed::parse(vec![]), Err(NotSealed::Short(0)));
    assert_eq!(Sealed::parse(vec![2; 100]), Err(NotSealed::Version(2)));
}

#[test]
fn a_value_has_one_text_and_no_other() {
    // The last character of an empty value stands for four bits: the two beside them must be none, which is so in every fourth letter.
    let text = key(1).writer(Chance(0).writer_id()).seal(&NOWHERE, b"").unwrap().to_string();
    let (rest, _) = text.split_at(text.len() - 1);
    let letters = ('A'..='Z').chain('a'..='z').map(|last| format!("{rest}{last}"));
    let read: HashSet<Vec<u8>> = letters.filter_map(|text| text.parse().ok()).map(Sealed::into_bytes).collect();
    assert_eq!(read.len(), 13);
}

#[test]
fn a_worn_out_writer_refuses_and_stays_so() {
    let writer = key(1).writer(Chance(0).writer_id());
    writer.next.store(SEALS_MAX - 1, Ordering::Relaxed);
    let last = writer.seal(&NOWHERE, b"x").unwrap();
    assert_eq!(last.head().counter, u32::MAX);
    for _ in 0..3 {
        assert_eq!(writer.seal(&NOWHERE, b"x"), Err(CannotSeal::WornOut));
    }
    assert_eq!(&**key(1).open(&NOWHERE, &last).unwrap(), b"x");
}

/// What a process keeps on its disk of sealing: the key, and nothing of who seals with it.
#[derive(Clone)]
struct Disk {
    key: [u8; KEY_BYTES],
}

#[test]
fn a_restored_or_copied_state_seals_under_no_nonce_that_was_used() {
    let mut chance = Chance(7);
    let mut used = HashSet::new();
    let backup = Disk { key: [3; KEY_BYTES] };
    for restart in 0..50 {
        // Now from the backup, now twice at the same time from one state.
        let disk = backup.clone();
        let writers = [(); 2].map(|()| Key::new(&disk.key).writer(chance.writer_id()));
        for writer in &writers {
            for _ in 0..20 {
                let sealed = writer.seal(&NOWHERE, b"the same value").unwrap();
                let head = sealed.head();
                assert!(used.insert((head.writer, head.counter)), "start {restart} repeats {head:?}");
                assert!(Key::new(&backup.key).open(&NOWHERE, &sealed).is_ok());
            }
        }
    }
    assert_eq!(used.len(), 2_000);
}

#[test]
fn a_hundred_thousand_seals_of_many_writers_and_threads_are_all_unlike() {
    const WRITERS: usize = 50;
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let mut chance = Chance(1);
    let mut heads = HashSet::new();
    let mut texts = HashSet::new();
    for _ in 0..WRITERS {
        let writer = key(1).writer(chance.writer_id());
        let sealed: Vec<Sealed> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| (0..EACH).map(|_| writer.seal(&NOWHERE, b"one value").unwrap()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        for sealed in sealed {
            heads.insert((sealed.head().writer, sealed.head().counter));
            // Without the tag, which is another for another writer in any case.
            texts.insert(sealed.body().split_last_chunk::<TAG_BYTES>().unwrap().0.to_vec());
        }
    }
    assert_eq!((heads.len(), texts.len()), (WRITERS * THREADS * EACH, WRITERS * THREADS * EACH));
}

#[test]
fn a_fingerprint_has_one_text() {
    let fingerprint = key(1).fingerprint();
    let text = fingerprint.to_string();
    assert_eq!(text.parse(), Ok(fingerprint));
    for text in ["", "+123456789abcdef", "ABCDEF0123456789", "12345", "00000000000000001", "0123456789abcdeg"] {
        assert_eq!(text.parse::<Fingerprint>(), Err(NotAFingerprint), "{text}");
    }
}

#[test]
fn keys_and_writers_show_their_fingerprint_only() {
    let key = key(b'k');
    let writer = key.writer(Chance(0).writer_id());
    let shown = format!("{key:?} {writer:?} {:?}", writer.seal(&NOWHERE, b"kkkk").unwrap());
    assert!(shown.contains(&key.fingerprint().to_string()) && !shown.contains("kkkk") && !shown.contains("107"), "{shown}");
}
