//! What a folder offers, reading after reading.

use super::scan::Scan;
use super::{Folder, FolderError};
use crate::policy::PolicySource;
use bulkhead_config::protocol::Offer;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

/// A folder and what is known of it.
struct Desk {
    dir: TempDir,
    scan: Scan,
}

/// An offer in a few words.
#[derive(Debug, Default, PartialEq)]
struct Told {
    put: Vec<String>,
    remove: Vec<String>,
    /// The file within the folder, the document, and how many mistakes.
    broken: Vec<(String, Option<String>, usize)>,
    files: Vec<(String, Option<String>)>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scan = Scan::new(dir.path().to_owned());
        Self { dir, scan }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// At once, so that who watches never sees half of it.
    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_file_name(".draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path).unwrap();
    }

    fn delete(&self, name: &str) {
        fs::remove_file(self.at(name)).unwrap();
    }

    fn read(&mut self) -> Told {
        let offer = self.scan.read(&mut |_, _| {});
        offer.map(|offer| told(&offer, self.dir.path())).unwrap_or_default()
    }
}

fn told(offer: &Offer, root: &Path) -> Told {
    let within = |name: &str| Path::new(name).strip_prefix(root).unwrap_or(Path::new(name)).display().to_string();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut told = Told {
        put: offer.put.iter().map(|put| put.document.id.to_string()).collect(),
        remove: offer.remove.iter().map(ToString::to_string).collect(),
        broken: offer
            .broken
            .iter()
            .map(|broken| (within(&broken.file), broken.id.as_ref().map(ToString::to_string), broken.diagnostics.len()))
            .collect(),
        files: offer.files.iter().map(|(name, bytes)| (within(name), bytes.as_deref().map(text))).collect(),
    };
    told.put.sort();
    told.remove.sort();
    told.broken.sort();
    told
}

fn put(names: &[&str]) -> Told {
    Told { put: names.iter().map(ToString::to_string).collect(), ..Told::default() }
}

fn removed(names: &[&str]) -> Told {
    Told { remove: names.iter().map(ToString::to_string).collect(), ..Told::default() }
}

fn broken(all: &[(&str, Option<&str>, usize)]) -> Told {
    let broken = all.iter().map(|(file, id, count)| ((*file).to_owned(), id.map(str::to_owned), *count)).collect();
    Told { broken, ..Told::default() }
}

fn tenant(name: &str, title: &str) -> String {
    format!("kind: Tenant\ntenant_id: {name}\nname: {title}\nemail: ops@{name}.example\n")
}

fn role(name: &str) -> String {
    format!("kind: Role\nname: {name}\nallow: [GET /]\n")
}

