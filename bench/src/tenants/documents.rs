//! Documents of many tenants, as a company with many customers has them: a hundred tenants to a file, the same names of roles
//! for all of them, and what stands in the roles different from one tenant to the next.

use std::fmt::Write as _;

/// Roles, and bindings, of a tenant that has policy of its own.
pub(crate) const ROLES: u32 = 20;
/// Resources of the service; each is listed, and read and written one by one.
const RESOURCES: u32 = 20;
/// Tenants to a file.
const PER_FILE: u32 = 100;

/// One file of documents.
#[derive(Debug, PartialEq)]
pub(crate) struct File {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// What a tenant declares beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Nothing: its plan's counts.
    Shared,
    /// Roles and bindings.
    Own,
}

impl Policy {
    /// How many documents a tenant has.
    pub(crate) fn documents(self) -> u32 {
        match self {
            Policy::Shared => 1,
            Policy::Own => 1 + 2 * ROLES,
        }
    }
}

/// A platform, and so many tenants on it.
pub(crate) fn files(tenants: u32, policy: Policy) -> Vec<File> {
    let numbers: Vec<u32> = (0..tenants).collect();
    let mut files = vec![File { name: "platform.yaml".to_owned(), text: platform() }];
    files.extend(numbers.chunks(PER_FILE as usize).zip(0_u32..).map(|(numbers, file)| {
        let mut text = String::new();
        numbers.iter().for_each(|number| tenant(*number, policy, &mut text));
        File { name: format!("tenants-{file:03}.yaml"), text }
    }));
    files
}

fn platform() -> String {
    let mut text = "kind: Plan\nname: all\ndefault: true\n---\nkind: Service\nname: bench\nlisteners:\n  - { name: http, address: \
                    \"127.0.0.1:0\" }\nupstreams:\n  - { name: app, endpoints: [\"http://127.0.0.1:9\"] }\nroutes:\n"
        .to_owned();
    for resource in 0..RESOURCES {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  - {{ name: list-{resource}, path: /v1/things{resource} }}");
        let _ = writeln!(text, "  - {{ name: one-{resource}, path: \"/v1/things{resource}/{{id}}\" }}");
    }
    text
}

fn tenant(number: u32, policy: Policy, text: &mut String) {
    // Writing to a text cannot fail.
    let _ = write!(text, "---\ntenant_id: t{number}\nname: Tenant {number}\nemail: t{number}@example.com\nhosts: [t{number}.bench]\n");
    if policy == Policy::Own {
        (0..ROLES).for_each(|role| role_with_binding(number, role, text));
    }
}

/// A role of two rules, and the group of the tenant's own that holds it.
fn role_with_binding(tenant: u32, role: u32, text: &mut String) {
    let resource = (tenant + role) % RESOURCES;
    // Writing to a text cannot fail.
    let _ = write!(
        text,
        "---\nkind: Role\ntenant: t{tenant}\nname: role-{role}\nallow:\n  - GET /v1/things{resource}\n  - POST,PUT \
         /v1/things{resource}/{{id}}\n---\nkind: RoleBinding\ntenant: t{tenant}\nname: team-{role}\nrole: role-{role}\nsubjects:\n  - \
         claim: {{ groups: t{tenant}-team-{role} }}\n"
    );
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::compile::Catalogue;
    use bulkhead_config::declared::read_file;
    use bulkhead_config::protocol::{Offer, Put};

    fn offer(files: &[File]) -> Offer {
        let mut put = Vec::new();
        for file in files {
            let read = read_file(&file.name, &file.text);
            assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
            put.extend(read.texts(&file.text).map(|(document, text)| Put { document: document.clone(), text: text.into() }));
        }
        Offer { complete: true, put, ..Offer::default() }
    }

    #[test]
    fn every_tenant_is_served_with_what_it_declares() {
        for (policy, own_roles) in [(Policy::Shared, 0), (Policy::Own, 20)] {
            let files = files(101, policy);
            assert_eq!(files.len(), 3, "a platform, a hundred tenants, and one");
            let offer = offer(&files);
            assert_eq!(offer.put.len(), 2 + 101 * policy.documents() as usize);
            let outcome = Catalogue::new().apply(&offer);
            assert!(outcome.quarantined.is_empty() && outcome.warnings.is_empty(), "{:?} {:?}", outcome.quarantined, outcome.warnings);
            assert_eq!(outcome.snapshot.tenant_count(), 101);
            for tenant in outcome.snapshot.tenants() {
                assert_eq!(tenant.policy().roles().len(), own_roles);
            }
        }
    }

    #[test]
    fn tenants_differ_in_their_rules() {
        let offer = offer(&files(2, Policy::Own));
        let roles: Vec<&str> = offer.put.iter().map(|put| &*put.text).filter(|text| text.contains("name: role-0\n")).collect();
        let [one, other] = roles.as_slice() else { unreachable!("two tenants with a role of that name") };
        assert_ne!(one.split_once("allow:").unwrap().1, other.split_once("allow:").unwrap().1);
    }
}
