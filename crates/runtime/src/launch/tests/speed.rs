//! How long a start takes; printed, never judged.
