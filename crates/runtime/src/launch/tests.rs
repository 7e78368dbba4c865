//! Starts real processes; needs root.
