//! The demo: its documents, and the service behind them. They are what the README, the tests and a newcomer share.

use crate::files::{self, Readers};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

pub(crate) mod service;

/// Where the demo's documents expect the demo service.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4789));

/// The documents, as they ship.
const DOCUMENTS: [(&str, &str); 3] = [
    ("platform.yaml", include_str!("../../../config/samples/platform.yaml")),
    ("tenants/acme_corp.yaml", include_str!("../../../config/samples/tenants/acme_corp.yaml")),
    ("tenants/globex.yaml", include_str!("../../../config/samples/tenants/globex.yaml")),
];

/// Fills a folder with the documents; from then on they are the user's.
pub(crate) fn write_documents(folder: &Path) -> io::Result<()> {
    for (name, text) in DOCUMENTS {
        let path = folder.join(name);
        files::make_private_dir(path.parent().unwrap_or(folder))?;
        files::replace(&path, text.as_bytes(), Readers::Anyone)?;
    }
    Ok(())
}
