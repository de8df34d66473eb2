//! `bulkhead schema`.

use crate::support::Home;
use std::path::Path;

#[test]
fn each_kind_has_the_schema_that_is_published() {
    let home = Home::new();
    assert_eq!(home.bulkhead(&["schema", "--all", "schemas"]).code, 0);
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/schema");
    for file in std::fs::read_dir(home.path("schemas")).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, std::fs::read_to_string(published.join(file.file_name())).unwrap(), "{file:?}");
        let kind = file.file_name().into_string().unwrap().replace(".schema.json", "");
        assert_eq!(home.bulkhead(&["schema", &kind]).stdout, text, "{kind}");
    }
}

#[test]
fn a_misspelt_kind_is_answered_with_the_nearest() {
    for (written, near) in [("rol", "Role"), ("tennant", "Tenant"), ("RoleBindng", "RoleBinding")] {
        let said = Home::new().bulkhead(&["schema", written]);
        assert_eq!(said.code, 2);
        assert!(said.stderr.contains(&format!("a similar value exists: '{near}'")), "{said:?}");
    }
}
