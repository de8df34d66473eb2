//! Policy is swapped while requests are served: none of them notices, and what has mistakes stands aside alone.

use bulkhead_tests::{World, eventually};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The quarantined parts, as `bulkhead status` shows them.
fn quarantined(world: &World) -> Vec<Value> {
    world.policy()["quarantined"].as_array().expect("a list").clone()
}

fn revision(world: &World) -> u64 {
    world.policy()["epoch"]["revision"].as_u64().expect("a number")
}

#[test]
fn a_thousand_swaps_a_tenth_of_them_invalid_fail_no_request() {
    let world = World::start();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = ["acme_corp", "globex"]
        .into_iter()
        .map(|tenant| {
            let (client, stop, served) = (world.user(tenant, &["reader"]), Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut connection = client.connect();
                while !stop.load(Ordering::Relaxed) {
                    // The quota of fair_use is 200/s a tenant: a refusal by it is an answer, not a failure.
                    let answer = connection.try_send("GET", "/v1/items", b"").expect("an answer");
                    assert!(matches!(answer.status, 200 | 429), "{} {}", answer.status, answer.text());
                    served.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            })
        })
        .collect();
    let good = world.read("tenants/globex.yaml");
    for swap in 0..1_000 {
        let before = revision(&world);
        if swap % 10 == 9 {
            world.write("tenants/globex.yaml", &format!("{good}plan_of: nothing\n"));
            eventually("the mistake is named", || (!quarantined(&world).is_empty()).then_some(()));
        } else {
            world.write("tenants/globex.yaml", &good.replace("name: Globex", &format!("name: Globex\nfeatures: [swap_{swap}]")));
            eventually("the edit is live", || (revision(&world) > before && quarantined(&world).is_empty()).then_some(()));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("no request failed");
    }
    assert!(served.load(Ordering::Relaxed) > 1_000, "the load was real");
}

#[test]
fn a_tenant_with_a_mistake_stays_on_its_last_good_version_alone() {
    let world = World::start();
    let good = world.read("tenants/globex.yaml");
    world.write("tenants/globex.yaml", &good.replace("plan: free", "plan: fre"));
    let parts = eventually("globex is in quarantine", || Some(quarantined(&world)).filter(|parts| !parts.is_empty()));
    assert_eq!(parts.len(), 1, "{parts:?}");
    assert_eq!(parts[0]["part"], "tenant globex");
    assert_eq!(parts[0]["serving"], "last_good");
    let found = &parts[0]["mistakes"][0];
    assert_eq!(found["line"], 5, "{found}");
    assert!(found["hint"].as_str().is_some_and(|hint| hint.contains("free")), "{found}");
    assert!(world.log().contains("globex"), "{}", world.log());
    let metrics = world.probe("/metrics").text();
    assert!(metrics.contains("bulkhead_quarantined_parts{part=\"tenant globex\"} 1"), "{metrics}");
    assert_eq!(world.user("globex", &["reader"]).get("/v1/items").verdict(), "200");
    // The other tenant's edits go on.
    let acme = world.read("tenants/acme_corp.yaml");
    world.write("tenants/acme_corp.yaml", &acme.replace("hosts: [acme.localhost]", "hosts: [acme.localhost, new.localhost]"));
    let moved = world.client("new.localhost").bearer(&world.issuer.token("acme_corp", &["reader"]));
    eventually("acme's edit is live", || (moved.get("/v1/items").verdict() == "200").then_some(()));
    world.write("tenants/globex.yaml", &good);
    eventually("globex is well again", || quarantined(&world).is_empty().then_some(()));
}

#[test]
fn a_new_tenant_with_a_mistake_is_held_not_unknown() {
    let world = World::start();
    world.write(
        "tenants/initech.yaml",
        "tenant_id: initech\nname: Initech\nemail: ops@initech.example\nplan: gold\nhosts: [initech.localhost]\n",
    );
    eventually("initech is in quarantine", || (!quarantined(&world).is_empty()).then_some(()));
    assert_eq!(quarantined(&world)[0]["serving"], "held");
    assert_eq!(world.user("initech", &["reader"]).get("/v1/items").verdict(), "503 policy_held");
    assert_eq!(world.user("globex", &["reader"]).get("/v1/items").verdict(), "200");
}

#[test]
fn a_host_that_is_taken_stays_with_its_holder() {
    let world = World::start();
    world.write("tenants/thief.yaml", "tenant_id: thief\nname: Thief\nemail: t@example.com\nhosts: [acme.localhost]\n");
    let parts = eventually("the claim is refused", || Some(quarantined(&world)).filter(|parts| !parts.is_empty()));
    assert_eq!(parts[0]["part"], "tenant thief");
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    let stolen = world.client("acme.localhost").bearer(&world.issuer.token("thief", &["reader"])).get("/v1/items");
    assert_eq!(stolen.verdict(), "403 other_tenant");
}

#[test]
fn a_half_written_platform_takes_nothing_down() {
    let world = World::start();
    let good = world.read("platform.yaml");
    world.write("platform.yaml", &good[..good.len() / 2]);
    eventually("it is named", || (!quarantined(&world).is_empty()).then_some(()));
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    world.write("platform.yaml", &good);
    eventually("it is well again", || quarantined(&world).is_empty().then_some(()));
}

#[test]
fn a_new_revision_keeps_what_is_left_of_a_quota() {
    let world = World::start();
    let client = world.user("globex", &["reader"]);
    for _ in 0..3 {
        assert_eq!(client.get("/v1/reports").verdict(), "200");
    }
    let before = revision(&world);
    let text = world.read("tenants/globex.yaml");
    world.write("tenants/globex.yaml", &text.replace("plan: free", "plan: free\nfeatures: [something]"));
    eventually("the edit is live", || (revision(&world) > before).then_some(()));
    let answers: Vec<_> = (0..3).map(|_| client.get("/v1/reports").status).collect();
    assert_eq!(answers, [200, 200, 429]);
}

#[test]
fn new_keys_of_the_issuer_are_taken_up_and_old_ones_end() {
    let world = World::start();
    let before = world.user("acme_corp", &["reader"]);
    assert_eq!(before.get("/v1/items").verdict(), "200");
    let new = bulkhead_tests::Issuer::demo();
    world.write("issuer.jwks.json", &new.jwks());
    let after = world.client("acme.localhost").bearer(&new.token("acme_corp", &["reader"]));
    eventually("the new key proves", || (after.get("/v1/items").verdict() == "200").then_some(()));
    assert_eq!(before.get("/v1/items").verdict(), "401 invalid_token", "a remembered token ends with its key");
}

#[test]
fn a_folder_mounted_by_kubernetes_is_followed() {
    // The folder is a link `..data` to a folder of the revision, and every file a link through it.
    let world = World::with(bulkhead_tests::Origin::start(), |folder| {
        let revision = folder.join("..2026_01");
        std::fs::create_dir(&revision).unwrap();
        std::fs::rename(folder.join("tenants/globex.yaml"), revision.join("globex.yaml")).unwrap();
        std::os::unix::fs::symlink("..2026_01", folder.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/globex.yaml", folder.join("globex.yaml")).unwrap();
    });
    let client = world.user("globex", &["reader"]);
    assert_eq!(client.get("/v1/items").verdict(), "200");
    let folder = world.documents();
    let next = folder.join("..2026_02");
    std::fs::create_dir(&next).unwrap();
    let text = std::fs::read_to_string(folder.join("globex.yaml")).unwrap();
    std::fs::write(next.join("globex.yaml"), text.replace("plan: free", "plan: free\nstate: suspended")).unwrap();
    std::os::unix::fs::symlink("..2026_02", folder.join("..data_new")).unwrap();
    std::fs::rename(folder.join("..data_new"), folder.join("..data")).unwrap();
    eventually("the new revision is live", || (client.get("/v1/items").verdict() == "403 tenant_suspended").then_some(()));
}
