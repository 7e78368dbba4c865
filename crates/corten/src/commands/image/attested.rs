//! What came with an image: statements of its builder, from the index that it was pulled or made with.

use corten_api::client::Query;
use corten_api::image::AttestationStatement;
use serde_json::Value;

use crate::cli::{Context, Failure};
use crate::output;

/// The statements of an image whose predicates are of these kinds; the beginnings of their URIs are looked at. At least one.
pub fn statements(
    context: &Context,
    image: &str,
    platform: Option<&str>,
    (what, kinds): (&str, &[&str]),
) -> Result<Vec<Value>, Failure> {
    let platform = platform.map(super::platform_json).transpose()?;
    let query = Query::new().flag("statement", true).option("platform", platform.as_deref());
    let client = context.client()?;
    let path = format!("/images/{image}/attestations");
    let mut said = context.block_on(async {
        client.get(&path).query(query).send().await?.json::<Vec<AttestationStatement>>().await
    })??;
    said.retain(|one| kinds.iter().any(|kind| one.predicate_type.starts_with(kind)));
    if said.is_empty() {
        return Err(Failure::new(format!("no {what} came with {image}"))
            .hint(format!(
                "its builder has to be asked for it, as by `corten build --{what}`; a pull may not have brought it where the image was here already: remove the image and pull it again"
            )));
    }
    Ok(said.into_iter().filter_map(|one| one.statement).collect())
}

/// Writes a document for people and programs.
pub fn show(document: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Failure::new(format!("cannot write the document: {error}")))?;
    output::line(&text).map_err(Into::into)
}
