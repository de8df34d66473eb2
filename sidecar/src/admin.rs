//! The admin socket: status, configuration, explanations, drain.
