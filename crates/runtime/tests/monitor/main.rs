//! Real containers through the zygote and its monitors. Needs root.

mod fixture;
mod health;
mod lifecycle;
mod logging;
mod memory;
mod names;
mod streams;