#[test]
fn the_first_reading_is_complete_and_later_ones_tell_changes_only() {
    let mut desk = Desk::new();
    desk.write("tenants/a.yaml", &tenant("a", "A"));
    desk.write("b.json", r#"{"tenant_id": "b", "name": "B", "email": "ops@b.example"}"#);
    desk.write("c.yml", &role("c"));
    let first = desk.scan.read(&mut |_, _| {}).unwrap();
    assert!(first.complete);
    assert_eq!(told(&first, desk.dir.path()), put(&["Role c", "Tenant a", "Tenant b"]));
    assert_eq!(desk.read(), Told::default());

    desk.write("tenants/a.yaml", &tenant("a", "Another"));
    assert_eq!(desk.read(), put(&["Tenant a"]));
    desk.delete("c.yml");
    assert_eq!(desk.read(), removed(&["Role c"]));
}

#[test]
fn an_empty_folder_is_an_offer_of_nothing() {
    let first = Desk::new().scan.read(&mut |_, _| {}).unwrap();
    assert!(first.complete && first.put.is_empty() && first.broken.is_empty());
}

#[test]
fn only_documents_are_read() {
    let mut desk = Desk::new();
    for name in [".a.yaml", ".git/a.yaml", "a.yaml~", "a.yaml.swp", "4913", "a.txt", "#a.yaml#", "keys.jwks.json", "keys.jwks"] {
        desk.write(name, &tenant("a", "A"));
    }
    assert_eq!(desk.read(), Told::default());
}

#[test]
fn each_document_carries_its_own_text_and_the_place_as_the_user_would_write_it() {
    let desk = Desk::new();
    desk.write("all.yaml", &format!("{}---\n{}", tenant("a", "A"), role("r")));
    let offer = Folder::read_once(desk.dir.path());
    let role = offer.put.iter().find(|put| put.document.id.to_string() == "Role r").unwrap();
    assert!(role.text.contains("name: r") && !role.text.contains("tenant_id"), "{}", role.text);
    assert_eq!(*role.document.origin.file, *desk.at("all.yaml").display().to_string());
    assert_eq!(role.document.origin.span.line, 6);
}

#[test]
fn of_a_file_with_many_documents_the_changed_ones_are_told() {
    let mut desk = Desk::new();
    desk.write("all.yaml", &format!("{}---\n{}---\n{}", tenant("a", "A"), tenant("b", "B"), tenant("c", "C")));
    desk.read();
    desk.write("all.yaml", &format!("{}---\n{}---\n{}", tenant("a", "A"), tenant("b", "Other"), tenant("c", "C")));
    assert_eq!(desk.read(), put(&["Tenant b"]));
}

#[test]
fn a_file_that_is_touched_but_says_the_same_is_no_change() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "A"));
    desk.read();
    desk.write("a.yaml", &tenant("a", "A"));
    assert_eq!(desk.read(), Told::default());
}

#[test]
fn a_save_by_rename_is_a_change_and_no_removal() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "A"));
    desk.read();
    desk.write(".a.yaml.tmp", &tenant("a", "Another"));
    fs::rename(desk.at("a.yaml"), desk.at("a.yaml~")).unwrap();
    fs::rename(desk.at(".a.yaml.tmp"), desk.at("a.yaml")).unwrap();
    assert_eq!(desk.read(), put(&["Tenant a"]));
}

#[test]
fn a_file_that_moves_keeps_its_documents() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "A"));
    desk.read();
    fs::rename(desk.at("a.yaml"), desk.at("b.yaml")).unwrap();
    assert_eq!(desk.read(), put(&["Tenant a"]));
}

#[test]
fn a_half_written_file_takes_nothing_away_and_is_taken_when_it_is_whole() {
    let mut desk = Desk::new();
    let whole = format!("{}---\n{}", tenant("a", "A"), role("r"));
    desk.write("all.yaml", &whole);
    desk.read();
    desk.write("all.yaml", "kind: Tenant\ntenant_id: a\nname: \"Wri");
    let half = desk.read();
    assert!(half.remove.is_empty() && half.put.is_empty(), "{half:?}");
    assert_eq!(half.broken.iter().map(|(_, id, _)| id.as_deref().unwrap()).collect::<Vec<_>>(), ["Role r", "Tenant a"]);
    desk.write("all.yaml", &whole);
    assert_eq!(desk.read(), put(&["Role r", "Tenant a"]));
}

#[test]
fn a_file_emptied_by_a_save_in_progress_takes_nothing_away() {
    let mut desk = Desk::new();
    desk.write("b.yaml", &tenant("b", "B"));
    desk.write("a.yaml", &tenant("a", "A"));
    desk.read();
    desk.write("a.yaml", "");
    assert_eq!(desk.read(), broken(&[("a.yaml", Some("Tenant a"), 1)]));
    desk.delete("a.yaml");
    assert_eq!(desk.read(), removed(&["Tenant a"]));
}

