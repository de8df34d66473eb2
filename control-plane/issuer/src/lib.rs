//! The demo's token issuer: an Ed25519 key, and what tokens it signs say. No I/O, no clock: callers bring the key's text and the time.
//!
//! Tokens are JWTs (RFC 7519) signed with EdDSA (RFC 8037); the key's id is its thumbprint (RFC 7638), so that a token
//! signed with another directory's key is refused for its `kid` and not for a signature that looks broken.

mod claims;
mod key;

pub use claims::{Claims, object, replace};
pub use key::Key;

/// `iss` of its tokens, as the demo's documents name it.
pub const ISSUER: &str = "https://issuer.bulkhead.localhost";
/// `aud` of its tokens.
pub const AUDIENCE: &str = "demo";
