//! From one schema of the tables to the next, all steps in one commit: a store is of the old schema or of the new one, never between.

use super::fault::Fault;
use super::file::Disk;
use super::lock::Lock;
use super::open::{self, OWNER_ONLY, OpenError, SCHEMA_NOW};
use super::rows::{META, SCHEMA};
use redb::{ReadableDatabase as _, WriteTransaction};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every step there is, oldest first. The first schema that was released is 1: nothing leads to it.
const STEPS: &[Migration] = &[];

/// How a store gets from one schema to the one after it.
struct Migration {
    from: u64,
    /// What it does, for whoever decides about it.
    what: &'static str,
    run: fn(&WriteTransaction) -> Result<(), Fault>,
}

/// What a migration does, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The schema the store had.
    pub from: u64,
    /// The schema of this version.
    pub to: u64,
    /// From one to the other; none when they are the same.
    pub steps: Vec<Step>,
    /// Where the store is kept as it was; none for a dry run, or when there was nothing to do.
    pub kept: Option<PathBuf>,
}

/// From one schema to the one after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The schema before.
    pub from: u64,
    /// What it does.
    pub what: String,
}

/// Brings the store at `path` to the schema of this version; with `dry_run` every step is done and undone.
pub(super) fn migrate(path: &Path, dry_run: bool) -> Result<Plan, OpenError> {
    migrate_by(STEPS, SCHEMA_NOW, path, dry_run)
}

fn migrate_by(all: &[Migration], to: u64, path: &Path, dry_run: bool) -> Result<Plan, OpenError> {
    let _lock = Lock::take(path)?;
    let database = open::database(path, &Arc::new(Disk::default()))?;
    let txn = database.begin_read().map_err(|error| open::damaged(path, error.to_string()))?;
    let from = open::schema(path, &txn)?;
    drop(txn);
    let steps = way(all, from, to).ok_or_else(|| OpenError::Newer { file: path.to_owned(), found: from })?;
    let told = steps.iter().map(|step| Step { from: step.from, what: step.what.to_owned() }).collect();
    let mut plan = Plan { from, to, steps: told, kept: None };
    if steps.is_empty() {
        return Ok(plan);
    }
    let refused = |fault| open::not_written(path, fault);
    if dry_run {
        let txn = database.begin_write().map_err(|error| refused(error.into()))?;
        run(&txn, &steps, to).map_err(refused)?;
        txn.abort().map_err(|error| refused(error.into()))?;
    } else {
        plan.kept = Some(keep(path, from)?);
        open::commit(&database, |txn| run(txn, &steps, to)).map_err(refused)?;
    }
    database.close().map_err(|error| open::told(path, error))?;
    Ok(plan)
}

/// The steps from one schema to another; none when no way is known.
fn way(all: &[Migration], from: u64, to: u64) -> Option<Vec<&Migration>> {
    (from..to).map(|schema| all.iter().find(|step| step.from == schema)).collect::<Option<Vec<_>>>().filter(|_| from <= to)
}

fn run(txn: &WriteTransaction, steps: &[&Migration], to: u64) -> Result<(), Fault> {
    for step in steps {
        (step.run)(txn)?;
    }
    txn.open_table(META)?.insert(SCHEMA, to)?;
    Ok(())
}

