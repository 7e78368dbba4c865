//! Log files of a container: bounded, in two formats.