#[test]
fn a_mistake_in_one_document_names_it_and_leaves_the_others_alone() {
    let mut desk = Desk::new();
    desk.write("all.yaml", &format!("{}---\n{}", tenant("a", "A"), role("r")));
    desk.read();
    desk.write("all.yaml", &format!("{}colour: blue\n---\n{}", tenant("a", "A"), role("r")));
    let told = desk.read();
    assert_eq!((told.put, told.remove.len()), (vec!["Role r".to_owned()], 0), "its line is another");
    assert_eq!(told.broken, [("all.yaml".to_owned(), Some("Tenant a".to_owned()), 1)]);
}

#[test]
fn a_document_whose_kind_is_mistyped_is_not_gone() {
    let mut desk = Desk::new();
    desk.write("all.yaml", &role("r"));
    desk.read();
    desk.write("all.yaml", &role("r").replace("Role", "Rolle"));
    assert_eq!(desk.read(), broken(&[("all.yaml", Some("Role r"), 1)]));
}

#[test]
fn a_file_that_was_never_readable_is_named_and_its_recovery_is_told() {
    let mut desk = Desk::new();
    desk.write("a.yaml", "a: [1");
    assert_eq!(desk.read(), broken(&[("a.yaml", None, 1)]));
    assert_eq!(desk.read(), Told::default());
    desk.write("a.yaml", "# nothing here\n");
    assert_eq!(desk.read(), broken(&[("a.yaml", None, 0)]));
}

#[test]
fn a_change_beside_an_old_mistake_of_the_file_is_no_recovery_of_the_file() {
    let mut desk = Desk::new();
    desk.write("all.yaml", &format!("kind: Nothing\n---\n{}", role("r")));
    let told = desk.read();
    assert_eq!((told.put, told.broken), (vec!["Role r".to_owned()], vec![("all.yaml".to_owned(), None, 1)]));
    desk.write("all.yaml", &format!("kind: Nothing\n---\n{}# a remark\n", role("r")));
    let told = desk.read();
    assert_eq!((told.put, told.broken), (vec!["Role r".to_owned()], vec![("all.yaml".to_owned(), None, 1)]));
}

#[test]
fn a_file_too_large_is_named_and_not_read() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "A"));
    desk.read();
    desk.write("a.yaml", &format!("{}#{}\n", tenant("a", "A"), "x".repeat(8 << 20)));
    assert_eq!(desk.read(), broken(&[("a.yaml", Some("Tenant a"), 1)]));
}

#[test]
fn what_is_no_text_or_no_file_is_named() {
    let mut desk = Desk::new();
    fs::write(desk.at("a.yaml"), b"\xff\xfe").unwrap();
    let pipe = rustix::fs::mknodat(rustix::fs::CWD, desk.at("b.yaml"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0);
    pipe.unwrap();
    symlink(desk.at("nowhere"), desk.at("c.yaml")).unwrap();
    assert_eq!(desk.read(), broken(&[("a.yaml", None, 1), ("b.yaml", None, 1), ("c.yaml", None, 1)]));
}

#[test]
fn a_document_in_two_files_counts_in_neither_until_one_is_gone() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "First"));
    desk.read();
    desk.write("b.yaml", &tenant("a", "Second"));
    let both = desk.scan.read(&mut |_, _| {}).unwrap();
    let places: Vec<String> = both.broken.iter().map(|broken| broken.diagnostics.to_string()).collect();
    assert!(both.put.is_empty() && both.remove.is_empty());
    assert!(places[0].contains("a.yaml:1:1") && places[0].contains("b.yaml:1"), "{places:?}");
    assert!(places[1].contains("b.yaml:1:1") && places[1].contains("a.yaml:1"), "{places:?}");
    desk.delete("a.yaml");
    assert_eq!(desk.read(), put(&["Tenant a"]));
}

