#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::storage::{Entries, FileStorage, HEAD, MemoryStorage, Pending, Puts, Version};
use bulkhead_config::seal::{Place, WriterId};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const NOW: UnixSeconds = 1_700_000_000;

fn kek(fill: u8) -> Key {
    Key::new(&[fill; 32])
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

async fn open(storage: &MemoryStorage, kek: &Key) -> Result<Keyring, KeyringError> {
    Keyring::open(Box::new(storage.clone()), &KekSource::Setting(kek.clone()), NOW).await.map(|(keyring, _)| keyring)
}

fn bytes_of(key: &DataKey) -> [u8; 32] {
    *key.key.expose()
}

#[tokio::test]
async fn a_keyring_is_made_once_and_found_ever_after_wherever_it_rests() {
    let dir = tempfile::tempdir().unwrap();
    let memory = MemoryStorage::default();
    let storages: [&dyn Fn() -> Box<dyn Storage>; 2] =
        [&|| Box::new(memory.clone()), &|| Box::new(FileStorage::new(dir.path().join("keyring.json")))];
    for storage in storages {
        let source = KekSource::Setting(kek(1));
        let (keyring, first) = Keyring::open(storage(), &source, NOW).await.unwrap();
        let key = keyring.data_key(&tenant("acme"), NOW).await.unwrap();
        let listed = keyring.list();
        assert_eq!(listed.iter().map(|key| key.name.to_string()).collect::<Vec<_>>(), ["data/acme/1", "snapshots/1", "tokens/1"]);
        assert!(listed.iter().all(|key| key.created == NOW && key.state == State::Active));

        let (again, second) = Keyring::open(storage(), &source, NOW + 1).await.unwrap();
        assert_eq!((first, second), (Open::Made, Open::Found));
        assert_eq!(again.list(), listed);
        assert_eq!(bytes_of(&again.data_key(&tenant("acme"), NOW).await.unwrap()), bytes_of(&key));
    }
}

#[tokio::test]
async fn another_key_encryption_key_opens_nothing_and_changes_nothing() {
    let storage = MemoryStorage::default();
    open(&storage, &kek(1)).await.unwrap();
    let before = storage.entries();
    let refused = open(&storage, &kek(2)).await.unwrap_err();
    let (sealed, given) = (kek(1).fingerprint(), kek(2).fingerprint());
    assert!(matches!(refused, KeyringError::OtherKek { sealed: is, given: was } if is == sealed && was == given));
    assert!(refused.to_string().contains(&sealed.to_string()) && refused.to_string().contains("core.security.encryption_key"));
    assert_eq!(storage.entries(), before);
}

#[tokio::test]
async fn a_key_file_that_is_gone_is_said_and_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.key");
    let source = KekSource::File(path.clone());
    let storage = MemoryStorage::default();
    Keyring::open(Box::new(storage.clone()), &source, NOW).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let lost = Keyring::open(Box::new(storage.clone()), &source, NOW).await.unwrap_err();
    assert!(matches!(lost, KeyringError::Kek(KekError::Lost { .. })), "{lost}");
    assert!(!path.exists());
}

#[tokio::test]
async fn damage_and_loss_are_errors_and_never_new_keys() {
    let storage = MemoryStorage::default();
    let keyring = open(&storage, &kek(1)).await.unwrap();
    keyring.make_data_keys(&[tenant("acme"), tenant("globex")], NOW).await.unwrap();
    let good = storage.entries();
    let broken = |change: &dyn Fn(&mut Entries)| {
        let mut entries = good.clone();
        change(&mut entries);
        entries
    };
    let mut cases = vec![
        ("an entry is lost", broken(&|entries| drop(entries.entries.remove("data/acme/1")))),
        ("the head is lost", broken(&|entries| drop(entries.entries.remove(HEAD)))),
        ("an entry too many", broken(&|entries| drop(entries.entries.insert("data/acme/2".into(), good.entries["data/acme/1"].clone())))),
        ("another tenant's", broken(&|entries| drop(entries.entries.insert("data/acme/1".into(), good.entries["data/globex/1"].clone())))),
        ("a name of nothing", {
            broken(&|entries| {
                let bytes = entries.entries.remove("tokens/1").unwrap();
                entries.entries.insert("tokens/one".into(), bytes);
            })
        }),
    ];
    for name in good.entries.keys() {
        for at in 0..good.entries[name].len() {
            cases.push(("a flipped bit", broken(&|entries| entries.entries.get_mut(name).unwrap()[at] ^= 1)));
        }
        cases.push(("an empty entry", broken(&|entries| entries.entries.get_mut(name).unwrap().clear())));
    }
    for (what, entries) in cases {
        let storage = MemoryStorage::with(entries.clone());
        assert!(open(&storage, &kek(1)).await.is_err(), "{what}");
        assert_eq!(storage.entries(), entries, "{what}");
    }
    // What is known to a keyring that is open stays.
    let key = keyring.data_key(&tenant("acme"), NOW).await.unwrap();
    let mut lost = storage.entries().entries;
    lost.retain(|name, _| name == "data/acme/1");
    storage.put(lost.into_keys().map(|name| (name, None)).collect(), storage.entries().version).await.unwrap();
    assert!(matches!(keyring.reload().await, Err(KeyringError::Incomplete { written: 4, found: 3 })));
    assert_eq!(bytes_of(&keyring.data_key(&tenant("acme"), NOW).await.unwrap()), bytes_of(&key));
}

