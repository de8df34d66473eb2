//! Settings: `core.yaml` in layers, with the layer that gave each value.
