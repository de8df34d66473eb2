//! A decision in words: the rule that decided, or up to three nearest misses. For the CLI, the admin socket and tests.
