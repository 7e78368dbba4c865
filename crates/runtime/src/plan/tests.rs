//! What is decided, checked without root.
