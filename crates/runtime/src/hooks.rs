//! Programs that a configuration wants run around a container's life.
