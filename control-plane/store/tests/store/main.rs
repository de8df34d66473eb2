//! The store: what every engine must do (`conformance`), and what the embedded one must survive.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod conformance;
mod checker;
mod embedded;
mod kill;
mod faults;
mod backups;
mod random;

/// A file that is not listed above would never run.
#[test]
fn every_file_is_a_module() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store");
    for (folder, front) in [(folder.clone(), "main.rs"), (folder.join("conformance"), "../conformance.rs")] {
        let listed = std::fs::read_to_string(folder.join(front)).unwrap();
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else { continue };
            assert!(listed.contains(&format!("mod {module};")), "{name}");
        }
    }
}
