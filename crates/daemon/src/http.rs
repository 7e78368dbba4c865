//! HTTP without the engine: versions, routes, parameters, bodies, errors. What is Docker's in it are facts of its API.

pub mod body;
pub mod call;
pub mod error;
pub mod parameters;
pub mod preface;
pub mod route;
pub mod target;
pub mod version;

pub use body::Body;
pub use call::Call;
pub use error::{ApiError, Reply};
pub use parameters::Parameters;
pub use version::ApiVersion;
