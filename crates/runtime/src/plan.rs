//! Decides what has to be done to start a container: pure, printable, testable without root.
