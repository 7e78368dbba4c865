//! `inspect`: what the engine knows of objects, in its own words or through a template.

use corten_api::client::{self, Client};
use serde::Serialize;

use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
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
    async fn fetch(self, client: &Client, name: &str, size: bool) -> Result<String, client::Error> {
        let raw = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Type::Container => Ok(raw(&client.container_inspect_response(name, size).await?.bytes().await?)),
            Type::Image => Ok(raw(&client.image_inspect_response(name).await?.bytes().await?)),
            Type::Network => written(&client.network_inspect(name).await?),
            Type::Volume => written(&client.volume_inspect(name).await?),
        }
    }
}

fn written(object: &impl Serialize) -> Result<String, client::Error> {
    serde_json::to_string(object)
        .map_err(|source| client::Error::Encode { path: "inspect".to_owned(), source })
}

#[derive(Clone, Debug, clap::Args)]
pub struct Inspect {
    /// Format output: 'json' or a Go TEMPLATE
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
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
                    .exit(EXIT_ENGINE)
            })?],
        };
        inspect(context, &types, &self.names, &self.format, self.size)
    }
}

/// `container inspect`, `image inspect` and the like: one type, known beforehand.
macro_rules! inspect_one_type {
    ($verb:ident, $kind:expr, $about:literal, $usage:literal) => {
        #[derive(Clone, Debug, clap::Args)]
        pub struct $verb {
            /// Format output: 'json' or a Go TEMPLATE
            #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
            format: String,
            /// Display total file sizes (containers), verbose diagnostics (networks)
            #[arg(short, long, short_alias = 'v', alias = "verbose")]
            size: bool,
            #[arg(required = true, value_name = "NAME|ID")]
            names: Vec<String>,
        }

        impl Verb for $verb {
            const ABOUT: &'static str = $about;
            const USAGE: &'static str = $usage;

            fn run(self, context: &Context) -> Outcome {
                inspect(context, &[$kind], &self.names, &self.format, self.size)
            }
        }
    };
}

inspect_one_type!(
    InspectContainer,
    Type::Container,
    "Display detailed information on one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]"
);
inspect_one_type!(
    InspectImage,
    Type::Image,
    "Display detailed information on one or more images",
    "[OPTIONS] IMAGE [IMAGE...]"
);
inspect_one_type!(
    InspectNetwork,
    Type::Network,
    "Display detailed information on one or more networks",
    "[OPTIONS] NETWORK [NETWORK...]"
);
inspect_one_type!(
    InspectVolume,
    Type::Volume,
    "Display detailed information on one or more volumes",
    "[OPTIONS] VOLUME [VOLUME...]"
);

fn inspect(context: &Context, types: &[Type], names: &[String], format: &str, size: bool) -> Outcome {
    // A template that can't be parsed is refused before anything is asked.
    if !matches!(format, "" | "json") {
        Template::parse(format).map_err(|error| Failure::from(error).exit(64))?;
    }
    let client = context.client()?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match context.block_on(find(&client, types, name, size))? {
            Ok(object) => found.push(object),
            Err(failure) if failure.no_engine => return Err(failure),
            Err(failure) => failures.push(failure),
        }
    }
    match format {
        "" => output::line(&json::indent(&format!("[{}]", found.join(","))))?,
        "json" => output::line(&json::compact(&format!("[{}]", found.join(","))))?,
        template => {
            for object in &found {
                let value =
                    Value::from_json(object.as_bytes()).map_err(|error| Failure::new(error.to_string()))?;
                output::print(&listing::render_one(template, &value)?)?;
            }
        }
    }
    failures.iter().for_each(Failure::report);
    Ok(u8::from(!failures.is_empty()))
}

async fn find(client: &Client, types: &[Type], name: &str, size: bool) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::new("the name is empty"));
    }
    for kind in types {
        match kind.fetch(client, name, size).await {
            Err(error) if error.is_not_found() && types.len() > 1 => {}
            other => return Ok(other?),
        }
    }
    Err(Failure::new(format!("No such object: {name}")))
}
