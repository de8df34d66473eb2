//! Unclean ends: one stray kill hides no edit, and a document that seems to kill the process costs two of its lives.

use bulkhead_tests::{World, eventually};

fn suspects(world: &World) -> Vec<String> {
    world.policy()["trials"].as_array().expect("a list").iter().map(|part| part["part"].as_str().expect("a part").to_owned()).collect()
}

/// Whether globex is served as [`edit`] left it.
fn is_edited(world: &World) -> bool {
    let client = world.client("edited.localhost").bearer(&world.issuer.token("globex", &["reader"]));
    client.get("/v1/items").verdict() == "200"
}

/// Makes an edit to globex that can be seen: it has another host. Waits until it is live.
fn edit(world: &World) {
    let text = world.read("tenants/globex.yaml");
    world.write("tenants/globex.yaml", &text.replace("hosts: [globex.localhost]", "hosts: [globex.localhost, edited.localhost]"));
    eventually("the edit is live", || is_edited(world).then_some(()));
}

/// Two unclean ends within a minute, each with a start after it.
fn dies_twice(world: &mut World) {
    for _ in 0..2 {
        world.process().kill();
        world.restart();
    }
}

#[test]
fn after_one_unclean_end_everything_is_live_again() {
    let mut world = World::start();
    edit(&world);
    world.process().kill();
    world.restart();
    assert!(is_edited(&world), "one stray kill hides no edit");
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
}

#[test]
fn after_a_second_one_within_a_minute_it_starts_without_what_was_activated_last() {
    let mut world = World::start();
    edit(&world);
    dies_twice(&mut world);
    assert_eq!(world.user("globex", &["reader"]).get("/v1/items").verdict(), "200", "what the edit replaced is served");
    assert!(!is_edited(&world));
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    assert_eq!(suspects(&world), ["tenant globex"]);
    assert!(world.log().contains("tenant globex"), "{}", world.log());
    let metrics = world.probe("/metrics").text();
    assert!(metrics.contains("bulkhead_quarantined_parts{part=\"tenant globex\"} 1"), "{metrics}");
}

#[test]
fn a_tenant_that_was_new_is_held_then() {
    let mut world = World::start();
    world.write("tenants/initech.yaml", "tenant_id: initech\nname: Initech\nemail: ops@initech.example\nhosts: [initech.localhost]\n");
    eventually("it is live", || (world.user("initech", &["reader"]).get("/v1/items").verdict() == "200").then_some(()));
    dies_twice(&mut world);
    assert_eq!(world.user("initech", &["reader"]).get("/v1/items").verdict(), "503 policy_held");
    assert_eq!(world.user("globex", &["reader"]).get("/v1/items").verdict(), "200");
}

#[test]
fn a_new_edit_of_the_suspect_is_served() {
    let mut world = World::start();
    edit(&world);
    dies_twice(&mut world);
    let text = world.read("tenants/globex.yaml");
    world.write("tenants/globex.yaml", &text.replace("name: Globex", "name: Globex Corporation"));
    eventually("the new edit is live", || is_edited(&world).then_some(()));
}

#[test]
fn a_clean_end_makes_no_suspects() {
    let mut world = World::start();
    edit(&world);
    for _ in 0..2 {
        world.process().signal("TERM");
        assert_eq!(world.process().wait().code(), Some(0));
        world.restart();
    }
    assert!(is_edited(&world));
    assert!(!world.log().contains("did not end in order"), "{}", world.log());
}

#[test]
fn damaged_memories_are_named_and_nothing_undeclared_is_served() {
    let mut world = World::start();
    edit(&world);
    world.process().kill();
    let mut damaged = 0;
    for entry in walk(&world.data().join("policy")) {
        let mut bytes = std::fs::read(&entry).unwrap();
        if let Some(byte) = bytes.len().checked_div(2).and_then(|middle| bytes.get_mut(middle)) {
            *byte ^= 0x55;
            std::fs::write(&entry, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "there is something on disk to damage");
    world.restart();
    assert!(is_edited(&world));
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