#[test]
fn three_claimants_name_each_other_and_two_that_are_left_still_do() {
    let mut desk = Desk::new();
    for name in ["a.yaml", "b.yaml", "c.yaml"] {
        desk.write(name, &role("r"));
    }
    assert_eq!(desk.read().broken.len(), 3);
    desk.delete("b.yaml");
    assert_eq!(desk.read(), broken(&[("a.yaml", Some("Role r"), 1), ("c.yaml", Some("Role r"), 1)]));
    desk.delete("c.yaml");
    assert_eq!(desk.read(), put(&["Role r"]));
}

#[test]
fn the_same_document_twice_in_one_file_counts_in_neither_place() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &format!("{}---\n{}", role("r"), role("r")));
    let told = desk.read();
    assert!(told.put.is_empty());
    assert_eq!(told.broken, [("a.yaml".to_owned(), Some("Role r".to_owned()), 1)]);
}

#[test]
fn kubernetes_swaps_the_link_behind_the_files() {
    let mut desk = Desk::new();
    desk.write("..2026_1/a.yaml", &tenant("a", "Old"));
    desk.write("..2026_2/a.yaml", &tenant("a", "New"));
    symlink("..2026_1", desk.at("..data")).unwrap();
    symlink("..data/a.yaml", desk.at("a.yaml")).unwrap();
    assert_eq!(desk.read(), put(&["Tenant a"]));
    symlink("..2026_2", desk.at("..data_tmp")).unwrap();
    fs::rename(desk.at("..data_tmp"), desk.at("..data")).unwrap();
    fs::remove_dir_all(desk.at("..2026_1")).unwrap();
    let offer = desk.scan.read(&mut |_, _| {}).unwrap();
    assert!(offer.put[0].text.contains("New"));
}

#[test]
fn a_folder_that_is_gone_takes_nothing_away_and_its_return_is_noticed() {
    let mut desk = Desk::new();
    desk.scan = Scan::new(desk.at("documents"));
    desk.write("documents/a.yaml", &tenant("a", "A"));
    desk.read();
    fs::rename(desk.at("documents"), desk.at("elsewhere")).unwrap();
    assert_eq!(desk.read(), broken(&[("documents", None, 1)]));
    desk.write("documents/a.yaml", &tenant("a", "Another"));
    let told = desk.read();
    assert_eq!((told.put, told.broken), (vec!["Tenant a".to_owned()], vec![("documents".to_owned(), None, 0)]));
}

#[test]
fn a_folder_that_is_emptied_or_becomes_a_file_takes_nothing_away() {
    let mut desk = Desk::new();
    desk.scan = Scan::new(desk.at("documents"));
    desk.write("documents/a.yaml", &tenant("a", "A"));
    desk.write("documents/b.yaml", &tenant("b", "B"));
    desk.read();
    desk.delete("documents/a.yaml");
    assert_eq!(desk.read(), removed(&["Tenant a"]));
    fs::rename(desk.at("documents"), desk.at("elsewhere")).unwrap();
    fs::create_dir(desk.at("documents")).unwrap();
    assert_eq!(desk.read(), broken(&[("documents", None, 1)]));
    fs::remove_dir(desk.at("documents")).unwrap();
    desk.write("documents", "no document");
    assert!(desk.read().remove.is_empty());
    desk.delete("documents");
    fs::rename(desk.at("elsewhere"), desk.at("documents")).unwrap();
    let told = desk.read();
    assert_eq!((told.put, told.remove, told.broken.iter().all(|(_, _, mistakes)| *mistakes == 0)), (vec![], vec![], true));
}

#[test]
fn a_link_to_a_folder_that_leads_nowhere_takes_nothing_away() {
    let mut desk = Desk::new();
    desk.write(".releases/1/a.yaml", &tenant("a", "A"));
    symlink(".releases/1", desk.at("tenants")).unwrap();
    assert_eq!(desk.read(), put(&["Tenant a"]));
    fs::rename(desk.at(".releases"), desk.at(".gone")).unwrap();
    assert_eq!(desk.read(), broken(&[("tenants", None, 1)]));
}

