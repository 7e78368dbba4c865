//! `inspect`: what the engine knows of objects, in its own words or through a template.

use corten_api::client::{self, Client};
use serde::Serialize;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::format::template::{Template, Value};
use crate::format::{json, listing};
use crate::output;

/// Kinds of objects, in the order in which a name without `--type` is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Container,
    Image,
    Network,
    Volume,
}

const TYPES: [Type; 4] = [Type::Container, Type::Image, Type::Network, Type::Volume];

impl Type {
    fn parse(text: &str) -> Option<Type> {
        TYPES.into_iter().find(|kind| kind.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Type::Container => "container",
            Type::Image => "image",
            Type::Network => "network",
            Type::Volume => "volume",
        }
    }

    /// The object as JSON, as the engine sent it where it keeps an order of its own.
    async fn fetch(self, client: &Client, name: &str, wish: &Wish<'_>) -> Result<String, client::Error> {
        let raw = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Type::Container => {
                Ok(raw(&client.container_inspect_response(name, wish.size).await?.bytes().await?))
            }
            Type::Image => {
                Ok(raw(&client.image_inspect_response(name, wish.platform).await?.bytes().await?))
            }
            Type::Network => written(&client.network_inspect(name).await?),
            Type::Volume => written(&client.volume_inspect(name).await?),
        }
    }
}

/// What is asked for beside the object itself.
#[derive(Clone, Copy, Debug, Default)]
struct Wish<'a> {
    /// Of containers: the sizes of their files.
    size: bool,
    /// Of images: which one of several, as JSON.
    platform: Option<&'a str>,
}

fn written(object: &impl Serialize) -> Result<String, client::Error> {
    serde_json::to_string(object)
        .map_err(|source| client::Error::Encode { path: "inspect".to_owned(), source })
}

/// What every `inspect` takes.
#[derive(Clone, Debug, clap::Args)]
struct Objects {
    /// Format output: 'json' or a Go TEMPLATE
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Inspect {
    #[command(flatten)]
    objects: Objects,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
}

impl Verb for Inspect {
    const ABOUT: &'static str = "Return low-level information on objects";
    const USAGE: &'static str = "[OPTIONS] NAME|ID [NAME|ID...]";

    fn run(self, context: &Context) -> Outcome {
        let types = match self.kind.as_str() {
            "" => TYPES.to_vec(),
            kind => vec![Type::parse(kind).ok_or_else(|| {
                Failure::new(format!("there is no type {kind:?}"))
                    .hint("the types are container, image, network and volume")
            })?],
        };
        self.objects.show(context, &types, Wish { size: self.size, ..Wish::default() })
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct InspectContainer {
    #[command(flatten)]
    objects: Objects,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

impl Verb for InspectContainer {
    const ABOUT: &'static str = "Display detailed information on one or more containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        self.objects.show(context, &[Type::Container], Wish { size: self.size, ..Wish::default() })
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct InspectImage {
    #[command(flatten)]
    objects: Objects,
    /// Inspect a specific platform of the image (os[/arch[/variant]])
    #[arg(long)]
    platform: Option<String>,
}

impl Verb for InspectImage {
    const ABOUT: &'static str = "Display detailed information on one or more images";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";

    fn run(self, context: &Context) -> Outcome {
        let platform = self.platform.as_deref().map(super::image::platform_json).transpose()?;
        self.objects.show(context, &[Type::Image], Wish { platform: platform.as_deref(), ..Wish::default() })
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct InspectNetwork {
    #[command(flatten)]
    objects: Objects,
    /// Verbose output for diagnostics: of Swarm's services, so that there is nothing more here
    #[arg(short, long)]
    verbose: bool,
}

impl Verb for InspectNetwork {
    const ABOUT: &'static str = "Display detailed information on one or more networks";
    const USAGE: &'static str = "[OPTIONS] NETWORK [NETWORK...]";

    fn run(self, context: &Context) -> Outcome {
        self.objects.show(context, &[Type::Network], Wish::default())
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct InspectVolume {
    #[command(flatten)]
    objects: Objects,
}

impl Verb for InspectVolume {
    const ABOUT: &'static str = "Display detailed information on one or more volumes";
    const USAGE: &'static str = "[OPTIONS] VOLUME [VOLUME...]";

    fn run(self, context: &Context) -> Outcome {
        self.objects.show(context, &[Type::Volume], Wish::default())
    }
}

impl Objects {
    fn show(&self, context: &Context, types: &[Type], wish: Wish<'_>) -> Outcome {
        // A template that can't be parsed is refused before anything is asked.
        if !matches!(self.format.as_str(), "" | "json") {
            Template::parse(&self.format).map_err(|error| Failure::from(error).exit(64))?;
        }
        let client = context.client()?;
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for name in &self.names {
            match context.block_on(find(&client, types, name, &wish))? {
                Ok(object) => found.push(object),
                Err(failure) if failure.is_for_another_try() => return Err(failure),
                Err(failure) => failures.push(failure),
            }
        }
        match self.format.as_str() {
            "" => output::line(&json::indent(&format!("[{}]", found.join(","))))?,
            "json" => output::line(&json::compact(&format!("[{}]", found.join(","))))?,
            template => {
                for object in &found {
                    let mut value = Value::from_json(object.as_bytes())
                        .map_err(|error| Failure::new(error.to_string()))?;
                    add_old_addresses(&mut value);
                    output::print(&listing::render_one(template, &value)?)?;
                }
            }
        }
        failures.iter().for_each(Failure::report);
        Ok(u8::from(!failures.is_empty()))
    }
}

/// The addresses in the default network under the names that scripts have used for ten years: since 1.52 the API tells them by
/// network only.
fn add_old_addresses(object: &mut Value) {
    let Value::Object(object) = object else { return };
    let settings = object.fields.iter_mut().find(|(name, _)| name == "NetworkSettings");
    let Some((_, Value::Object(settings))) = settings else { return };
    let place = match settings.get("Networks") {
        Some(Value::Object(networks)) => networks.get("bridge").cloned(),
        _ => None,
    };
    let told = |name: &str| match &place {
        Some(Value::Object(place)) => place.get(name).cloned(),
        _ => None,
    };
    for (name, unset) in [
        ("EndpointID", Value::from("")),
        ("Gateway", "".into()),
        ("GlobalIPv6Address", "".into()),
        ("GlobalIPv6PrefixLen", Value::Int(0)),
        ("IPAddress", "".into()),
        ("IPPrefixLen", Value::Int(0)),
        ("IPv6Gateway", "".into()),
        ("MacAddress", "".into()),
    ] {
        if settings.get(name).is_none() {
            let value = told(name).unwrap_or(unset);
            settings.fields.push((name.to_owned(), value));
        }
    }
}

async fn find(client: &Client, types: &[Type], name: &str, wish: &Wish<'_>) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::new("the name is empty"));
    }
    for kind in types {
        match kind.fetch(client, name, wish).await {
            Err(error) if error.is_not_found() && types.len() > 1 => {}
            other => return Ok(other?),
        }
    }
    Err(Failure::new(format!("No such object: {name}")))
}