/// A copy of the store as it is, beside it: what the version before can still read.
fn keep(path: &Path, schema: u64) -> Result<PathBuf, OpenError> {
    let copy = open::beside(path, &format!(".schema-{schema}"));
    let copied = std::fs::copy(path, &copy).and_then(|_| std::fs::set_permissions(&copy, Permissions::from_mode(OWNER_ONLY)));
    copied.and_then(|()| std::fs::File::open(&copy)?.sync_all()).map_err(|source| open::system(&copy, source))?;
    Ok(copy)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::embedded::Identity;
    use crate::embedded::rows::{BadRow, CLUSTER, ENTRIES, INCARNATION, KEPT, REVISION, entry_row};
    use crate::{Embedded, Key, Op, Options, Store as _, Txn};
    use redb::{ReadableTable as _, TableDefinition};

    /// As a version before the first one might have had it: entries under another name.
    const OLD: TableDefinition<'_, &str, &str> = TableDefinition::new("documents");

    fn from_nothing(txn: &WriteTransaction) -> Result<(), Fault> {
        let number = |name| Ok::<_, Fault>(txn.open_table(META)?.get(name)?.map_or(0, |number| number.value()));
        let (cluster, incarnation) = (number(CLUSTER)?, number(INCARNATION)?);
        open::lay_tables(txn, Identity { cluster, incarnation })
    }

    fn move_documents(txn: &WriteTransaction) -> Result<(), Fault> {
        let old = txn.open_table(OLD)?;
        let mut entries = txn.open_table(ENTRIES)?;
        for row in old.iter()? {
            let (key, value) = row?;
            let entry = crate::Entry {
                key: Key::from(key.value()),
                value: value.value().to_owned().into(),
                create_revision: crate::Revision::new(1),
                mod_revision: crate::Revision::new(1),
                version: 1,
                lease: None,
            };
            entries.insert(key.value().as_bytes(), entry_row(&entry).as_slice())?;
        }
        drop((old, entries));
        let mut meta = txn.open_table(META)?;
        for name in [REVISION, KEPT] {
            meta.insert(name, 1)?;
        }
        txn.delete_table(OLD)?;
        Ok(())
    }

    const WAY: &[Migration] = &[
        Migration { from: 0, what: "entries get revisions", run: |txn| from_nothing(txn).and_then(|()| move_documents(txn)) },
        Migration { from: 1, what: "of a version to come", run: |_| Ok(()) },
    ];

    fn old_store(path: &Path) {
        drop(Embedded::open(path, Options::default()).unwrap());
        let database = redb::Database::open(path).unwrap();
        let txn = database.begin_write().unwrap();
        txn.delete_table(ENTRIES).unwrap();
        txn.open_table(OLD).unwrap().insert("/tenant/acme", "kept").unwrap();
        txn.open_table(META).unwrap().insert(SCHEMA, 0).unwrap();
        txn.commit().unwrap();
    }

    #[tokio::test]
    async fn an_older_store_is_told_and_migrated_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        old_store(&path);
        let error = Embedded::open(&path, Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::Older { found: 0, .. }), "{error:?}");
        assert!(error.to_string().contains("bulkhead migrate"), "{error}");

        let planned = migrate_by(WAY, 1, &path, true).unwrap();
        assert_eq!((planned.from, planned.to, planned.steps.len(), &planned.kept), (0, 1, 1, &None));
        assert!(Embedded::open(&path, Options::default()).is_err(), "a dry run changes nothing");

        let done = migrate_by(WAY, 1, &path, false).unwrap();
        assert_eq!(done.steps, planned.steps);
        let store = Embedded::open(&path, Options::default()).unwrap();
        let entry = store.get(Key::from("/tenant/acme")).await.unwrap().unwrap();
        assert_eq!(entry.value, "kept");
        store.txn(Txn::new().then(Op::put("/tenant/acme", "new"))).await.unwrap();
        drop(store);
        // What was there before can go back to where it was.
        let kept = redb::Database::open(done.kept.unwrap()).unwrap();
        assert_eq!(kept.begin_read().unwrap().open_table(OLD).unwrap().get("/tenant/acme").unwrap().unwrap().value(), "kept");
        // Once more there is nothing to do.
        assert_eq!(Embedded::migrate(&path, false).unwrap(), Plan { from: 1, to: 1, steps: Vec::new(), kept: None });
    }

    #[test]
    fn a_step_that_fails_leaves_the_store_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        old_store(&path);
        let failing = [
            Migration { from: 0, what: "half", run: from_nothing },
            Migration { from: 1, what: "fails", run: |_| Err(BadRow("a row that no version wrote").into()) },
        ];
        for dry_run in [true, false] {
            let error = migrate_by(&failing, 2, &path, dry_run).unwrap_err();
            assert!(error.to_string().contains("a row that no version wrote"), "{error}");
        }
        assert_eq!(migrate_by(WAY, 1, &path, false).unwrap().from, 0);
        drop(Embedded::open(&path, Options::default()).unwrap());
    }

    #[test]
    fn a_newer_store_or_one_with_no_way_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        drop(Embedded::open(&path, Options::default()).unwrap());
        migrate_by(WAY, 2, &path, false).unwrap();
        let error = Embedded::open(&path, Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error:?}");
        assert!(matches!(Embedded::migrate(&path, false).unwrap_err(), OpenError::Newer { found: 2, .. }));
    }
}
