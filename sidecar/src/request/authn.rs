//! Authentication: whom a request is proved to come from.
