//! The messages of the protocol, field by field as BuildKit's and fsutil's `.proto` files number them. Written by hand rather than
//! generated: of some four hundred messages the product speaks sixty, so that neither protoc nor a generator has to stand on a
//! machine that builds this, and what isn't listed here is skipped while decoding. Knows nothing of what they mean.

pub mod content;
pub mod control;
pub mod fsutil;
pub mod gateway;
pub mod ops;
pub mod rpc;
pub mod session;