#[tokio::test]
async fn each_tenant_has_keys_of_its_own_and_all_processes_agree_on_them() {
    let storage = MemoryStorage::default();
    let (one, two) = (open(&storage, &kek(1)).await.unwrap(), open(&storage, &kek(1)).await.unwrap());
    let mut seen = HashSet::new();
    for name in ["acme", "globex", "initech"] {
        let name = tenant(name);
        let (first, second, third) = tokio::join!(one.data_key(&name, NOW), two.data_key(&name, NOW), one.data_key(&name, NOW));
        let keys = [first.unwrap(), second.unwrap(), third.unwrap()].map(|key| (key.version, bytes_of(&key)));
        assert!(keys.iter().all(|key| *key == keys[0]) && keys[0].0 == 1);
        assert!(seen.insert(keys[0].1), "two tenants share a key");
    }
    one.reload().await.unwrap();
    assert_eq!(one.list(), open(&storage, &kek(1)).await.unwrap().list());
}

#[tokio::test]
async fn what_a_retiring_key_sealed_opens_and_what_a_revoked_one_sealed_does_not() {
    let storage = MemoryStorage::default();
    let keyring = open(&storage, &kek(1)).await.unwrap();
    let acme = tenant("acme");
    let place = Place { tenant: Some(&acme), kind: "Channel", name: "slack", epoch: 0 };
    let old = keyring.data_key(&acme, NOW).await.unwrap();
    let sealed = old.key.writer(WriterId::drawn([9; 16])).seal(&place, b"secret").unwrap();
    let opened = |keyring: &Keyring, tenant: &TenantId| {
        keyring.opening_key(tenant, sealed.key()).map(|key| key.open(&place, &sealed).unwrap().to_vec())
    };

    let first: KeyName = "data/acme/1".parse().unwrap();
    assert!(matches!(keyring.revoke(&first).await, Err(KeyringError::InUse(name)) if name == first));
    assert_eq!(keyring.rotate(&Purpose::Data(acme.clone()), NOW + 5).await.unwrap().to_string(), "data/acme/2");
    assert_eq!(keyring.data_key(&acme, NOW).await.unwrap().version, 2);
    assert_eq!(opened(&keyring, &acme).as_deref(), Some(&b"secret"[..]));
    assert_eq!(opened(&keyring, &tenant("globex")), None);

    keyring.revoke(&first).await.unwrap();
    keyring.revoke(&first).await.unwrap();
    let again = open(&storage, &kek(1)).await.unwrap();
    for keyring in [&keyring, &again] {
        assert_eq!(opened(keyring, &acme), None);
        let states: Vec<_> = keyring.list().into_iter().filter(|key| key.name.purpose == Purpose::Data(acme.clone())).collect();
        assert_eq!(
            states.iter().map(|key| (key.state, key.created)).collect::<Vec<_>>(),
            [(State::Revoked, NOW), (State::Active, NOW + 5)]
        );
    }
    let absent: KeyName = "data/acme/3".parse().unwrap();
    assert!(matches!(keyring.revoke(&absent).await, Err(KeyringError::Absent(name)) if name == absent));
}

#[tokio::test]
async fn a_tenant_that_is_forgotten_has_no_key_left_anywhere() {
    let storage = MemoryStorage::default();
    let keyring = open(&storage, &kek(1)).await.unwrap();
    let (acme, purpose) = (tenant("acme"), Purpose::Data(tenant("acme")));
    let old = keyring.data_key(&acme, NOW).await.unwrap();
    for _ in 0..2 * PUT_MAX {
        keyring.rotate(&purpose, NOW).await.unwrap();
    }
    keyring.data_key(&tenant("globex"), NOW).await.unwrap();
    keyring.forget(&acme).await.unwrap();
    keyring.forget(&acme).await.unwrap();
    assert!(storage.entries().entries.keys().all(|name| !name.contains("acme")));
    let again = open(&storage, &kek(1)).await.unwrap();
    assert!(again.opening_key(&acme, old.key.fingerprint()).is_none());
    assert_ne!(bytes_of(&again.data_key(&acme, NOW).await.unwrap()), bytes_of(&old));
}

