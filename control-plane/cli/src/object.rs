//! Documents on the command line: `role auditor --tenant acme_corp`, in the words of the API.

use bulkhead_config::declared::Kind;
use bulkhead_config::name::{DocumentName, TenantId};
use bulkhead_server::operation::plural;

/// One document.
#[derive(Debug, clap::Args)]
pub(crate) struct Object {
    /// Its kind: tenant, plan, service, identity, role, role-binding, quota-policy, security-policy, cache-policy
    #[arg(value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Kind,
    /// Its name; of a tenant its id
    #[arg(value_name = "NAME")]
    pub(crate) name: DocumentName,
    /// The tenant it belongs to; left out: it is platform-wide
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
}

impl Object {
    /// Where the API has it.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", collection(self.kind, self.tenant.as_ref()), self.name)
    }
}

/// Where the API has the documents of a kind.
pub(crate) fn collection(kind: Kind, tenant: Option<&TenantId>) -> String {
    match tenant {
        Some(tenant) if !kind.is_platform_wide() => format!("/v1/tenants/{tenant}/{}", plural(kind)),
        _ => format!("/v1/{}", plural(kind)),
    }
}

/// A kind as people write it: `role`, `Role`, `roles`, `role-bindings`, `RoleBinding`.
pub(crate) fn kind(text: &str) -> Result<Kind, String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(text);
    let found = Kind::ALL.into_iter().find(|kind| plain(kind.as_str()) == wanted || plain(plural(*kind)) == wanted);
    found.ok_or_else(|| {
        let near = bulkhead_config::diagnostic::nearest(text, Kind::ALL.map(plural));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("there is no such kind{near}; there are {}", Kind::ALL.map(plural).join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_however_it_is_written() {
        for text in ["RoleBinding", "rolebinding", "role-bindings", "role_binding", "ROLE-BINDING"] {
            assert_eq!(kind(text), Ok(Kind::RoleBinding), "{text}");
        }
        assert!(kind("rolls").is_err_and(|why| why.contains("`roles`")));
    }
}
