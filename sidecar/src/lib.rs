//! The data plane: one sidecar in front of one service.