#[tokio::test]
async fn a_signature_counts_until_its_key_is_revoked_and_for_its_purpose_only() {
    let storage = MemoryStorage::default();
    let keyring = open(&storage, &kek(1)).await.unwrap();
    let signature = keyring.sign_snapshot(b"snapshot").unwrap();
    keyring.verify(&Purpose::Snapshots, b"snapshot", &signature).unwrap();
    assert_eq!(keyring.verify(&Purpose::Tokens, b"snapshot", &signature), Err(NotVerified::Key(signature.key)));
    assert_eq!(keyring.verify(&Purpose::Snapshots, b"snapshoT", &signature), Err(NotVerified::Signature(signature.key)));
    for at in 0..Signature::BYTES {
        let mut bad = signature;
        bad.bytes[at] ^= 0x10;
        assert!(keyring.verify(&Purpose::Snapshots, b"snapshot", &bad).is_err());
    }
    // Published keys are enough to verify it.
    let public = keyring.public_keys(&Purpose::Snapshots);
    assert_eq!(public.iter().map(|key| Fingerprint::of_public_key(key)).collect::<Vec<_>>(), [signature.key]);
    UnparsedPublicKey::new(&ED25519, public[0]).verify(b"snapshot", &signature.bytes).unwrap();

    keyring.rotate(&Purpose::Snapshots, NOW).await.unwrap();
    let newer = keyring.sign_snapshot(b"snapshot").unwrap();
    assert_ne!(newer.key, signature.key);
    let other = open(&storage, &kek(1)).await.unwrap();
    for signature in [&signature, &newer] {
        other.verify(&Purpose::Snapshots, b"snapshot", signature).unwrap();
    }
    keyring.revoke(&"snapshots/1".parse().unwrap()).await.unwrap();
    assert_eq!(keyring.verify(&Purpose::Snapshots, b"snapshot", &signature), Err(NotVerified::Key(signature.key)));
    assert_eq!(keyring.public_keys(&Purpose::Snapshots).len(), 1);
}

/// A storage that notes how much was put at once, and fails from some put on.
#[derive(Clone)]
struct Counting {
    storage: MemoryStorage,
    sizes: Arc<Mutex<Vec<usize>>>,
    left: Arc<AtomicUsize>,
}

impl Counting {
    fn over(storage: &MemoryStorage, left: usize) -> Self {
        Self { storage: storage.clone(), sizes: Arc::default(), left: Arc::new(AtomicUsize::new(left)) }
    }
}

impl Storage for Counting {
    fn load(&self) -> Pending<'_, Entries> {
        self.storage.load()
    }

    fn put(&self, entries: Puts, seen: Version) -> Pending<'_, Put> {
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            return Box::pin(async { Err(StorageError::new("the disk is full", "no space left")) });
        }
        assert!(entries.contains_key(HEAD), "a put without the head");
        self.sizes.lock().unwrap().push(entries.len());
        self.storage.put(entries, seen)
    }
}

#[tokio::test]
async fn many_keys_are_made_in_puts_that_a_store_takes() {
    let storage = MemoryStorage::default();
    let counting = Counting::over(&storage, usize::MAX);
    let (keyring, _) = Keyring::open(Box::new(counting.clone()), &KekSource::Setting(kek(1)), NOW).await.unwrap();
    let tenants: Vec<TenantId> = (0..250).map(|at| tenant(&format!("t{at}"))).collect();
    keyring.make_data_keys(&tenants, NOW).await.unwrap();
    let sizes = counting.sizes.lock().unwrap().clone();
    assert_eq!(sizes, [3, PUT_MAX, PUT_MAX, 250 - 2 * (PUT_MAX - 1) + 1]);
    keyring.make_data_keys(&tenants, NOW).await.unwrap();
    assert_eq!(counting.sizes.lock().unwrap().len(), sizes.len(), "what is there is not made again");
    assert_eq!(open(&storage, &kek(1)).await.unwrap().list(), keyring.list());
}

