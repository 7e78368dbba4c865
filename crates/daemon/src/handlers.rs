//! What each endpoint does: read the request's parameters, call the engine, write its answer. One file per noun.

pub mod build;
pub mod builder;
pub mod containers;
pub mod exec;
pub mod files;
pub mod images;
pub mod networks;
pub mod own;
pub mod resources;
pub mod streams;
pub mod system;
pub mod transfer;
pub mod unsupported;
pub mod volumes;
