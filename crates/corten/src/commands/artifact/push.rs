//! `artifact push` and `artifact attach`: files to a registry, by a name of their own or as referrers of an image.

use corten_image::Reference;
use corten_image::manifest::{Descriptor, media};

use super::parcel::Contents;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::image::pull::{parse, with_default_tag};
use crate::commands::remote::{Remote, tag_or_digest};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct PushArtifact {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    #[command(flatten)]
    contents: Contents,
}

impl Verb for PushArtifact {
    const ABOUT: &'static str = "Upload files to a registry";
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG] FILE[:TYPE] [FILE[:TYPE]...]";

    fn run(self, context: &Context) -> Outcome {
        let name = with_default_tag(parse(&self.name)?)?;
        if name.digest().is_some() {
            return Err(Failure::new("files are pushed by a tag: their digest comes of them"));
        }
        let parcel = self.contents.parcel()?;
        let remote = Remote::of(context, &name, self.insecure)?;
        let target = remote.repository(&name)?;
        let (descriptor, bytes) = parcel.manifest(None);
        context.block_on(async {
            parcel.send(&target).await?;
            target.put_manifest(&tag_or_digest(&name), media::OCI_MANIFEST, bytes.into()).await?;
            Ok::<_, Failure>(())
        })??;
        told(&name, &descriptor)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Attach {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    contents: Contents,
}

impl Verb for Attach {
    const ABOUT: &'static str = "Attach files to an image of a registry";
    const USAGE: &'static str = "[OPTIONS] IMAGE FILE[:TYPE] [FILE[:TYPE]...]";

    fn run(self, context: &Context) -> Outcome {
        let image = with_default_tag(parse(&self.image)?)?;
        let parcel = self.contents.parcel()?;
        let remote = Remote::of(context, &image, self.insecure)?;
        let descriptor = context.block_on(async {
            let (target, subject) = remote.document(&image).await?;
            let subject = Descriptor::of(&subject.media_type, &subject.bytes);
            let (descriptor, bytes) = parcel.manifest(Some(&subject));
            parcel.send(&target).await?;
            target.put_referrer(&descriptor, bytes.into(), &subject.digest).await?;
            Ok::<_, Failure>(descriptor)
        })??;
        told(&image, &descriptor)
    }
}

/// Says how what was sent is called for good.
fn told(name: &Reference, descriptor: &Descriptor) -> Outcome {
    output::line(&name.with_digest(descriptor.digest).familiar())?;
    Ok(0)
}
