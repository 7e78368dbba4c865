//! `rmi`: removes names of images, and images without a name left.

use corten_api::image::ImageRemoveOptions;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variants (os[/arch[/variant]])
    #[arg(long, value_delimiter = ',')]
    platform: Vec<String>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Remove one or more images";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";

    fn run(self, context: &Context) -> Outcome {
        let platforms = self.platform.iter().map(|text| super::platform(text)).collect::<Result<_, _>>()?;
        let options = ImageRemoveOptions { force: self.force, noprune: self.no_prune, platforms };
        let client = context.client()?;
        let mut status = 0;
        // One after the other: removing an image may take the parents of the next along.
        for image in &self.images {
            match context.block_on(client.image_remove(image, options.clone()))? {
                Ok(removed) => {
                    for item in removed {
                        if !item.untagged.is_empty() {
                            output::line(&format!("Untagged: {}", item.untagged))?;
                        }
                        if !item.deleted.is_empty() {
                            output::line(&format!("Deleted: {}", item.deleted))?;
                        }
                    }
                }
                Err(error) => {
                    if !(self.force && error.is_not_found()) {
                        status = 1;
                    }
                    let failure = Failure::from(error);
                    if failure.is_for_another_try() {
                        return Err(failure);
                    }
                    failure.report();
                }
            }
        }
        Ok(status)
    }
}