#[test]
fn a_folder_that_links_to_itself_is_read_once() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "A"));
    symlink(".", desk.at("again")).unwrap();
    assert_eq!(desk.read(), put(&["Tenant a"]));
}

fn identity(file: &str) -> String {
    format!(
        "kind: Identity\nname: i\njwt:\n  - {{ issuer: https://i, audiences: [a], algorithms: [EdDSA], jwks: {{ file: {file} }}, tenant_claim: t }}\n"
    )
}

#[test]
fn a_key_set_is_read_beside_its_document_and_watched_alone() {
    let mut desk = Desk::new();
    desk.write("sub/i.yaml", &identity("keys.jwks"));
    desk.write("sub/keys.jwks", "one");
    let told = desk.read();
    assert_eq!(told.files, [("sub/keys.jwks".to_owned(), Some("one".to_owned()))]);
    desk.write("sub/keys.jwks", "two");
    let told = desk.read();
    assert_eq!(told, Told { files: vec![("sub/keys.jwks".to_owned(), Some("two".to_owned()))], ..Told::default() });
    assert_eq!(desk.read(), Told::default());
}

#[test]
fn a_key_set_that_cannot_be_read_is_named_and_told_as_such() {
    let mut desk = Desk::new();
    let outside = tempfile::tempdir().unwrap();
    let keys = outside.path().join("keys.json");
    let name = keys.display().to_string();
    desk.write("i.yaml", &identity(&name));
    let told = desk.read();
    assert_eq!(told.files, [(name.clone(), None)]);
    assert_eq!(told.broken, [(name.clone(), None, 1)]);
    fs::write(&keys, "keys").unwrap();
    let told = desk.read();
    assert_eq!((told.files, told.broken), (vec![(name.clone(), Some("keys".to_owned()))], vec![(name, None, 0)]));
}

