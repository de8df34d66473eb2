//! The checklist: each MUST of RFC 9112 sections 2 to 7 that concerns a server or an intermediary, and the rows that show it.

use super::row::{self, Row};
use std::collections::HashSet;

/// Rows that the table has at least, so that a file that is no longer read is noticed.
const ROWS_MIN: usize = 250;

/// Every requirement has a row or a reason, every row names requirements that exist, every name stands once.
pub(super) fn check(rows: &[Row]) {
    let mut mistakes = Vec::new();
    let (mut ids, mut gaps) = (HashSet::new(), Vec::new());
    for mut requirement in row::list("rfc9112.yaml") {
        let id = requirement.text("id").expect("a requirement has an id");
        let says = requirement.text("says").unwrap_or_else(|| panic!("{id} says nothing"));
        let because = requirement.text("because");
        requirement.done("rfc9112.yaml");
        let shown = rows.iter().filter(|row| row.rfc.contains(&id)).count();
        match (&because, shown) {
            (None, 0) => mistakes.push(format!("{id} has neither a row nor a reason: {says}")),
            (Some(_), 1..) => mistakes.push(format!("{id} has rows, and a reason why it has none")),
            (Some(because), 0) => gaps.push(format!("{id}: {says}\n    {because}")),
            (None, _) => {}
        }
        if !ids.insert(id.clone()) {
            mistakes.push(format!("{id} stands twice"));
        }
    }
    let mut names = HashSet::new();
    for row in rows {
        mistakes.extend(row.rfc.iter().filter(|id| !ids.contains(*id)).map(|id| format!("{}: no requirement {id}", row.place)));
        if !names.insert(&row.name) {
            mistakes.push(format!("{}: `{}` stands twice", row.place, row.name));
        }
    }
    println!("{} rows, {} requirements; without a row:\n{}", rows.len(), ids.len(), gaps.join("\n"));
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(rows.len() >= ROWS_MIN, "{} rows, {ROWS_MIN} at least", rows.len());
}
