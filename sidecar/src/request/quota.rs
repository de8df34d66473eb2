//! Quota: takes one request out of the limits of tenant, user and address, or refuses it.
