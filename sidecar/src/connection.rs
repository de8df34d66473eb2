//! Connections: once each, from the accepted socket to its last byte.
