//! Real containers through the zygote and its monitors. Needs root.

mod fixture;
mod lifecycle;
mod logging;
mod memory;
mod streams;
