//! Starts a container: one clone3, whose child applies the plan and execs.
