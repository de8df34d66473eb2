//! Ten thousand tenants in one sidecar.

use bulkhead_tests::{Origin, World, eventually};
use std::fmt::Write;

const TENANTS: usize = 10_000;

#[test]
fn ten_thousand_tenants_are_served_and_one_of_them_edited() {
    let world = World::with(Origin::start(), |folder| {
        // A hundred files of a hundred, as a generator would write them; and one of its own to edit.
        for file in 0..TENANTS / 100 {
            let mut text = String::new();
            for tenant in 0..100 {
                let id = file * 100 + tenant;
                writeln!(text, "---\ntenant_id: t{id}\nname: Tenant {id}\nemail: t{id}@example.com\nhosts: [t{id}.localhost]").unwrap();
            }
            std::fs::write(folder.join(format!("many-{file}.yaml")), text).unwrap();
        }
    });
    let served = world.policy()["tenants"].as_u64();
    assert_eq!(served, Some(TENANTS as u64 + 2), "{}", world.policy());
    for id in [0, 1, 99, 100, 5_000, TENANTS - 1] {
        assert_eq!(world.user(&format!("t{id}"), &["reader"]).get("/v1/items").verdict(), "200", "tenant {id}");
    }
    let other = world.client("t1.localhost").bearer(&world.issuer.token("t2", &["reader"])).get("/v1/items");
    assert_eq!(other.verdict(), "403 other_tenant");
    world.write("tenants/edited.yaml", "tenant_id: edited\nname: Edited\nemail: e@example.com\nhosts: [edited.localhost]\n");
    let client = world.user("edited", &["reader"]);
    eventually("the new tenant is live", || (client.get("/v1/items").verdict() == "200").then_some(()));
}
