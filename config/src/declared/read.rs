//! Reading documents from a file, and the tools the readers of all kinds share.