#[test]
fn a_key_set_among_the_documents_is_told_how_to_be_called() {
    let mut desk = Desk::new();
    desk.write("i.yaml", &identity("keys.json"));
    desk.write("keys.json", r#"{"keys": []}"#);
    let offer = desk.scan.read(&mut |_, _| {}).unwrap();
    let mistakes = offer.broken.iter().map(|broken| broken.diagnostics.to_string()).collect::<Vec<_>>().join("\n");
    assert!(mistakes.contains(".jwks.json") && !mistakes.contains("kind"), "{mistakes}");
    assert_eq!(told(&offer, desk.dir.path()).files.len(), 1);
}

#[test]
fn a_single_file_is_read_whatever_its_name() {
    let desk = Desk::new();
    desk.write("policy", &tenant("a", "A"));
    let offer = Folder::read_once(desk.at("policy"));
    assert_eq!(told(&offer, desk.dir.path()).put, ["Tenant a"]);
}

#[test]
fn a_folder_that_is_not_there_cannot_be_watched() {
    let error = Folder::watch("/nowhere/documents").unwrap_err();
    assert!(matches!(error, FolderError::NotThere { .. }));
    assert!(error.to_string().contains("/nowhere/documents"), "{error}");
}

#[tokio::test]
async fn a_watched_folder_tells_what_happens_in_it() {
    let desk = Desk::new();
    desk.write("a.yaml", &tenant("a", "A"));
    let mut folder = Folder::watch(desk.dir.path()).unwrap();
    assert!(folder.next().await.unwrap().complete);

    desk.write("a.yaml", &tenant("a", "Another"));
    assert_eq!(told(&folder.next().await.unwrap(), desk.dir.path()), put(&["Tenant a"]));
    desk.write("new/sub/b.yaml", &tenant("b", "B"));
    assert_eq!(told(&folder.next().await.unwrap(), desk.dir.path()), put(&["Tenant b"]));
    desk.write("new/sub/b.yaml", &tenant("b", "Another"));
    assert_eq!(told(&folder.next().await.unwrap(), desk.dir.path()), put(&["Tenant b"]));
}

#[tokio::test]
async fn a_watched_folder_survives_that_it_goes_away() {
    let desk = Desk::new();
    desk.write("documents/a.yaml", &tenant("a", "A"));
    let mut folder = Folder::watch(desk.at("documents")).unwrap();
    folder.next().await.unwrap();
    fs::rename(desk.at("documents"), desk.at("elsewhere")).unwrap();
    let gone = folder.next().await.unwrap();
    assert_eq!(told(&gone, desk.dir.path()), broken(&[("documents", None, 1)]));
    desk.write("documents/b.yaml", &tenant("b", "B"));
    let mut back = folder.next().await.unwrap();
    if back.put.is_empty() {
        // The folder was seen before the file in it.
        back = folder.next().await.unwrap();
    }
    assert_eq!(told(&back, desk.dir.path()).put, ["Tenant b"]);
    desk.write("documents/c.yaml", &tenant("c", "C"));
    assert_eq!(told(&folder.next().await.unwrap(), desk.dir.path()).put, ["Tenant c"]);
}

#[tokio::test]
async fn a_key_set_outside_the_folder_is_watched_too() {
    let desk = Desk::new();
    let outside = Desk::new();
    let keys = outside.at("keys.json");
    outside.write("keys.json", "one");
    desk.write("i.yaml", &identity(&keys.display().to_string()));
    let mut folder = Folder::watch(desk.dir.path()).unwrap();
    folder.next().await.unwrap();
    outside.write("keys.json", "two");
    let offer = folder.next().await.unwrap();
    assert_eq!(told(&offer, desk.dir.path()).files, [(keys.display().to_string(), Some("two".to_owned()))]);
}

#[test]
fn a_document_deleted_beside_a_mistake_goes_when_the_mistake_does() {
    let mut desk = Desk::new();
    desk.write("all.yaml", &format!("{}---\n{}", tenant("a", "A"), role("r")));
    desk.read();
    desk.write("all.yaml", &format!("{}colour: blue\n", tenant("a", "A")));
    assert_eq!(desk.read(), broken(&[("all.yaml", Some("Role r"), 1), ("all.yaml", Some("Tenant a"), 1)]));
    desk.write("all.yaml", &tenant("a", "A"));
    assert_eq!(desk.read(), Told { put: vec!["Tenant a".to_owned()], ..removed(&["Role r"]) });
}

#[tokio::test]
async fn a_watched_folder_follows_the_link_that_kubernetes_swaps() {
    let desk = Desk::new();
    desk.write("..2026_1/a.yaml", &tenant("a", "Old"));
    desk.write("..2026_2/a.yaml", &tenant("a", "New"));
    symlink("..2026_1", desk.at("..data")).unwrap();
    symlink("..data/a.yaml", desk.at("a.yaml")).unwrap();
    let mut folder = Folder::watch(desk.dir.path()).unwrap();
    folder.next().await.unwrap();
    symlink("..2026_2", desk.at("..data_tmp")).unwrap();
    fs::rename(desk.at("..data_tmp"), desk.at("..data")).unwrap();
    assert!(folder.next().await.unwrap().put[0].text.contains("New"));
}

#[tokio::test]
async fn a_watched_folder_may_be_a_link_that_is_swapped() {
    let desk = Desk::new();
    desk.write("releases/1/a.yaml", &tenant("a", "Old"));
    desk.write("releases/2/a.yaml", &tenant("a", "New"));
    symlink("releases/1", desk.at("documents")).unwrap();
    let mut folder = Folder::watch(desk.at("documents")).unwrap();
    folder.next().await.unwrap();
    symlink("releases/2", desk.at("next")).unwrap();
    fs::rename(desk.at("next"), desk.at("documents")).unwrap();
    assert!(folder.next().await.unwrap().put[0].text.contains("New"));
    desk.write("releases/2/a.yaml", &tenant("a", "Newer"));
    assert!(folder.next().await.unwrap().put[0].text.contains("Newer"));
}
