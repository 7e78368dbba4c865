//! `port`: where a container's ports are published.

use corten_api::network::PortMap;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::natural;
use crate::format::ports::host_port;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Port {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Verb for Port {
    const ABOUT: &'static str = "List port mappings or a specific mapping for the container";
    const USAGE: &'static str = "CONTAINER [PRIVATE_PORT[/PROTO]]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let container = context.block_on(client.container_inspect(&self.container, false))??;
        let ports = &container.network_settings.ports;
        match &self.port {
            None => output::print(&all(ports))?,
            Some(port) => {
                let port = with_protocol(port)?;
                let Some(text) = one(ports, &port) else {
                    return Err(Failure::new(format!("{}: port {port} is not published", self.container))
                        .hint(format!("`corten port {}` lists what is", self.container)));
                };
                output::print(&text)?;
            }
        }
        Ok(0)
    }
}

fn with_protocol(text: &str) -> Result<String, Failure> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match port.parse::<u16>() {
        Ok(port) => Ok(format!("{port}/{protocol}")),
        Err(_) => Err(Failure::new(format!("{text:?} is no port"))),
    }
}

fn one(ports: &PortMap, port: &str) -> Option<String> {
    let bindings = ports.get(port).filter(|bindings| !bindings.is_empty())?;
    Some(
        bindings
            .iter()
            .map(|binding| format!("{}\n", host_port(&binding.host_ip, &binding.host_port)))
            .collect(),
    )
}

fn all(ports: &PortMap) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (port, bindings) in ports.iter() {
        for binding in bindings {
            lines.push(format!("{port} -> {}\n", host_port(&binding.host_ip, &binding.host_port)));
        }
    }
    lines.sort_by(|a, b| natural::compare(a, b));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::network::PortBinding;

    #[test]
    fn published_ports() {
        let mut ports = PortMap::default();
        let binding = |ip: &str, port: &str| PortBinding { host_ip: ip.into(), host_port: port.into() };
        ports.insert("80/tcp".into(), vec![binding("0.0.0.0", "8080"), binding("::", "8080")].into());
        ports.insert("9/udp".into(), vec![binding("127.0.0.1", "9")].into());
        ports.insert("443/tcp".into(), corten_api::List::default());
        assert_eq!(all(&ports), "9/udp -> 127.0.0.1:9\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
        assert_eq!(one(&ports, "80/tcp").unwrap(), "0.0.0.0:8080\n[::]:8080\n");
        assert_eq!(one(&ports, "443/tcp"), None);
    }
}
