//! One sidecar process over real sockets: one module per behaviour.

mod crashes;
mod conditions;
mod control_plane;
mod credentials;
mod decisions;
mod drain;
mod forwarding;
mod framing;
mod grpc;
mod hand_over;
mod hostile;
mod hot_swap;
mod http2;
mod http2_floods;
mod identity;
mod introspection;
mod jwks;
mod jwt_table;
mod kept_apart;
mod load;
mod many_tenants;
mod observed;
mod proxy_protocol;
mod quotas;
mod security;
mod shadow;
mod streams;
mod tls;
mod up;
mod upstream;
mod upstream_table;
mod upstream_tls;
mod websocket;

/// A file that is not listed above would never run.
#[test]
fn every_file_is_a_module() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sidecar");
    let listed = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || listed.contains(&format!("mod {module};")), "{name} is not listed in main.rs");
    }
}