#[tokio::test]
async fn what_could_not_be_written_is_not_known() {
    let storage = MemoryStorage::default();
    let counting = Counting::over(&storage, 1);
    let (keyring, _) = Keyring::open(Box::new(counting.clone()), &KekSource::Setting(kek(1)), NOW).await.unwrap();
    let acme = tenant("acme");
    assert!(matches!(keyring.data_key(&acme, NOW).await, Err(KeyringError::Storage(_))));
    assert!(keyring.rotate(&Purpose::Tokens, NOW).await.is_err());
    assert_eq!(keyring.list(), open(&storage, &kek(1)).await.unwrap().list());
    counting.left.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(keyring.data_key(&acme, NOW).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_rewrap_that_is_cut_off_anywhere_goes_on_with_both_keys_and_loses_nothing() {
    let (old, new) = (kek(1), kek(2));
    for cut in 0..=4 {
        let storage = MemoryStorage::default();
        let keyring = open(&storage, &old).await.unwrap();
        keyring.make_data_keys(&(0..250).map(|at| tenant(&format!("t{at}"))).collect::<Vec<_>>(), NOW).await.unwrap();
        let keys = keyring.list();

        let cut_off = Keyring::rewrap(&Counting::over(&storage, cut), &old, &new).await;
        match cut {
            0..=2 => assert!(matches!(cut_off, Err(KeyringError::Storage(_)))),
            _ => assert_eq!(cut_off.unwrap(), keys.len()),
        }
        match (cut, open(&storage, &old).await) {
            (0, Ok(_)) => {}
            (1 | 2, Err(KeyringError::HalfRewrapped { sealed, .. })) => assert_eq!(sealed, new.fingerprint()),
            (3.., Err(KeyringError::OtherKek { sealed, .. })) => assert_eq!(sealed, new.fingerprint()),
            (_, opened) => unreachable!("cut after {cut}: {opened:?}"),
        }
        assert_eq!(open(&storage, &new).await.is_ok(), cut >= 3, "cut after {cut}");

        let left = Keyring::rewrap(&storage, &old, &new).await.unwrap();
        assert_eq!(left, keys.len() - (cut * (PUT_MAX - 1)).min(keys.len()));
        assert_eq!(open(&storage, &new).await.unwrap().list(), keys);
        assert!(matches!(open(&storage, &old).await, Err(KeyringError::OtherKek { .. })));
        // Whoever still holds the old key writes nothing with it.
        assert!(matches!(keyring.data_key(&tenant("late"), NOW).await, Err(KeyringError::OtherKek { .. })));
        assert_eq!(open(&storage, &new).await.unwrap().list(), keys);
    }
}

#[tokio::test]
async fn a_rewrap_with_a_key_that_is_not_the_keyrings_changes_nothing() {
    let storage = MemoryStorage::default();
    open(&storage, &kek(1)).await.unwrap();
    let before = storage.entries();
    assert!(matches!(Keyring::rewrap(&storage, &kek(3), &kek(2)).await, Err(KeyringError::OtherKek { .. })));
    assert_eq!(storage.entries(), before);
    assert_eq!(Keyring::rewrap(&MemoryStorage::default(), &kek(1), &kek(2)).await.unwrap(), 0);
}

#[tokio::test]
async fn no_secret_rests_or_prints_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.json");
    let storage = FileStorage::new(&path);
    let (keyring, _) = Keyring::open(Box::new(storage.clone()), &KekSource::Setting(kek(1)), NOW).await.unwrap();
    let secret = bytes_of(&keyring.data_key(&tenant("acme"), NOW).await.unwrap());
    for bytes in storage.load().await.unwrap().entries.into_values() {
        assert!(!bytes.windows(32).any(|window| window == secret));
    }
    let shown = format!("{keyring:?} {:?}", keyring.data_key(&tenant("acme"), NOW).await.unwrap());
    assert!(!shown.contains(&format!("{secret:?}")) && shown.len() < 200, "{shown}");
}

#[tokio::test]
async fn a_file_is_its_owners_alone_and_what_was_damaged_is_never_taken_for_empty() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.json");
    let storage = FileStorage::new(&path);
    let entries = |name: &str| BTreeMap::from([(name.to_owned(), Some(b"bytes".to_vec()))]);
    assert_eq!(storage.put(entries("a"), 0).await.unwrap(), Put::Done(1));
    assert_eq!(storage.put(entries("b"), 0).await.unwrap(), Put::Moved);
    assert_eq!(storage.put(entries("b"), 1).await.unwrap(), Put::Done(2));
    assert_eq!(storage.load().await.unwrap().entries.len(), 2);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let good = std::fs::read(&path).unwrap();
    for len in 0..good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        let told = storage.load().await.unwrap_err();
        assert!(told.to_string().contains("restore it"), "{told}");
        assert!(storage.put(entries("c"), 2).await.is_err());
    }
}
